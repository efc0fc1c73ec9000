"""What an engine is called: "packed", "openvino:int8"."""

from dataclasses import dataclass

from vitrail.errors import UsageError

PRECISIONS: dict[str, tuple[str, ...]] = {
    "eager": ("float32", "bfloat16"),
    "packed": ("float32", "bfloat16"),
    "compile": ("float32", "bfloat16"),
    "openvino": ("float32", "bfloat16", "int8"),
    "onnx": ("float32",),
}
"""Every engine, and the precisions that may stand behind a colon."""

ENGINES = tuple(PRECISIONS)
"""Their names."""


@dataclass(frozen=True)
class Spec:
    """An engine and what it computes in.

    Attributes:
        engine: one of `ENGINES`.
        precision: one of its `PRECISIONS`; None for the float type that the network's weights have.
    """

    engine: str
    precision: str | None = None

    @classmethod
    def of(cls, text: str) -> "Spec":
        """What "packed" or "packed:bfloat16" names.

        Raises:
            UsageError: there is no such engine, or it does not compute in this.
        """
        engine, colon, precision = text.partition(":")
        if engine not in PRECISIONS:
            raise UsageError(f"there is no engine '{engine}'; there are auto, {', '.join(ENGINES)}")
        if colon and precision not in PRECISIONS[engine]:
            raise UsageError(
                f"the engine '{engine}' computes in {' or '.join(PRECISIONS[engine])}, not in '{precision}'"
            )
        return cls(engine, precision or None)

    def __str__(self) -> str:
        return f"{self.engine}:{self.precision}" if self.precision else self.engine
