"""A tokenizer of our own, for networks that are small and read English and Chinese."""

from collections.abc import Iterable

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from vitrail.errors import UsageError
from vitrail.text.tokenizer import Tokenizer

PAD, START, END = "<pad>", "<start>", "<end>"
"""Ids 0 and 1, and the highest there is: CLIP reads a text's vector where its highest id is."""

_WORDS = r"\p{Han}| ?[\p{L}\p{M}&&[^\p{Han}]]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s"
"""A Chinese character, or a word, a digit or a run of other signs, each with the space before it."""


def train_tokenizer(texts: Iterable[str], size: int, context: int) -> Tokenizer:
    """Learn which bytes to join into tokens (byte pair encoding, Sennrich et al. 2016, 1508.07909).

    Texts are lower-cased and their runs of spaces made one. Nothing is unknown: what was never seen is read as its
    UTF-8 bytes. A Chinese character stands alone, so that a word's meaning is made of its characters' meanings. The
    same texts in the same order give the same tokenizer.

    Args:
        texts: what to learn from.
        size: the most tokens there may be; at least the 256 bytes and the three special ones.
        context: the most tokens a text may have, "<start>" and "<end>" included.

    Returns:
        A tokenizer that fills every text up to `context`.

    Raises:
        UsageError: `size` is too small, or `context` has no room.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    if size < 3 + len(letters) or context <= 2:
        raise UsageError(
            f"a tokenizer has {3 + len(letters)} tokens or more and a text 3, and not {size} and {context}"
        )
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),  # or a word would be another one at the start of a text
            normalizers.Replace(Regex(r"\A (?=\p{Han})"), ""),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1, special_tokens=[PAD, START], initial_alphabet=letters, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([END])
    ends = [(token, backend.get_vocab()[token]) for token in (START, END)]
    backend.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    return Tokenizer(backend, context, pad=0)
