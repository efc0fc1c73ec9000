"""The moving average against its closed form."""

import pytest
import torch
from torch import nn

from vitrail.training.average import Average, decay_at


def test_the_average_is_the_weighted_sum_of_all_weights_so_far():
    model = nn.Linear(2, 1)
    first, average = model.weight.detach().clone(), Average(model, 0.7)
    seen = []
    for step in range(30):
        nn.init.normal_(model.weight)
        seen.append(model.weight.detach().clone())
        average.update(step)
    decays = [decay_at(step, 0.7) for step in range(30)]
    expected = first * torch.tensor(decays).prod()
    for step, weight in enumerate(seen):
        expected = expected + (1 - decays[step]) * torch.tensor(decays[step + 1 :]).prod() * weight
    torch.testing.assert_close(average.state["weight"], expected)


def test_decay_grows_to_its_limit():
    assert decay_at(0, 0.99) == pytest.approx(0.1)
    assert decay_at(90, 0.99) == pytest.approx(91 / 100)
    assert decay_at(10**6, 0.99) == 0.99


def test_without_decay_it_is_the_weights_and_statistics_go_along():
    model = nn.BatchNorm1d(3)
    average = Average(model, 0.0)
    model(torch.randn(5, 3))
    average.update(0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(average.state[name], tensor)
    assert average.state["num_batches_tracked"] == 1


def test_norms_are_settled_on_the_averaged_weights():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average, inputs = Average(model, 0.9), torch.randn(64, 2)
    nn.init.normal_(model[0].weight)
    average.update(0)
    before = model[1].running_mean.clone()
    with average.applied():
        average.settle_norms(inputs.split(16))
        expected = model[0](inputs).mean(0)
    torch.testing.assert_close(average.state["1.running_mean"], expected)
    assert torch.equal(model[1].running_mean, before)


def test_applied_is_undone_even_after_an_error():
    model = nn.Linear(2, 1)
    average = Average(model, 0.9)
    nn.init.ones_(model.weight)

    def look_and_fail() -> None:
        with average.applied():
            assert torch.equal(model.weight, average.state["weight"])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        look_and_fail()
    assert torch.equal(model.weight, torch.ones(1, 2))
