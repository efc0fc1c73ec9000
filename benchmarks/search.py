"""Search: a million made-up vectors, and a folder of pictures indexed beside the same job written with transformers.

    python benchmarks/search.py vectors [--count 1000000] [--width 256] [--queries 200] [--seed 0]
    python benchmarks/search.py folder [--pictures 5000] [--threads 2] [--seed 0]
    python benchmarks/search.py duplicates [--model efficientnet-lite0] [--examples FOLDER]

`vectors` fills an index with points of a mixture of 2,000 Gaussians whose axes have variances that fall as 1/i, turned
at random and scaled to length 1; what is searched for are further points of the mixture. Recall at 10 is the share of
the ten nearest by exact search that are among the ten found. `folder` makes pictures and a CLIP ViT-B/32 with random
weights, in transformers' form, and has both libraries turn the pictures into vectors on disk. Every step of these runs
in a process of its own, so that its peak memory is its own. `duplicates` changes pictures as duplicates are changed
and compares them with what they were and with each other: those of a folder, or ninths of the examples' photographs.
"""

import argparse
import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, table
from PIL import Image, ImageEnhance

import vitrail
from vitrail.imaging.inputs import find_inputs
from vitrail.imaging.open import open_picture
from vitrail.tasks import index
from vitrail.tasks.changes import PictureFile
from vitrail.tasks.models import get_model, name_of
from vitrail.tasks.store import NAME, PROBES, REFINE, Maker, Row, Seen, Store, require_lancedb

CLUSTERS = 2000
CHUNK = 50_000
EXAMPLES = Path(__file__).parent.parent / "examples"
THRESHOLDS = 0.85, 0.9, 0.95
FILTER = "path LIKE '%7.jpg' AND size >= 1000"  # a tenth of all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["vectors", "folder", "duplicates"])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--model")
    parser.add_argument("--examples", type=Path, help="a folder of pictures, all different")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    parts = {"vectors": measure_vectors, "folder": measure_folder, "duplicates": measure_duplicates}
    with tempfile.TemporaryDirectory() as folder:
        parts[arguments.part](Path(folder), arguments)


def measure_vectors(folder: Path, arguments: argparse.Namespace) -> None:
    count, width, seed = arguments.count, arguments.width, arguments.seed
    built = alone(build, folder, count, width, seed)
    searched = {
        name: alone(search, folder, arguments.queries, width, seed, where, exact)
        for name, where, exact in (
            ("exact", None, True),
            ("approximate", None, False),
            ("exact, a tenth filtered", FILTER, True),
            ("approximate, a tenth filtered", FILTER, False),
        )
    }
    print(f"{describe()}; {count:,} vectors of {width}, seed {seed}, {arguments.queries} queries")
    print(f"{PROBES} cells looked into, {REFINE}-fold refined\n")
    print(f"written in {built['write']:.0f} s, index built in {built['settle']:.0f} s, {built['peak']:.0f} MB at most")
    print(f"on disk: {built['table']:.0f} MB the table, {built['index']:.0f} MB the index\n")
    rows = []
    for name, result in searched.items():
        truth = searched[name.replace("approximate", "exact")]["paths"]
        pairs = zip(result["paths"], truth, strict=True)
        recall = np.mean([len(set(found) & set(expected)) / len(expected) for found, expected in pairs])
        p50, p99 = np.percentile(result["seconds"], [50, 99]) * 1000
        rows.append([name, f"{recall:.3f}", f"{p50:.1f} ms", f"{p99:.1f} ms", f"{result['peak']:.0f} MB"])
    print(table(["search", "recall at 10", "p50", "p99", "peak memory"], rows))


def build(folder: Path, count: int, width: int, seed: int) -> dict[str, float]:
    (folder / NAME).mkdir()
    store = Store.create(folder, Maker("made up", np.eye(1, width, dtype=np.float32)[0]))
    seconds = 0.0
    for first in range(0, count, CHUNK):
        vectors = draw(min(CHUNK, count - first), width, seed, first)
        rows = [
            Row(f"{number % 100}/{number}.jpg", Seen(number, number), f"{number:064x}", 640, 480, vector)
            for number, vector in enumerate(vectors, start=first)
        ]
        start = time.perf_counter()
        store.put(rows, new=True)
        seconds += time.perf_counter() - start
    before = megabytes(folder / NAME / "pictures.lance" / "_indices")
    start = time.perf_counter()
    store.settle()
    return {
        "write": seconds,
        "settle": time.perf_counter() - start,
        "table": megabytes(folder / NAME / "pictures.lance" / "data"),
        "index": megabytes(folder / NAME / "pictures.lance" / "_indices") - before,
        "peak": peak(),
    }


