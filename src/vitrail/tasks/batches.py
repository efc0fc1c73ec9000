"""Many pictures through one network: opened ahead of it on a few threads, in batches, a broken one in its place."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from vitrail.engines.threads import cores
from vitrail.errors import ImageError, UsageError, VitrailError, first_line
from vitrail.imaging.inputs import Input
from vitrail.imaging.open import Picture, printable
from vitrail.models.model import Model
from vitrail.tasks.models import engine_for

Prepared = TypeVar("Prepared")
Result = TypeVar("Result")

THREADS = min(4, cores())
"""Threads that open pictures. As many decoded pictures are in memory at once."""


@dataclass(frozen=True)
class Failure:
    """An input that could not be done, in the place of its result.

    Attributes:
        input: what the user would recognise it by.
        error: the sentence that says why.
        cause: the error as it was raised.
    """

    input: str
    error: str
    cause: VitrailError = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, str]:
        """{"input": …, "error": …}."""
        return {"input": self.input, "error": self.error}

    def __str__(self) -> str:
        return self.error


def in_batches(
    inputs: Sequence[Input],
    model: Model,
    run: Callable[[Tensor], Sequence[Result]],
    *,
    batch_size: int = 8,
    allow_private: bool = False,
) -> Iterator[tuple[Input, Result | Failure]]:
    """Open, prepare and run every input; each comes with its result as soon as that is there, in order.

    Never more than a few pictures are in memory, however many inputs there are. Pictures that come out of
    preprocessing at the same size share a batch with their neighbours. Pictures are opened and prepared while the
    network runs, a batch ahead of it. For a network that runs in less than float32's precision large JPEG files are
    reduced while they are decoded (`Preprocess.enough`), which changes less than that precision does.

    Args:
        inputs: what to look at.
        model: whose preprocessing, device and dtype are used.
        run: pictures (B, C, H, W) -> B results; it runs without gradients.
        batch_size: the most pictures that go through the network at once.
        allow_private: fetch URLs from addresses that are not public, too.

    Raises:
        UsageError: a batch size below 1.
    """

    def run_together(tensors: list[Tensor]) -> Sequence[Result]:
        weights = next(model.parameters())
        try:
            together = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
            return run(together.to(weights.device, weights.dtype))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            height, width = tensors[0].shape[-2:]
            raise ValueError(f"the network cannot run on {height}×{width} pixels ({first_line(error)})") from error

    return prepared_in_batches(
        inputs,
        model.preprocess,
        lambda tensor: tensor.shape,
        run_together,
        batch_size=batch_size,
        allow_private=allow_private,
        enough=None if "float32" in engine_for(model, inputs) else model.preprocess.enough,
    )


def prepared_in_batches(
    inputs: Sequence[Input],
    prepare: Callable[[Picture], Prepared],
    kind: Callable[[Prepared], Hashable],
    run: Callable[[list[Prepared]], Sequence[Result]],
    *,
    batch_size: int = 8,
    allow_private: bool = False,
    enough: tuple[int, int] | None = None,
) -> Iterator[tuple[Input, Result | Failure]]:
    """`in_batches` for what is more than a tensor.

    Args:
        inputs: what to look at.
        prepare: makes of an opened picture what the network takes; it runs on several threads.
        kind: neighbours of the same kind share a batch.
        run: what was prepared -> as many results; it runs without gradients.
        batch_size: the most that `run` is given at once.
        allow_private: fetch URLs from addresses that are not public, too.
        enough: the (height, width) in pixels that pictures may be opened at, as `open_picture` takes it.

    Raises:
        UsageError: a batch size below 1.
    """
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, not {batch_size}")

    def opened(input: Input) -> Prepared | Failure:
        try:
            return prepare(input.open(allow_private, enough))
        except VitrailError as error:
            return Failure(input.name, str(error), error)
        except MemoryError:
            return _failure(input, "it does not fit in memory")

    return _in_batches(inputs, opened, kind, run, batch_size)


def one_or_all(
    named: Any, inputs: Sequence[Input], results: Iterator[Result | Failure]
) -> Result | list[Result | Failure]:
    """What a verb gives back: the result of one input, whose error is raised; or a list for what names many.

    Args:
        named: what the user named. A list, a folder or a pattern names many, whatever it holds.
        inputs: what `find_inputs` made of it.
        results: theirs, in order.
    """
    is_itself = len(inputs) == 1 and (
        inputs[0].source is named or inputs[0].error is not None or is_standard_input(named)
    )
    if isinstance(named, list | tuple) or not is_itself:
        return list(results)
    result = next(results)
    if isinstance(result, Failure):
        raise result.cause
    return result


def is_standard_input(named: Any) -> bool:
    """Whether "-" is named."""
    return isinstance(named, str) and named == "-"


def _in_batches(
    inputs: Sequence[Input],
    opened: Callable[[Input], Prepared | Failure],
    kind: Callable[[Prepared], Hashable],
    run: Callable[[list[Prepared]], Sequence[Result]],
    batch_size: int,
) -> Iterator[tuple[Input, Result | Failure]]:
    batch: list[tuple[Input, Failure | None]] = []
    together: list[Prepared] = []  # those of the batch that are no failures
    for input, prepared in _prepared(inputs, opened, batch_size + THREADS):
        if isinstance(prepared, Failure):
            batch.append((input, prepared))
        else:
            if together and kind(prepared) != kind(together[0]):
                yield from _run(batch, together, run)
                batch, together = [], []
            together.append(prepared)
            batch.append((input, None))
        if len(together) in (0, batch_size):
            yield from _run(batch, together, run)
            batch, together = [], []
    yield from _run(batch, together, run)


def _prepared(
    inputs: Sequence[Input], opened: Callable[[Input], Prepared | Failure], ahead: int
) -> Iterator[tuple[Input, Prepared | Failure]]:
    """Each input with what it is prepared to, at most `ahead` of them before they are asked for."""
    if len(inputs) == 1:  # nothing to do meanwhile
        yield inputs[0], opened(inputs[0])
        return
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="vitrail-open")
    remaining = iter(inputs)
    try:
        pending = deque((input, pool.submit(opened, input)) for input in islice(remaining, ahead))
        while pending:
            input, future = pending.popleft()
            prepared = future.result()
            pending.extend((input, pool.submit(opened, input)) for input in islice(remaining, 1))
            yield input, prepared
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _run(
    batch: list[tuple[Input, Failure | None]],
    together: list[Prepared],
    run: Callable[[list[Prepared]], Sequence[Result]],
) -> Iterator[tuple[Input, Result | Failure]]:
    reason = ""
    results: Iterator[Result] = iter(())
    if together:
        try:
            with torch.inference_mode():
                results = iter(run(together))
        except (ValueError, RuntimeError, MemoryError) as error:  # pictures that do not suit the network, or too many
            reason = _why(error, len(together))
    for input, failure in batch:
        if failure is not None:
            yield input, failure
        else:
            yield input, _failure(input, reason) if reason else next(results)


def _why(error: Exception, count: int) -> str:
    """Why a network cannot run on so many pictures."""
    if is_out_of_memory(error):
        several = f" with {count - 1} others: try a smaller batch size" if count > 1 else ""
        return f"the network does not fit in memory with it{several}"
    if isinstance(error, ValueError):  # the network's own sentence
        return str(error)
    return f"the network cannot run on it ({first_line(error)})"


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is how torch says that memory is full."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _failure(input: Input, reason: str) -> Failure:
    error = ImageError(f"{printable(input.name)}: {reason}.")
    return Failure(input.name, str(error), error)
