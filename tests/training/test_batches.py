"""Every batch is a pure function of its number, whoever asks for it."""

import torch

from vitrail.data.emoji_sources import GlyphsSection
from vitrail.training.batches import Batches, loader
from vitrail.training.randomness import seed_for, shuffled


def source():
    return GlyphsSection(source="glyphs", generated=12).open((24, 24)).train


def test_an_epoch_shows_everything_once_and_the_next_in_another_order():
    stream = shuffled(0, 30, 10, seed=3)
    epochs = stream.view(3, 10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(shuffled(7, 24, 10, seed=3), stream[7:24])  # from anywhere, across epochs
    assert not torch.equal(shuffled(0, 30, 10, seed=4), stream)


def test_the_same_number_gives_the_same_batch_through_workers_and_from_the_middle():
    batches = Batches(source(), 8, seed=1)
    plain = [batches[number] for number in range(6)]
    for workers in (0, 2):
        for number, batch in zip(range(2, 6), loader(batches, range(2, 6), workers, torch.device("cpu")), strict=True):
            assert torch.equal(batch["images"], plain[number]["images"])
            assert torch.equal(batch["targets"], plain[number]["targets"])


def test_processes_and_parts_share_one_stream():
    alone = torch.cat([Batches(source(), 8, seed=1)[number]["targets"] for number in range(2)])
    shared = [
        Batches(source(), 4, seed=1, rank=rank, world=2)[number]["targets"] for number in range(2) for rank in range(2)
    ]
    assert torch.equal(torch.cat(shared), alone)


def test_seeds_are_stable_and_differ_by_place():
    assert seed_for(0, "step", 3, 0, 1) == seed_for(0, "step", 3, 0, 1)
    assert len({seed_for(0, "step", step, 0, rank) for step in range(50) for rank in range(4)}) == 200