def search(folder: Path, queries: int, width: int, seed: int, where: str | None, exact: bool) -> dict[str, Any]:
    store = Store.open(folder)
    paths, seconds = [], []
    for vector in draw(queries, width, seed, -1):
        start = time.perf_counter()
        near = store.nearest(vector, 10, where, exact=exact)
        seconds.append(time.perf_counter() - start)
        paths.append([one.path for one in near])
    return {"paths": paths, "seconds": seconds, "peak": peak()}


def draw(count: int, width: int, seed: int, part: int) -> np.ndarray:
    """(count, width) float32, of length 1; each part of a seed has other points of the same mixture."""
    dice = np.random.default_rng(seed)
    scale = np.arange(1, width + 1, dtype=np.float32) ** -0.5
    turn = np.linalg.qr(dice.standard_normal((width, width)))[0].astype(np.float32)
    centres = dice.standard_normal((CLUSTERS, width), dtype=np.float32) * scale
    dice = np.random.default_rng([seed, part + 1])
    noise = dice.standard_normal((count, width), dtype=np.float32) * scale
    points = (centres[dice.integers(0, CLUSTERS, count)] + 0.7 * noise) @ turn
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def measure_folder(folder: Path, arguments: argparse.Namespace) -> None:
    model, pictures = folder / "clip", folder / "pictures"
    alone(make_pictures, pictures, arguments.pictures, arguments.seed)
    alone(make_clip, model, arguments.seed)
    theirs = alone(index_with_transformers, model, pictures, arguments.threads)
    ours = alone(index_with_vitrail, model, pictures, arguments.threads)
    cosines = np.sum(theirs.pop("vectors") * ours.pop("vectors"), axis=1)
    print(f"{describe()}; {arguments.pictures:,} JPEGs of 640×480, CLIP ViT-B/32, seed {arguments.seed}")
    print(f"least cosine of their vectors and ours: {cosines.min():.6f}\n")
    parts = ["all", "opening", "preparing", "network", "table", "peak"]
    rows = [
        [name, *(f"{result[part]:.1f}" for part in parts)]
        for name, result in (("vitrail", ours), ("transformers", theirs))
    ]
    rows.append(["ratio", f"{theirs['all'] / ours['all']:.2f}×", *[""] * (len(parts) - 1)])
    print(table(["library", "all, s", "opening, s", "preparing, s", "network, s", "table, s", "peak memory, MB"], rows))
    print(
        "\nSeconds of a part are those of all threads together: ours opens and prepares on several, beside the network."
    )


