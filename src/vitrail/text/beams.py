"""Search by beams: several texts are written side by side, and the most likely one that ended is taken."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

_NEVER = -1e9  # added to the score of a text that must not be chosen


def beam_search(
    scores: Tensor,
    go_on: Callable[[Tensor, Tensor], Tensor],
    ended: Callable[[Tensor], Tensor],
    *,
    num_beams: int,
    length_penalty: float,
    early_stopping: bool | Literal["never"],
    candidates: int,
    most: int,
    fill: int,
) -> Tensor:
    """The most likely continuation of each prompt, as transformers finds it.

    In every step the beams' best continuations are looked at. Those among the first `num_beams` that end here are put
    aside, scored by their log-probability over their length to the power of `length_penalty`; the best that do not end
    go on.

    Args:
        scores: log-probabilities of the first token, (B, V) float32.
        go_on: takes the beams that live on, (B · num_beams,) int64, numbers of the rows it has so far (at first B), and
            the token each goes on with, and gives the log-probabilities of what comes next, (B · num_beams, V).
        ended: texts (B, candidates, n) of new tokens -> (B, candidates) bool, whether they end with their last one.
        num_beams: K, how many texts are written side by side.
        length_penalty: the power.
        early_stopping: True stops a prompt's search when K texts have ended; False, when the best unfinished one, as
            likely and as long as it is now, would not be among them; "never", when it would not be at the length, up to
            `most`, that suits it best.
        candidates: how many continuations are looked at: so many that K of them do not end.
        most: the most tokens that are added; a text that has them ends.
        fill: what stands behind the end of a text.

    Returns:
        (B, n) int64, n as long as the longest.
    """
    rows, vocabulary = scores.shape
    device = scores.device
    texts = torch.full((rows, num_beams, most), fill, device=device)
    totals = torch.full((rows, num_beams), _NEVER, device=device)
    totals[:, 0] = 0  # at first all beams are one, which is looked at once
    finished, lengths = texts.clone(), torch.zeros_like(totals, dtype=torch.int64)
    best, full = torch.full_like(totals, _NEVER), torch.zeros_like(totals, dtype=torch.bool)
    hopeful = torch.ones(rows, 1, dtype=torch.bool, device=device)
    first = torch.arange(rows, device=device)[:, None]
    scores, beams = scores.repeat_interleave(num_beams, 0), first.expand(rows, num_beams)
    first = first * num_beams
    for length in range(1, most + 1):
        likely = (totals[..., None] + scores.view(rows, num_beams, vocabulary)).flatten(1)
        sums, places = likely.topk(candidates)
        parents, tokens = places // vocabulary, places % vocabulary
        tried = _taken(texts, parents)
        tried[..., length - 1] = tokens
        ends = ended(tried[..., :length]) if length < most else torch.ones_like(tokens, dtype=torch.bool)

        aside = ends.clone()
        aside[:, num_beams:] = False
        aside &= hopeful
        if early_stopping is True:
            aside &= ~full.all(1, keepdim=True)
        scored = torch.where(aside, sums / length**length_penalty, _NEVER)
        best, kept = torch.cat([best, scored], 1).topk(num_beams)
        finished = _taken(torch.cat([finished, tried], 1), kept)
        full = _taken(torch.cat([full, aside], 1), kept)
        lengths = _taken(torch.cat([lengths, torch.full_like(tokens, length)], 1), kept)

        totals, kept = (sums + ends * _NEVER).topk(num_beams)
        texts, parents, tokens = _taken(tried, kept), _taken(parents, kept), _taken(tokens, kept)

        at_best = most if early_stopping == "never" and length_penalty > 0 else length
        worst = torch.where(full, best.amin(1, keepdim=True), _NEVER)
        hopeful &= (totals[:, :1] / at_best**length_penalty > worst).any(1, keepdim=True)
        if not hopeful.any() or ends.all() or (early_stopping is True and full.all()):
            break
        beams = parents + first if length > 1 else beams
        scores = go_on(beams.flatten(), tokens.flatten())
    return finished[:, 0, : int(lengths[:, 0].max())]


def _taken(things: Tensor, which: Tensor) -> Tensor:
    """(B, n, …), (B, k) -> (B, k, …)."""
    return torch.take_along_dim(things, which.view(*which.shape, *[1] * (things.ndim - 2)), 1)
