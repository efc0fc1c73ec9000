"""What every benchmark shares: what machine this is, how fast it multiplies, and contenders timed side by side."""

import platform
import time
from collections.abc import Callable, Mapping

import torch


def describe() -> str:
    """One line on processor, threads, and versions."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    features = " ".join(_lines("/proc/cpuinfo"))
    extras = [name for name in ("avx512_bf16", "amx_bf16", "avx512f") if f" {name} " in f" {features} "]
    return (
        f"{model} ({', '.join(extras) or 'no AVX-512'}), {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def side_by_side(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Seconds a call of each contender: the best of `rounds` turns taken one after the other, after a warm-up.

    Taking turns lets a noisy neighbour slow all of them alike; the best turn is the one it left alone. Where there
    is none such, `time.process_time` is the clock for contenders on one thread.
    """
    for call in contenders.values():
        call()
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, call in contenders.items():
            start = clock()
            call()
            best[name] = min(best[name], clock() - start)
    return best


def matrix_rate(dtype: torch.dtype, *, rows: int = 1576, inner: int = 768, columns: int = 3072) -> Callable[[], object]:
    """A contender that multiplies the matrices of ViT-B/16's MLP at batch 8: 2 rows × inner × columns operations."""
    left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
    return lambda: torch.nn.functional.linear(left, right)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []
