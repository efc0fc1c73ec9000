"""A sentencepiece model is read field by field; the reference is protobuf's own reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import sentencepiece_model_pb2_new as protobuf

from vitrail.checkpoints.sentencepiece import read_sentencepiece


def model(pieces, *, unknown=0, characters=b"", kind=1):
    message = protobuf.ModelProto()
    for text, score in pieces:
        message.pieces.add(piece=text, score=score, type=1)
    message.trainer_spec.model_type = kind
    message.trainer_spec.unk_id = unknown
    message.trainer_spec.input.append("texts.txt")
    message.trainer_spec.self_test_sample_size = 300
    message.normalizer_spec.name = "nmt_nfkc"
    message.normalizer_spec.precompiled_charsmap = characters
    return message.SerializeToString()


@given(
    st.lists(st.tuples(st.text(max_size=20), st.floats(width=32, allow_nan=False)), max_size=20),
    st.integers(0, 2**31 - 1),
    st.binary(max_size=300),
)
def test_what_protobuf_wrote(pieces, unknown, characters):
    said = read_sentencepiece(model(pieces, unknown=unknown, characters=characters))
    assert (said.pieces, said.unknown, said.characters) == (pieces, unknown, characters)


def test_what_is_left_out_has_its_usual_value():
    message = protobuf.ModelProto()
    message.pieces.add(piece="<unk>")
    said = read_sentencepiece(message.SerializeToString())
    assert (said.pieces, said.unknown, said.characters) == ([("<unk>", 0.0)], 0, b"")


@pytest.mark.parametrize("kind", [2, 3, 4])
def test_other_kinds_than_unigram(kind):
    with pytest.raises(ValueError, match="not of the unigram kind"):
        read_sentencepiece(model([("a", 0.0)], kind=kind))


WHOLE = model([("<unk>", 0.0), ("▁a", -1.5), ("猫", -3.25)], characters=bytes(range(256)))


@given(st.integers(1, len(WHOLE) - 1))
def test_cut_anywhere(length):
    try:
        said = read_sentencepiece(WHOLE[:length])
    except ValueError as error:
        assert "damaged" in str(error)  # noqa: PT017 - cut between two fields it is a whole, smaller model
    else:
        assert said.pieces == [("<unk>", 0.0), ("▁a", -1.5), ("猫", -3.25)][: len(said.pieces)]


@given(st.binary(max_size=200))
def test_noise(content):
    try:
        read_sentencepiece(content)
    except ValueError as error:
        assert "sentencepiece model" in str(error)  # noqa: PT017 - a few bytes may be a message by chance
