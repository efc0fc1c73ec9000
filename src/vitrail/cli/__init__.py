"""The command line: a thin door onto tasks/. Nothing heavy is imported before a verb runs."""

import gc
import os
import sys

from vitrail.cli.bench import bench
from vitrail.cli.data import data
from vitrail.cli.door import app
from vitrail.cli.engines import export, tune
from vitrail.cli.imagine import edit, generate
from vitrail.cli.inventory import convert, info, models
from vitrail.cli.options import Verb
from vitrail.cli.search import duplicates, index, search
from vitrail.cli.see import analyze, classify, embed
from vitrail.cli.talk import ask, caption, chat
from vitrail.cli.train import evaluate, finetune, train

__all__ = ["app", "main"]

for verb, examples in (
    (
        classify,
        (
            "vitrail classify cat.jpg",
            "vitrail classify photos/ 'more/*.png' --top 3 --json",
            'vitrail classify cat.jpg -m openai/clip-vit-base-patch32 --labels "a cat" "a dog"',
        ),
    ),
    (embed, ("vitrail embed photos/ -o photos.parquet", "vitrail embed cat.jpg -m facebook/dinov2-small --json")),
    (
        analyze,
        (
            "vitrail analyze cat.jpg",
            "vitrail analyze photos/ -o reports/",
            'vitrail analyze cat.jpg -m openai/clip-vit-base-patch32 --phrase "the cat"',
            'vitrail analyze scene.png --ask "Is there a frog?" --ask "What is on the left?"',
        ),
    ),
    (
        caption,
        (
            "vitrail caption scene.png --language zh",
            "vitrail caption photos/ -m microsoft/git-base-coco --num-beams 3 --json",
        ),
    ),
    (
        ask,
        (
            'vitrail ask scene.png "How many frogs are there?"',
            'vitrail ask photos/ "What is this?" -m microsoft/git-base-vqav2',
            'vitrail ask c.jpg "How many?" --example a.jpg "How many?" 2 -m HuggingFaceM4/idefics-9b-instruct',
        ),
    ),
    (
        chat,
        (
            "vitrail chat scene.png",
            "vitrail chat a.jpg b.jpg -m HuggingFaceTB/SmolVLM-256M-Instruct",
            "vitrail chat scene.png --json < questions.txt",
        ),
    ),
    (
        generate,
        (
            'vitrail generate "a green frog" -o frog.png',
            "vitrail generate --again frog.png --num-steps 50",
            'vitrail generate "a cat" --towards "a dog" --frames 12 -o morph.gif',
            'vitrail generate "一只青蛙" --count 9 --seed 1 --sheet frogs.png',
        ),
    ),
    (
        edit,
        (
            'vitrail edit photo.png "as a drawing" --strength 0.5 -o drawing.png',
            'vitrail edit photo.png "a red apple" --mask mask.png',
            "vitrail edit photo.png --variations 4 --sheet four.png",
        ),
    ),
    (index, ("vitrail index photos/", "vitrail index photos/ --model openai/clip-vit-base-patch32")),
    (
        search,
        (
            "vitrail search 'a red apple' photos/ -o apples.png",
            "vitrail search 'at night' --image query.jpg --path 'holiday/*' --after 2024-05-01",
        ),
    ),
    (duplicates, ("vitrail duplicates photos/", "vitrail duplicates photos/ --threshold 0.98 -o twins.png")),
    (
        finetune,
        (
            "vitrail finetune flowers/ -o flowers-model",
            "vitrail finetune flowers/ -m facebook/dinov2-small --method lora -o flowers-model",
        ),
    ),
    (train, ("vitrail train recipes/vit-emoji.yaml", "vitrail train recipes/vit-emoji.yaml steps=200 model.depth=4")),
    (evaluate, ("vitrail evaluate runs/vit-emoji", "vitrail evaluate runs/vit-emoji --json")),
    (models, ("vitrail models", "vitrail models --json")),
    (info, ("vitrail info efficientnet-lite0", "vitrail info google/vit-base-patch16-224")),
    (bench, ("vitrail bench vit", "vitrail bench clip git --engine auto --engine eager -o results.json")),
    (
        tune,
        (
            "vitrail tune efficientnet-lite0",
            "vitrail tune google/vit-base-patch16-224 --batch 8 --int8 --pictures photos/",
        ),
    ),
    (
        export,
        (
            "vitrail export efficientnet-lite0 lite0-onnx",
            "vitrail export emoji/clip-nano clip --engine openvino --precision float16",
        ),
    ),
    (convert, ("vitrail convert google/vit-base-patch16-224 vit-in-timms-form --layout timm",)),
):
    app.command(cls=Verb, epilog="\b\nExamples:\n  " + "\n  ".join(examples))(verb)  # \b: lines stay as they are

app.add_typer(data, name="data")


def main() -> None:
    """What the console's `vitrail` runs."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its retries are not sentences; what failed is said in one
    gc.set_threshold(50_000, 20, 100)  # importing torch makes 250,000 objects, none of them garbage
    try:
        app(prog_name="vitrail")
    except SystemExit as leaving:
        if leaving.code == 130:  # interrupted: do not wait for threads that are still fetching pictures
            os._exit(130)
        raise
    except Exception as error:
        if os.environ.get("VITRAIL_DEBUG"):
            raise
        print(
            f"Error: something that should not happen: {type(error).__name__}: {error}\n"
            "This is a defect of Vitrail. Please report it with what VITRAIL_DEBUG=1 shows.",
            file=sys.stderr,
        )
        sys.exit(1)
    finally:
        gc.freeze()  # nor need it be looked for in a process that ends