def index_with_transformers(model: Path, pictures: Path, threads: int) -> dict[str, Any]:
    """The obvious way: one picture after the other, and a list of vectors."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import conftest  # noqa: F401 - lets transformers import beside a CPU build of torch
    from transformers import CLIPImageProcessor, CLIPModel

    torch.set_num_threads(threads)
    clock: Counter[str] = Counter()
    network = CLIPModel.from_pretrained(model).eval()
    processor = CLIPImageProcessor.from_pretrained(model)
    start = time.perf_counter()
    vectors = []
    for path in sorted(pictures.rglob("*.jpg")):
        image = timed(clock, "opening", lambda path=path: Image.open(path).convert("RGB"))
        inputs = timed(clock, "preparing", lambda image=image: processor(images=image, return_tensors="pt"))
        with torch.no_grad():
            features = timed(clock, "network", lambda inputs=inputs: network.get_image_features(**inputs))
        features = features if isinstance(features, torch.Tensor) else features.pooler_output
        vectors.append((features / features.norm(dim=-1, keepdim=True))[0].numpy())
    stacked = np.stack(vectors)
    timed(clock, "table", lambda: np.save(model.parent / "vectors.npy", stacked))
    return {**clock, "all": time.perf_counter() - start, "vectors": stacked, "peak": peak()}


def index_with_vitrail(model: Path, pictures: Path, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    clock: Counter[str] = Counter()
    require_lancedb()  # imported before the clock runs, as transformers is
    network = vitrail.load(str(model), device="cpu")
    for owner, name, part in (
        (PictureFile, "open", "opening"),
        (network, "preprocess", "preparing"),
        (index, "image_vectors", "network"),
        (Store, "put", "table"),
        (Store, "settle", "table"),
    ):
        setattr(owner, name, clocked(clock, part, getattr(owner, name)))
    start = time.perf_counter()
    vitrail.index(pictures, model=network)
    seconds = time.perf_counter() - start
    _, vectors = Store.open(pictures).all()
    return {**clock, "all": seconds, "vectors": vectors, "peak": peak()}


def measure_duplicates(folder: Path, arguments: argparse.Namespace) -> None:
    model = get_model(arguments.model, device="cpu")
    pictures = [open_picture(input.source).image for input in find_inputs(arguments.examples or EXAMPLES)]
    if arguments.examples is None:
        pictures = [part for picture in pictures for part in ninths(picture)]
    vectors = np.stack([result.vector for result in vitrail.embed(pictures, model=model)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    others = vectors @ vectors.T
    np.fill_diagonal(others, -1)
    rows = []
    for name, change in CHANGES.items():
        changed = np.stack([result.vector for result in vitrail.embed([*map(change, pictures)], model=model)])
        same = np.sum(vectors * changed, axis=1) / np.linalg.norm(changed, axis=1)
        rows.append(
            [name, f"{np.median(same):.3f}", *(f"{np.mean(same >= threshold):.0%}" for threshold in THRESHOLDS)]
        )
    nearest = others.max(1)
    row = ["nearest other picture", f"{np.median(nearest):.3f}"]
    rows.append([*row, *(f"{np.mean(nearest >= threshold):.0%}" for threshold in THRESHOLDS)])
    print(f"{len(pictures)} pictures, {name_of(model)}\n")
    print(table(["changed", "median cosine", *(f"at least {threshold}" for threshold in THRESHOLDS)], rows))


def ninths(picture: Image.Image) -> Iterator[Image.Image]:
    width, height = picture.width // 3, picture.height // 3
    for left, top in product((0, width, 2 * width), (0, height, 2 * height)):
        yield picture.crop((left, top, left + width, top + height))


def as_jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    return file.getvalue()


def cropped(picture: Image.Image) -> Image.Image:
    across, down = round(0.05 * picture.width), round(0.05 * picture.height)
    return picture.crop((across, down, picture.width - across, picture.height - down))


CHANGES: dict[str, Callable[[Image.Image], Image.Image | bytes]] = {
    "half the size": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "JPEG of quality 40": as_jpeg,
    "5 % cropped at each edge": cropped,
    "15 % brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.15),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def make_pictures(folder: Path, count: int, seed: int) -> None:
    """JPEGs with as much in them as photographs: noise of every scale, about 100 kB each."""
    for number in range(count):
        dice = np.random.default_rng([seed, number])
        layers: Iterator[np.ndarray] = (
            np.asarray(Image.fromarray(dice.integers(0, 256, (edge, edge, 3), np.uint8)).resize((640, 480)), np.float32)
            for edge in (4, 16, 64, 256)
        )
        mixed = sum(weight * layer for weight, layer in zip((0.4, 0.3, 0.2, 0.1), layers, strict=True))
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mixed.astype(np.uint8)).save(path, quality=90)


def make_clip(folder: Path, seed: int) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import conftest  # noqa: F401 - lets transformers import beside a CPU build of torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(seed)
    CLIPModel(CLIPConfig()).save_pretrained(folder)  # its defaults are ViT-B/32
    CLIPImageProcessor().save_pretrained(folder)


def clocked(clock: Counter[str], part: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, its time added to the part's."""
    return lambda *arguments, **named: timed(clock, part, lambda: call(*arguments, **named))


def timed(clock: Counter[str], part: str, call: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    try:
        return call()
    finally:
        clock[part] += time.perf_counter() - start


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def peak() -> float:
    """The most memory that this process has held, in MB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
