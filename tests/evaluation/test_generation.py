"""Scores of made pictures: on Gaussians whose distance is known, and on sets that are the same or apart."""

import numpy as np
import pytest
import torch

import vitrail
from vitrail.data.emoji_sources import GlyphsSection
from vitrail.data.generated import generate_glyphs
from vitrail.data.source import normalise
from vitrail.data.texts import names
from vitrail.evaluation.generation import (
    ENCODER,
    READER,
    GenerationScores,
    Made,
    features,
    frechet_distance,
    precision_recall,
    text_scores,
)


def test_the_frechet_distance_of_two_gaussians_is_the_known_one():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(40_000, 3, generator=generator, dtype=torch.float64)
    second = torch.randn(40_000, 3, generator=generator, dtype=torch.float64)
    spread = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(first, second + 3.0) == pytest.approx(27.0, abs=0.2)
    # ‖3‖² + Σ (1 - s)², in whatever direction the spread lies
    assert frechet_distance(first, (second * spread) @ turn + 3.0) == pytest.approx(27.0 + 1.25, abs=0.2)
    # two that do not commute: tr(A + B - 2 (A^½ B A^½)^½), by another way than the code's
    shear = torch.tensor([[1.0, 0.9, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 2.0]], dtype=torch.float64)
    made, real = second @ shear, first * spread
    a, b = torch.diag(spread**2), shear.T @ shear
    middle = torch.linalg.eigvalsh(torch.diag(spread) @ b @ torch.diag(spread)).sqrt().sum()
    assert frechet_distance(real, made) == pytest.approx(float(a.trace() + b.trace() - 2 * middle), abs=0.1)


def test_precision_and_recall_of_the_same_apart_and_partly_covered_sets():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 4, generator=generator)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    two_modes = torch.cat([real[:100], real[100:] + 50])
    precision, recall = precision_recall(two_modes, torch.randn(100, 4, generator=generator))
    assert precision > 0.7  # one mode alone: what is made could be real, but half of the real could not be made
    assert 0.3 < recall <= 0.5
    assert precision_recall(torch.randn(100, 4, generator=generator), two_modes)[0] < 0.6
    with pytest.raises(ValueError, match="3-th neighbour is asked for of 3"):
        precision_recall(real, real[:3])


def test_precision_and_recall_by_hand():
    real, made = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[-0.5], [1.5], [5.5]])
    # radii of the real 1, 1, 2; of the made 2, 2, 4
    assert precision_recall(real, made, nearest=1) == (pytest.approx(2 / 3), pytest.approx(1.0))
    made = torch.tensor([[9.0], [9.5], [2.5]])  # radii 0.5, 0.5, 6.5
    assert precision_recall(real + 1, made - 1, nearest=1) == (pytest.approx(1 / 3), pytest.approx(1.0))
    assert precision_recall(made, real, nearest=1) == (pytest.approx(1.0), pytest.approx(1 / 3))


def test_features_are_those_of_the_encoders_own_preprocessing():
    encoder = vitrail.load(ENCODER)
    bytes_ = generate_glyphs(4, ["flat"], size=32).pictures[..., :3].copy()
    pictures = torch.from_numpy(bytes_).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        expected = encoder.pool(encoder.features(encoder.preprocess(list(bytes_))))
    torch.testing.assert_close(features(pictures, encoder), expected)
    torch.testing.assert_close(features(pictures + (pictures == 1), encoder), expected)  # cut off at white


def scored(made: torch.Tensor, real: torch.Tensor, targets: torch.Tensor, data) -> dict[str, float]:
    scores = GenerationScores(data.train, torch.device("cpu"))
    pairs = zip(made, real, strict=True)
    outputs = [
        Made(one, other, 0.5, bits=2.0 if number else None, asked=True) for number, (one, other) in enumerate(pairs)
    ]
    scores.update(outputs[:10], targets[:10])
    scores.update(outputs[10:], targets[10:])
    return scores.compute()


def test_real_pictures_score_best_noise_worst_and_copies_are_not_new():
    section = GlyphsSection(
        source="glyphs", classes="subgroup", hold_out_combinations=True, background="white", generated=96
    )
    data = section.open((24, 24))
    batch = data.test.batch(torch.arange(len(data.test)), None)
    real, targets = normalise(batch["images"]), batch["targets"]
    copied = data.train.batch(torch.arange(len(real)) * 5, None)
    noise = torch.randn(real.shape)
    same, copies = scored(real, real, targets, data), scored(normalise(copied["images"]), real, targets, data)
    noisy = scored(noise, real, targets, data)
    assert same["loss"] == 0.5
    assert same["bits"] == 2.0
    assert same["frechet"] == pytest.approx(same["frechet_real"])
    assert (same["precision"], same["recall"], same["novelty"]) == pytest.approx((1, 1, 1))
    assert same["recognised"] == same["recognised_real"] > 0.6
    assert copies["novelty"] < 1e-3
    assert copies["precision"] > 0.5
    assert noisy["frechet"] > 3 * same["frechet"]
    assert noisy["precision"] < 0.25
    assert noisy["recognised"] < 0.3


def test_pictures_agree_with_their_own_words_and_not_with_others():
    table = generate_glyphs(24, ["flat"], size=48)
    colours, alpha = table.pictures[..., :3].astype(np.float32), table.pictures[..., 3:] / 255
    images = torch.from_numpy(colours * alpha + 255 * (1 - alpha)).permute(0, 3, 1, 2).float() / 127.5 - 1
    said = [names(table.concepts[code], "en")[1] for code in table.concept]
    reader = vitrail.load(READER)
    targets = torch.arange(24)
    right = text_scores(images, said, said, targets, reader)
    wrong = text_scores(images.roll(5, 0), said, said, targets, reader)
    assert right["agreement"] > right["agreement_shuffled"] + 0.05
    assert wrong["agreement"] < right["agreement"] - 0.05
    assert right["top_1"] > 4 / 24  # generated glyphs are no emoji, and yet
    assert right["top_5"] >= right["top_1"]
    alike = text_scores(images, said, ["a frog"] * 24, targets, reader)
    assert alike["top_1"] == 1.0  # all names are one
