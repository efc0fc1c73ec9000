"""CLIP ViT-B/32: ours beside open_clip and transformers, the same weights, pictures and texts in one run.

    python benchmarks/clip.py [--rounds 5] [--threads 2]

Pictures are prepared and texts are token ids before the clock starts, each library's as its users give them: filled up
to 77 tokens for open_clip and for us, to the longest of the batch with an attention mask for transformers. Rates are of
the best of several turns taken one after the other; the ratio is ours over the faster reference's.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from machine import describe, side_by_side, table
from safetensors.torch import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import conftest  # noqa: F401 - lets open_clip import beside a CPU build of torch
import open_clip
import transformers
from open_clip.push_to_hf_hub import save_config_for_hf

import vitrail

NAME = "ViT-B-32"
BATCHES = (1, 32)
CAPTIONS = [
    f"a {how} of {count} {colour} {thing}"
    for how in ("photo", "drawing")
    for count in ("one", "two")
    for colour in ("red", "green", "bright yellow", "black and white")
    for thing in ("apples on a table", "cats")
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    with tempfile.TemporaryDirectory() as folder:
        reference = open_clip.create_model(NAME).eval()
        theirs = Path(folder, "open_clip")
        theirs.mkdir()
        save_file(reference.state_dict(), theirs / "open_clip_model.safetensors")
        save_config_for_hf(reference, theirs / "open_clip_config.json", open_clip.get_model_config(NAME))
        vitrail.convert(str(theirs), f"{folder}/transformers", layout="transformers")
        rows = []
        for dtype in (torch.float32, torch.bfloat16):
            ours = vitrail.load(str(theirs), dtype=dtype)
            other = transformers.CLIPModel.from_pretrained(f"{folder}/transformers", dtype=dtype).eval()
            reference = reference.to(dtype)
            for batch in BATCHES:
                pictures = torch.randn(batch, 3, 224, 224).to(dtype)
                calls = of_pictures(ours, reference, other, pictures)
                rows.append(["pictures", *measure(calls, dtype, batch, arguments.rounds)])
            for batch in BATCHES:
                calls = of_texts(ours, reference, other, open_clip.get_tokenizer(NAME)(CAPTIONS[:batch]))
                rows.append(["texts", *measure(calls, dtype, batch, arguments.rounds)])
    print(describe() + f", open_clip {open_clip.__version__}, transformers {transformers.__version__}")
    print(f"ours: {ours.origin.engine.partition(' ')[0]}; in one second:\n")
    print(table(["", "dtype", "batch", "vitrail", "open_clip", "transformers", "ratio"], rows))


def of_pictures(ours: nn.Module, theirs: nn.Module, other: nn.Module, pictures: Tensor) -> dict[str, Callable]:
    return {
        "vitrail": lambda: ours.encode_image(pictures),
        "open_clip": lambda: theirs.encode_image(pictures),
        "transformers": lambda: vector(other.get_image_features(pictures)),
    }


def of_texts(ours: nn.Module, theirs: nn.Module, other: nn.Module, ids: Tensor) -> dict[str, Callable]:
    lengths = ids.argmax(1) + 1  # the end of the text has the highest id
    short = ids[:, : int(lengths.max())]
    mask = (torch.arange(short.shape[1]) < lengths[:, None]).long()
    return {
        "vitrail": lambda: ours.encode_text(ids),
        "open_clip": lambda: theirs.encode_text(ids),
        "transformers": lambda: vector(other.get_text_features(short, attention_mask=mask)),
    }


def vector(output: Tensor | transformers.utils.ModelOutput) -> Tensor:
    """What transformers gives: the vectors, or since 5.0 an output that holds them."""
    return output if isinstance(output, Tensor) else output.pooler_output


def measure(calls: dict[str, Callable], dtype: torch.dtype, batch: int, rounds: int) -> list[str]:
    with torch.inference_mode():
        expected = calls["open_clip"]().float()
        for name, call in calls.items():
            wrong = (call().float() - expected).abs().max() / expected.abs().max()
            assert wrong < (1e-4 if dtype == torch.float32 else 5e-2), f"{name} differs by {wrong:.1e}"
        seconds = side_by_side(calls, rounds=rounds)
    ratio = min(seconds["open_clip"], seconds["transformers"]) / seconds["vitrail"]
    rates = [f"{batch / seconds[name]:.3g}" for name in calls]
    return [str(dtype).removeprefix("torch."), str(batch), *rates, f"{ratio:.2f}×"]


if __name__ == "__main__":
    main()
