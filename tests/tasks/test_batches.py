"""Many inputs: order, failures in their places, batches, bounded look-ahead, sizes that differ."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.pictures import noise
from tests.tiny import tiny_vit
from vitrail.errors import ImageError, UsageError
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.preprocess import Preprocess
from vitrail.tasks.batches import THREADS, Failure, in_batches, one_or_all

MODEL = tiny_vit()
AS_IT_IS = tiny_vit(preprocess=Preprocess(resize=None))


def grey(value: int, width: int = 32, height: int = 32) -> Image.Image:
    return Image.new("L", (width, height), value)


class Counting:
    """A run that remembers its batches and gives back each picture's mean."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: torch.Tensor) -> list[float]:
        assert not torch.is_grad_enabled()
        self.shapes.append(tuple(images.shape))
        return images.mean((1, 2, 3)).tolist()


@settings(max_examples=25, deadline=None)
@given(
    bad=st.lists(st.booleans(), max_size=40),
    sizes=st.lists(st.sampled_from([(32, 32), (40, 32)]), min_size=40, max_size=40),
    batch_size=st.integers(1, 9),
)
def test_every_input_has_its_own_result_in_order(bad, sizes, batch_size):
    sources = [b"broken" if broken else np.asarray(grey(i, *sizes[i])) for i, broken in enumerate(bad)]
    inputs, run = find_inputs(sources), Counting()
    found = list(in_batches(inputs, AS_IT_IS, run, batch_size=batch_size))
    assert [input for input, _ in found] == inputs
    for i, (broken, (_, result)) in enumerate(zip(bad, found, strict=True)):
        if broken:
            assert isinstance(result, Failure)
        else:
            assert result == pytest.approx(AS_IT_IS.preprocess(grey(i)).mean().item(), abs=1e-4)
    assert sum(shape[0] for shape in run.shapes) == bad.count(False)
    assert max((shape[0] for shape in run.shapes), default=1) <= batch_size


def test_batches_are_filled_whatever_fails_among_them():
    run = Counting()
    list(in_batches(find_inputs([grey(1), b"broken", grey(2), grey(3), b"", grey(4)]), MODEL, run, batch_size=2))
    assert [shape[0] for shape in run.shapes] == [2, 2]


def test_pictures_of_other_sizes_go_in_batches_of_their_own():
    run = Counting()
    pictures = [grey(1, 32, 32), grey(2, 32, 32), grey(3, 64, 32), grey(4, 32, 32)]
    list(in_batches(find_inputs(pictures), AS_IT_IS, run, batch_size=8))
    assert run.shapes == [(2, 3, 32, 32), (1, 3, 32, 64), (1, 3, 32, 32)]


def test_a_picture_the_network_cannot_run_on_fails_alone():
    pictures = [grey(1), grey(2, 33, 32), grey(3)]
    results = [result for _, result in in_batches(find_inputs(pictures), AS_IT_IS, AS_IT_IS, batch_size=8)]
    assert [isinstance(result, Failure) for result in results] == [False, True, False]
    assert "32×33" in results[1].error
    assert results[1].input == "<image>"


def test_memory_that_does_not_suffice_is_a_sentence():
    def run(images):
        raise torch.OutOfMemoryError("tried to allocate 7 EiB")

    results = [result for _, result in in_batches(find_inputs([grey(1), grey(2)]), MODEL, run, batch_size=2)]
    assert ["smaller batch size" in result.error for result in results] == [True, True]


def test_pictures_are_opened_only_a_little_ahead(monkeypatch):
    opened = []
    open_input = Input.open
    monkeypatch.setattr(Input, "open", lambda input, *how: (opened.append(input.name), open_input(input, *how))[1])
    results = in_batches(find_inputs([grey(i % 256) for i in range(200)]), MODEL, Counting(), batch_size=4)
    assert not opened
    next(results)
    results.close()
    assert len(opened) <= 2 * (4 + THREADS)


@pytest.mark.parametrize(("dtype", "reduced"), [(torch.float32, False), (torch.bfloat16, True)])
def test_large_jpegs_are_reduced_below_float32_and_only_there(dtype, reduced, monkeypatch, tmp_path):
    model = tiny_vit().to(dtype)
    noise(600, 400).save(tmp_path / "large.jpg")
    sizes = []
    prepare = Preprocess.__call__
    monkeypatch.setattr(
        Preprocess, "__call__", lambda self, picture: (sizes.append(picture.image.size), prepare(self, picture))[1]
    )
    [(_, result)] = in_batches(find_inputs([tmp_path / "large.jpg"]), model, Counting())
    assert not isinstance(result, Failure)
    assert [size != (600, 400) for size in sizes] == [reduced]


def test_results_come_before_the_last_input_is_opened(tmp_path):
    """The third file is written only after the first result is there."""
    noise(8, 8).save(tmp_path / "0.png")
    late = tmp_path / "late.png"
    inputs = find_inputs([*[tmp_path / "0.png"] * 50, late])
    results = in_batches(inputs, MODEL, Counting(), batch_size=1)
    next(results)
    noise(8, 8).save(late)
    assert not any(isinstance(result, Failure) for _, result in results)


def test_batch_size_must_make_sense():
    with pytest.raises(UsageError, match="batch size"):
        in_batches([], MODEL, Counting(), batch_size=0)


def test_no_inputs_no_results():
    assert list(in_batches([], MODEL, Counting())) == []


def test_one_input_raises_and_many_list(tmp_path):
    error = ImageError("no")
    failure = Failure("x", "no", error)
    for named in (["x"], ("x",)):
        assert one_or_all(named, find_inputs(named), iter([failure])) == [failure]
    with pytest.raises(ImageError) as raised:
        one_or_all("x", find_inputs("x"), iter([failure]))
    assert raised.value is error
    noise(8, 8).save(tmp_path / "only.png")
    for many in (tmp_path, str(tmp_path / "*.png")):  # a folder names many, though it holds one
        assert one_or_all(many, find_inputs(many), iter(["result"])) == ["result"]
    one = tmp_path / "only.png"
    assert one_or_all(one, find_inputs(one), iter(["result"])) == "result"
