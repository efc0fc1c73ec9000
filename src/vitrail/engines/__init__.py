"""How a model runs, never what it says."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vitrail.engines.places import asked_for
from vitrail.engines.spec import ENGINES, PRECISIONS, Spec
from vitrail.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vitrail.engines.by_batch import Own
    from vitrail.engines.entries import Entry
    from vitrail.imaging.open import Picture
    from vitrail.models.model import Model

__all__ = ["ENGINES", "Spec", "can_run", "check", "prepare", "running"]


def prepare(
    model: "Model",
    engine: str = "auto",
    *,
    dtype: "torch.dtype | None" = None,
    pictures: "Sequence[Picture] | None" = None,
) -> str:
    """Make `model` run on `engine` and say what was picked, "packed float32".

    Where one engine was picked for few pictures at once and another for many: "onnx float32 for 1, packed bfloat16 for
    8". What runs so many pictures is what `running` says.

    Args:
        model: a loaded network, where it is to run.
        engine: "eager" is PyTorch as it is; "packed" lays weights out once for the processor; "compile" is
            torch.compile; "openvino" and "onnx" run the family's `entries` by OpenVINO and ONNX Runtime, and the rest
            packed. Behind a colon may be what it computes in: "packed:bfloat16", "openvino:int8"; the network keeps its
            weights, but for one without `entries`, whose weights are cast. "auto" is what VITRAIL_ENGINE names, or else
            the fastest that `vitrail tune` measured for this network on this machine, or else packed where that can be,
            in the network's own float type.
        dtype: the float type that the user asked for, which the engine then keeps to; None where it is free to choose.
        pictures: what int8 is calibrated on; without any, what was calibrated earlier is used, or scenes are drawn.

    Raises:
        UsageError: there is no such engine, or it cannot run here, or not this family.
        VitrailError: what the engine needs is not installed.
    """
    from vitrail.engines.remembered import Choice, recall, told

    said = asked_for(engine)
    if said == "auto":
        measured = recall(model, None if dtype is None else _name(dtype))
        choice = measured or Choice({1: _best_guess(model)})
        model.guessed = measured is None and dtype is None
    else:
        choice = Choice({1: Spec.of(said)})
        check(model, choice.by_batch[1])
    precision = _name(next(model.parameters()))
    specs = {batch: Spec(spec.engine, spec.precision or precision) for batch, spec in choice.by_batch.items()}
    for spec in specs.values():
        if dtype is not None and spec.precision != _name(dtype):
            raise UsageError(
                f"the engine '{spec}' does not compute in {_name(dtype)}: leave the dtype to it, or name another"
            )
    _run(model, specs, pictures)
    return told({batch: f"{spec.engine} {spec.precision}" for batch, spec in specs.items()})


def check(model: "Model", spec: Spec) -> None:
    """See whether an engine can run a network here.

    Raises:
        UsageError: it cannot run here, or not this family.
        VitrailError: what it needs is not installed.
    """
    from vitrail.engines.packed import can_pack

    parameter = next(model.parameters())
    precision = spec.precision or _name(parameter)
    if spec.engine == "packed":
        if not can_pack(parameter.new_empty(0, dtype=_dtype(precision))):
            raise UsageError(
                f"the engine 'packed' needs oneDNN on a CPU, in float32 or bfloat16, not {precision} on "
                f"{parameter.device}"
            )
        return
    if spec.engine == "eager":
        return
    if precision not in PRECISIONS[spec.engine]:
        raise UsageError(
            f"the engine '{spec.engine}' computes in {' or '.join(PRECISIONS[spec.engine])}, not in {precision}"
        )
    if not model.entries:
        raise UsageError(
            f"the engine '{spec.engine}' runs networks that see pictures, and {model.family} runs as eager or packed"
        )
    if spec.engine == "compile":
        from vitrail.engines.compiled import check_compiler

        check_compiler()
        return
    if parameter.device.type != "cpu":
        raise UsageError(f"the engine '{spec.engine}' runs on the CPU, and this network is on {parameter.device}")
    if spec.engine == "onnx":
        from vitrail.engines.onnx import check_onnx

        check_onnx()
    else:
        from vitrail.engines.openvino import check_openvino

        check_openvino(precision)


def can_run(model: "Model", spec: Spec) -> bool:
    """Whether `check` finds nothing wrong."""
    from vitrail.errors import VitrailError

    try:
        check(model, spec)
    except VitrailError:
        return False
    return True


def _best_guess(model: "Model") -> Spec:
    packed = Spec("packed")
    return packed if can_run(model, packed) else Spec("eager")


def running(model: "Model", batch: int) -> str | None:
    """What runs so many pictures at once, "onnx float32"; None where that does not depend on how many there are."""
    from vitrail.engines.by_batch import ByBatch

    entry = next((vars(model)[name] for name in model.entries if name in vars(model)), None)
    if not isinstance(entry, ByBatch):
        return None
    chosen = entry.of(batch)
    return f"{chosen.engine} {chosen.precision}"


def _run(model: "Model", specs: Mapping[int, Spec], pictures: "Sequence[Picture] | None") -> None:
    """Make a network run on these engines, by how many pictures there are at once; each says its precision."""
    from torch import nn

    from vitrail.engines.by_batch import ByBatch, Own
    from vitrail.engines.packed import can_pack, pack
    from vitrail.engines.threads import OnOneThread

    weight, different = next(model.parameters()), list(dict.fromkeys(specs.values()))
    packs = any(spec.engine not in ("eager", "compile") for spec in different)
    if packs and can_pack(weight):
        pack(model)
    if not model.entries:
        if different[0].precision != _name(weight):
            _cast(model, different[0])
        return
    for name in model.entries:
        made = {spec: _entry(model, name, spec, pictures) for spec in different}
        if len(made) > 1:
            setattr(model, name, ByBatch({batch: made[spec] for batch, spec in specs.items()}))
        elif not isinstance(made[different[0]], Own):
            setattr(model, name, made[different[0]])
    if any(spec.engine in ("openvino", "onnx") for spec in different):
        small = [(model, "pool"), *([(model.head, "forward")] if isinstance(model.head, nn.Linear) else [])]
        for owner, method in small:
            setattr(owner, method, OnOneThread(getattr(owner, method)))


def _cast(model: "Model", spec: Spec) -> None:
    """Cast the weights of a network that has no `entries`; what it answers keeps its type."""
    from vitrail.engines.answers import keep_answers
    from vitrail.engines.packed import pack

    keep_answers(model, next(model.parameters()).dtype)
    model.to(_dtype(spec.precision or "float32"))
    if spec.engine == "packed":
        pack(model)


def _entry(model: "Model", name: str, spec: Spec, pictures: "Sequence[Picture] | None") -> "Entry | Own":
    engine, precision = spec.engine, spec.precision or "float32"
    if engine in ("eager", "packed") and precision == _name(next(model.parameters())):
        from vitrail.engines.by_batch import Own

        return Own(model, name, engine, precision)
    if engine == "compile":
        from vitrail.engines.compiled import CompiledEntry

        return CompiledEntry(model, name, precision)
    if engine == "openvino":
        from vitrail.engines.openvino import OpenVINOEntry

        return OpenVINOEntry(model, name, precision, pictures)
    if engine == "onnx":
        from vitrail.engines.onnx import ONNXEntry

        return ONNXEntry(model, name, precision)
    from vitrail.engines.cast import CastEntry, PackedCastEntry

    return (PackedCastEntry if engine == "packed" else CastEntry)(model, name, precision)


def _name(given: "Tensor | torch.dtype") -> str:
    return str(getattr(given, "dtype", given)).removeprefix("torch.")


def _dtype(precision: str) -> "torch.dtype":
    import torch

    return getattr(torch, precision)
