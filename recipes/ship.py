"""Put a run's network into the box: python recipes/ship.py RUN NAME [--integers]

As in runs/vit-emoji-box emoji/vit-nano. Writes `src/vitrail/box/NAME.safetensors` in bfloat16, or with large weights as
8-bit integers, with the recipe and the licence in its header. The card beside it, `NAME.md`, is written by hand: what
it is good for, its scores and whose pictures it learned from.
"""

import sys
from pathlib import Path

import torch

import vitrail
from vitrail.checkpoints.box import BOX
from vitrail.training.run import RunFolder

LICENCE = "Apache-2.0"
MOST_BYTES = 12_000_000  # what a family may weigh in the box


def main() -> None:
    """Ship what the command line names."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--integers"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    run, name = RunFolder(Path(arguments[0])), arguments[1]
    integers = "--integers" in sys.argv
    model = vitrail.load(str(run.model), device="cpu", engine="eager").to(torch.float32 if integers else torch.bfloat16)
    path = BOX / f"{name}.safetensors"
    notes = {"licence": LICENCE, "recipe": run.recipe.read_text(encoding="utf-8"), "card": f"{path.stem}.md"}
    path.unlink(missing_ok=True)
    vitrail.save(model, path, layout="vitrail", notes=notes, integers=integers)
    size = path.stat().st_size
    if size > MOST_BYTES:
        path.unlink()
        sys.exit(f"{name} would weigh {size / 1e6:.1f} MB, more than the {MOST_BYTES / 1e6:.0f} there is room for")
    if not path.with_suffix(".md").is_file():
        print(f"now write its card, {path.with_suffix('.md')}")
    print(f"{path}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
