"""How texts that a network writes are compared with the reference's."""

from typing import Any

import torch
from torch import Tensor

from tests.parity.references import randomise
from vitrail.models.language_model import LanguageModel
from vitrail.text.decoding import left_pad

SEARCHES: tuple[dict[str, Any], ...] = (
    {},
    {"repetition_penalty": 1.3},
    {"num_beams": 2},
    {"num_beams": 4, "length_penalty": 0.0},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": "never"},
    {"num_beams": 4, "length_penalty": -1.0, "early_stopping": "never"},
    {"num_beams": 3, "early_stopping": True, "repetition_penalty": 0.8},
)
"""Ways to write that draw nothing, by names that are the same here and in transformers."""


def lively(reference: Any) -> Any:
    """Random numbers in every parameter, such that a text does not soon repeat itself; in eval mode."""
    with torch.no_grad():
        for name, parameter in randomise(reference).named_parameters():
            if parameter.ndim > 1 and "emb" not in name and "wte" not in name:
                parameter.normal_(std=3 * parameter.shape[0] ** -0.5)
        reference.get_output_embeddings().weight.normal_(std=0.8)
    return reference


def ragged_prompts(vocabulary: int, pad: int, *, lengths: tuple[int, ...] = (7, 3, 5, 1)) -> tuple[Tensor, Tensor]:
    """Random prompts of these lengths, filled up on their left: ids and mask."""
    numbers = torch.Generator().manual_seed(1)
    return left_pad([torch.randint(vocabulary, (length,), generator=numbers).tolist() for length in lengths], pad)


def choose_end(reference: Any, ids: Tensor, mask: Tensor, steps: int) -> int:
    """Of the tokens that the reference would write, the one that ends most texts, at as many different lengths."""
    reference.generation_config.eos_token_id = None
    reference.generation_config.pad_token_id = 0
    written = reference.generate(input_ids=ids, attention_mask=mask, max_new_tokens=steps, do_sample=False)
    written = written[:, ids.shape[1] :]
    firsts = {
        token: [row.index(token) for row in written.tolist() if token in row] for token in written.unique().tolist()
    }
    return max(firsts, key=lambda token: (len(set(firsts[token])), len(firsts[token])))


def assert_writes_alike(
    model: LanguageModel, reference: Any, ids: Tensor, mask: Tensor, steps: int, **how: Any
) -> Tensor:
    """The same texts, token for token; gives what was added."""
    reference.generation_config.eos_token_id = list(model.ends)
    reference.generation_config.pad_token_id = model.tokenizer.pad if model.tokenizer else model.ends[0]
    expected = reference.generate(input_ids=ids, attention_mask=mask, max_new_tokens=steps, do_sample=False, **how)
    actual = model.generate(None, ids, max_new_tokens=steps, mask=mask, **how)
    assert actual.tolist() == expected.tolist()
    return actual[:, ids.shape[1] :]
