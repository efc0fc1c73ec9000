"""How well pictures and texts find each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitrail.data.source import Texts


def ranks(similarity: Tensor, relevant: Tensor) -> Tensor:
    """The place of the best right answer to each query, counted from 1; a wrong one that is as near goes before it.

    Args:
        similarity: of each query and each candidate, (Q, C).
        relevant: which candidates are right, (Q, C) bool; each query has at least one.

    Returns:
        (Q,) int64.
    """
    best = similarity.masked_fill(~relevant, -torch.inf).amax(1, keepdim=True)
    return 1 + ((similarity >= best) & ~relevant).sum(1)


def recall_at(count: int, places: Tensor) -> float:
    """The fraction of queries whose best right answer is among the first `count`, in [0, 1]; places as of `ranks`."""
    return (places <= count).float().mean().item()


def questions(texts: Texts) -> list[Sequence[str]]:
    """All texts, or ensembles of texts, that a picture is compared with: for each language the concepts, the concepts
    by their first name alone, and the groups.
    """
    asked: list[Sequence[str]] = []
    for language, names in texts.names.items():
        asked += [*names, *(name[:1] for name in names), *texts.groups[language]]
    return asked


class RetrievalScores:
    """Retrieval both ways and zero-shot classification, for each part of a test and in each language.

    Args:
        texts: what the pictures are called, and the parts.
    """

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self.taken: list[tuple[Tensor, Tensor]] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in pictures: how near each is to each of `questions` (B, T), and their concepts' numbers (B,)."""
        self.taken.append((outputs.cpu(), targets.cpu()))

    def compute(self) -> dict[str, float]:
        """For each part P and language L, of what all processes took in; a part without pictures has no scores.

        P_text_to_picture_L and P_picture_to_text_L: recall at 1, in [0, 1]; with _at_5, at 5; with _median_rank, the
        median of the ranks, from 1. P_zero_shot_L: the accuracy of naming a picture's concept; P_group_L: its group.
        """
        from accelerate.utils import gather_object  # only training has several processes

        taken = gather_object(self.taken)
        outputs, targets = (torch.cat(every) for every in zip(*taken, strict=True))
        count = len(self.texts.group_of)
        sizes = [size for groups in self.texts.groups.values() for size in (count, count, len(groups))]
        columns = outputs.split(sizes, dim=1)
        scores: dict[str, float] = {}
        for part, concepts in self.texts.parts.items():
            chosen = torch.isin(targets, torch.tensor(concepts))
            for number, language in enumerate(self.texts.names if chosen.any() else ()):
                named, first, grouped = (column[chosen] for column in columns[3 * number : 3 * number + 3])
                found = self._score(language, torch.tensor(concepts), named, first, grouped, targets[chosen])
                scores |= {f"{part}_{name}": score for name, score in found.items()}
        return scores

    def _score(
        self, language: str, concepts: Tensor, named: Tensor, first: Tensor, grouped: Tensor, targets: Tensor
    ) -> dict[str, float]:
        """The scores of pictures (P,) of some concepts (C,), in one language."""
        called = _numbered([name[0] for name in self.texts.names[language]])  # two may have the same name
        relevant = called[targets][:, None] == called[concepts]
        pictures, texts = first[:, concepts], relevant.any(0)
        scores: dict[str, float] = {}
        for way, places in (
            ("text_to_picture", ranks(pictures.T[texts], relevant.T[texts])),
            ("picture_to_text", ranks(pictures, relevant)),
        ):
            scores[f"{way}_{language}"] = recall_at(1, places)
            scores[f"{way}_at_5_{language}"] = recall_at(5, places)
            scores[f"{way}_median_rank_{language}"] = places.float().quantile(0.5).item()
        scores[f"zero_shot_{language}"] = recall_at(1, ranks(named[:, concepts], relevant))
        group_of = torch.tensor(self.texts.group_of)
        groups = group_of[concepts].unique()
        scores[f"group_{language}"] = recall_at(1, ranks(grouped[:, groups], group_of[targets][:, None] == groups))
        return scores


def _numbered(words: Sequence[str]) -> Tensor:
    """A number for each word, the same for the same."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return torch.tensor([numbers[word] for word in words])
