"""Fusions are what their equations say, and cost what they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitrail.nn.fusion import FactorisedOuterProduct, Gate, OuterProduct, Sum

WIDTH = st.integers(1, 7)


@settings(deadline=None, max_examples=25)
@given(WIDTH, WIDTH, WIDTH, st.integers(1, 5))
@torch.no_grad()
def test_the_equations(picture, question, out, batch):
    v, q = torch.randn(batch, picture), torch.randn(batch, question)

    plain = Sum(picture, question, out)
    expected = torch.tanh(v @ plain.picture.weight.T + q @ plain.question.weight.T + plain.picture.bias)
    torch.testing.assert_close(plain(v, q), expected)

    outer = OuterProduct(picture, question, out)
    tensor = outer.linear.weight.view(out, picture, question)
    torch.testing.assert_close(outer(v, q), torch.einsum("kij,bi,bj->bk", tensor, v, q) + outer.linear.bias)

    gate = Gate(picture, question, out)
    of_v, of_q = torch.tanh(gate.picture(v)), torch.tanh(gate.question(q))
    share = torch.sigmoid(torch.cat([v, q], 1) @ gate.gate.weight.T + gate.gate.bias)
    torch.testing.assert_close(gate(v, q), share * of_v + (1 - share) * of_q)


@settings(deadline=None, max_examples=25)
@given(WIDTH, WIDTH, WIDTH, st.integers(1, 9))
@torch.no_grad()
def test_the_factorised_form_is_the_outer_product_with_a_tensor_of_low_rank(picture, question, out, rank):
    factorised, full = FactorisedOuterProduct(picture, question, out, rank), OuterProduct(picture, question, out)
    factors = (factorised.out.weight, factorised.picture.weight, factorised.question.weight)
    full.linear.weight.copy_(torch.einsum("kr,ri,rj->kij", *factors).flatten(1))
    full.linear.bias.copy_(factorised.out.bias)
    v, q = torch.randn(4, picture), torch.randn(4, question)
    torch.testing.assert_close(factorised(v, q), full(v, q), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_outer_product_is_torch_s_bilinear_layer():
    theirs, ours = nn.Bilinear(5, 4, 3), OuterProduct(5, 4, 3)
    ours.linear.weight.copy_(theirs.weight.flatten(1))
    ours.linear.bias.copy_(theirs.bias)
    v, q = torch.randn(6, 5), torch.randn(6, 4)
    torch.testing.assert_close(ours(v, q), theirs(v, q))


def test_what_they_weigh():
    def matrices(module: nn.Module) -> int:
        return sum(weight.numel() for weight in module.parameters() if weight.ndim == 2)

    assert matrices(Sum(5, 4, 3)) == (5 + 4) * 3
    assert matrices(OuterProduct(5, 4, 3)) == 5 * 4 * 3
    assert matrices(FactorisedOuterProduct(5, 4, 3, 7)) == (5 + 4 + 3) * 7
    assert matrices(Gate(5, 4, 3)) == 2 * (5 + 4) * 3


@pytest.mark.parametrize("kind", [OuterProduct, lambda *widths: FactorisedOuterProduct(*widths, 8)])
@torch.no_grad()
def test_what_a_question_asks_of_a_picture_is_linear_in_both(kind):
    fusion = kind(5, 4, 3)
    v, w, q = torch.randn(2, 5), torch.randn(2, 5), torch.randn(2, 4)
    nothing = fusion(torch.zeros(2, 5), q)
    torch.testing.assert_close(fusion(3 * v + w, q) - nothing, 3 * (fusion(v, q) - nothing) + fusion(w, q) - nothing)
    torch.testing.assert_close(fusion(v, -2 * q) - nothing, -2 * (fusion(v, q) - nothing))


@torch.no_grad()
def test_an_open_gate_lets_the_picture_through_and_a_closed_one_the_question():
    gate = Gate(5, 4, 3)
    gate.gate.weight.zero_()
    v, q = torch.randn(2, 5), torch.randn(2, 4)
    gate.gate.bias.fill_(50.0)
    torch.testing.assert_close(gate(v, q), gate.picture(v).tanh())
    gate.gate.bias.fill_(-50.0)
    torch.testing.assert_close(gate(v, q), gate.question(q).tanh())
