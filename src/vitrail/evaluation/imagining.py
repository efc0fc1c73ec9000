"""How good pictures are that a network made from texts: in the eyes of the networks in the box."""

import torch
from torch import Tensor

from vitrail.checkpoints.load import load
from vitrail.data.source import Prompts
from vitrail.evaluation.generation import (
    READER,
    box_encoder,
    features,
    frechet_distance,
    precision_recall,
    text_scores,
)
from vitrail.models.image_text import ImageText

_NEAREST = 3  # neighbours that say how far a set of pictures reaches


class ImaginingScores:
    """Compares made pictures with what was asked for and with real ones, for each part of a test.

    Args:
        prompts: what was asked for.
        device: where the encoders run.
    """

    def __init__(self, prompts: Prompts, device: torch.device) -> None:
        self.prompts, self.device = prompts, device
        self.taken: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in made pictures beside the real ones (B, 2, 3, H, W) in [-1, 1], in the order of the test."""
        self.taken.append(outputs.cpu())

    def compute(self) -> dict[str, float]:
        """For each part P of the test:

        P_agreement, P_top_1, P_top_5: as of `text_scores`, for prompts in all languages; P_real_…: of the real
        pictures. P_frechet, P_precision, P_recall: of the made among the real ones in the space of the box's own
        encoder, the last two where there are enough for neighbours. P_error: the mean absolute difference of a made
        picture and the real one, in [0, 2].
        """
        every = torch.cat(self.taken)
        reader, encoder = load(READER, device=self.device, engine="eager"), box_encoder(self.device)
        assert isinstance(reader, ImageText)
        scores: dict[str, float] = {}
        for part in dict.fromkeys(wanted.part for wanted in self.prompts.tests):
            rows = [row for row, wanted in enumerate(self.prompts.tests) if wanted.part == part]
            made, real = every[rows].unbind(1)
            for name, pictures in ((part, made), (f"{part}_real", real)):
                for key, score in self._read(pictures, rows, reader).items():
                    scores[f"{name}_{key}"] = score
            seen = features(real, encoder), features(made, encoder)
            scores[f"{part}_frechet"] = frechet_distance(*seen)
            if len(rows) > _NEAREST:
                scores[f"{part}_precision"], scores[f"{part}_recall"] = precision_recall(*seen, _NEAREST)
            scores[f"{part}_error"] = (made - real).abs().mean().item()
        return scores

    def _read(self, pictures: Tensor, rows: list[int], reader: ImageText) -> dict[str, float]:
        """`text_scores`, the mean over languages, each with as many pictures as it has prompts."""
        total: dict[str, float] = {}
        tests = [self.prompts.tests[row] for row in rows]
        for language, names in self.prompts.names.items():
            chosen = [place for place, wanted in enumerate(tests) if wanted.language == language]
            if not chosen:
                continue
            scores = text_scores(
                pictures[chosen],
                [tests[place].prompt for place in chosen],
                names,
                torch.tensor([tests[place].concept for place in chosen]),
                reader,
            )
            for key, score in scores.items():
                total[key] = total.get(key, 0.0) + score * len(chosen) / len(tests)
        return total
