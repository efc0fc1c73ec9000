"""What engines are called."""

import pytest

from vitrail.engines import ENGINES
from vitrail.engines.spec import Spec
from vitrail.errors import UsageError


def test_names_with_and_without_a_precision():
    assert Spec.of("packed") == Spec("packed", None)
    assert Spec.of("openvino:int8") == Spec("openvino", "int8")
    for text in (*ENGINES, "packed:bfloat16", "eager:float32"):
        assert str(Spec.of(text)) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("turbo", "no engine 'turbo'; there are auto, eager, packed, compile, openvino, onnx"),
        ("", "no engine ''"),
        ("packed:int8", "'packed' computes in float32 or bfloat16, not in 'int8'"),
        ("onnx:bfloat16", "'onnx' computes in float32, not in 'bfloat16'"),
        ("eager:", "not in ''"),
    ],
)
def test_what_names_none(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        Spec.of(text)
