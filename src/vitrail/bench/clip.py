"""CLIP ViT-B/32, from picture files to vectors, and from token ids, beside open_clip."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.bench.contender import Contender, Ready, import_library
from vitrail.bench.contest import Work
from vitrail.bench.ours import contenders, every_engine
from vitrail.bench.pictures import write_photographs
from vitrail.bench.weights import SEED, randomise
from vitrail.checkpoints.load import load
from vitrail.checkpoints.save import save
from vitrail.imaging.preprocess import standard
from vitrail.models.clip import CLIP, CLIPConfig, CLIPImageConfig
from vitrail.tasks.models import engine_of

BATCH = 32
"""Pictures that go through the networks at once, ours and theirs."""


def works(
    folder: Path,
    engines: Sequence[str],
    config: CLIPConfig | None = None,
    sizes: Sequence[tuple[int, int]] = ((640, 480), (4000, 3000)),
    count: int = BATCH,
) -> list[Work]:
    """What is measured.

    Args:
        folder: where a checkpoint and the pictures are written.
        engines: ours; all that can run it and are quickly made for none.
        config: the network's; ViT-B/32's unless said.
        sizes: (width, height) in pixels of the pictures in each.
        count: how many pictures, and texts.
    """
    config = config or CLIPConfig(CLIPImageConfig(antialias=True))  # as open_clip has it
    model = CLIP(config)
    randomise(model)
    assert isinstance(config.image_size, int)
    model.preprocess = standard(config.image_size, crop_fraction=1.0)
    checkpoint = save(model, folder / "open_clip", layout="open_clip")
    found = []
    for width, height in sizes:
        pictures = write_photographs(folder / f"{width}x{height}", count, (width, height))
        found.append(
            Work(
                f"CLIP ViT-B/32, {count} JPEG files of {width}×{height} to their vectors",
                contenders(engines or every_engine(), ours, checkpoint, pictures),
                (Contender("open_clip float32", partial(by_open_clip, checkpoint, pictures)),),
            )
        )
    texts = Work(
        f"CLIP ViT-B/32, {count} texts to their vectors",
        contenders(engines or every_engine(), our_texts, checkpoint, count),
        (Contender("open_clip float32", partial(open_clip_texts, checkpoint, count)),),
    )
    return [*found, texts]


def ours(checkpoint: Path, pictures: list[Path], engine: str) -> Ready:
    """As `vitrail embed` and `vitrail index` go through a folder."""
    from vitrail.imaging.inputs import find_inputs
    from vitrail.tasks.batches import in_batches

    model = load(str(checkpoint), device="cpu", engine=engine)
    assert isinstance(model, CLIP)

    def run(images: Tensor) -> list[Tensor]:
        return list(model.encode_image(images).float())

    def call() -> Tensor:
        found = in_batches(find_inputs(pictures), model, run, batch_size=BATCH)
        vectors = [vector for _, vector in found if isinstance(vector, Tensor)]
        return torch.stack(vectors)

    return Ready(call, engine_of(model, BATCH))


def by_open_clip(checkpoint: Path, pictures: list[Path]) -> Ready:
    """As open_clip's documentation runs it, a batch at a time."""
    from PIL import Image

    model, transform = _open_clip(checkpoint)

    @torch.inference_mode()
    def call() -> Tensor:
        vectors = []
        for first in range(0, len(pictures), BATCH):
            batch = torch.stack([transform(Image.open(path)) for path in pictures[first : first + BATCH]])
            vectors.append(model.encode_image(batch))
        return torch.cat(vectors)

    return Ready(call)


def our_texts(checkpoint: Path, count: int, engine: str) -> Ready:
    """From token ids, which are made by the same tokenizer everywhere."""
    model = load(str(checkpoint), device="cpu", engine=engine)
    assert isinstance(model, CLIP)
    ids = _texts(count, model.config.text.context, model.config.text.vocabulary)
    return Ready(torch.inference_mode()(lambda: model.encode_text(ids)), engine_of(model))


def open_clip_texts(checkpoint: Path, count: int) -> Ready:
    """As open_clip's documentation runs it, all places filled."""
    model, _ = _open_clip(checkpoint)
    ids = _texts(count, model.context_length, model.vocab_size)
    return Ready(torch.inference_mode()(lambda: model.encode_text(ids)))


def _open_clip(checkpoint: Path) -> tuple[Any, Any]:
    """Its network, and its transform of pictures."""
    open_clip = import_library("open_clip")
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    return model.eval(), transform


def _texts(count: int, context: int, vocabulary: int) -> Tensor:
    """Token ids of short sentences, (count, context): a beginning, seven to fourteen words, an end, and zeros."""
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(1, vocabulary - 2, (count, context), generator=generator)
    ids[:, 0] = vocabulary - 2
    lengths = 8 + torch.arange(count) % 8
    places = torch.arange(context)
    ids[places > lengths[:, None]] = 0
    ids[places == lengths[:, None].clamp(max=context - 1)] = vocabulary - 1
    return ids
