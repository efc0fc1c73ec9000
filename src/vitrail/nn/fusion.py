"""Ways to make one vector of a picture's and a question's: their sum, their outer product, a gate between them.

All of them take v (B, D_v) and q (B, D_q), and give (B, D_o). Costs are a pair's, in multiplications.
"""

import torch
from torch import Tensor, nn


class Sum(nn.Module):
    """tanh(W_v v + W_q q + b): each says what it has to say, whatever the other says.

    Weights and multiplications: (D_v + D_q) · D_o. A linear map of v and q joined end to end is the same.

    Args:
        picture, question, out: D_v, D_q and D_o.
    """

    def __init__(self, picture: int, question: int, out: int) -> None:
        super().__init__()
        self.picture = nn.Linear(picture, out)
        self.question = nn.Linear(question, out, bias=False)

    def forward(self, picture: Tensor, question: Tensor) -> Tensor:
        """(B, D_v) and (B, D_q) -> (B, D_o), in [-1, 1]."""
        return (self.picture(picture) + self.question(question)).tanh()


class OuterProduct(nn.Module):
    """W vec(v qᵀ) + b: every number of the one times every number of the other.

    Output k is vᵀ W_k q + b_k, which is bilinear: what v is asked for is any linear function of q. Kim et al. 2017
    (1610.04325), eq. 1. Weights and multiplications: D_v · D_q · D_o, and the products themselves.

    Args:
        picture, question, out: D_v, D_q and D_o.
    """

    def __init__(self, picture: int, question: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(picture * question, out)

    def forward(self, picture: Tensor, question: Tensor) -> Tensor:
        """(B, D_v) and (B, D_q) -> (B, D_o)."""
        return self.linear((picture[:, :, None] * question[:, None]).flatten(1))


class FactorisedOuterProduct(nn.Module):
    """P (U v ∘ V q) + b: the outer product, where the tensor of its weight has rank R at most.

    W_kij = Σ_r P_kr U_ri V_rj. Low-rank bilinear pooling: Kim et al. 2017 (1610.04325), eq. 3. Weights and
    multiplications: (D_v + D_q + D_o) · R, which grows with the widths and not with their product.

    Compact bilinear pooling (Fukui et al. 2016, 1606.01847, §3.1) is of the same form, with a U and a V that are drawn
    at random and never learned: count sketches of v and q, and the Fourier transform, in which the sketch of their
    outer product is the product of their sketches. P, learned, takes it back. So it needs a large R (16,000 there),
    where learned factors do with a small one (1,200 in Kim et al.).

    Args:
        picture, question, out: D_v, D_q and D_o.
        rank: R.
    """

    def __init__(self, picture: int, question: int, out: int, rank: int) -> None:
        super().__init__()
        self.picture = nn.Linear(picture, rank, bias=False)
        self.question = nn.Linear(question, rank, bias=False)
        self.out = nn.Linear(rank, out)
        for factor in (self.picture, self.question):  # so that their products are as large as those of v and q
            nn.init.normal_(factor.weight, std=factor.in_features**-0.5)

    def forward(self, picture: Tensor, question: Tensor) -> Tensor:
        """(B, D_v) and (B, D_q) -> (B, D_o)."""
        return self.out(self.picture(picture) * self.question(question))


class Gate(nn.Module):
    """The gated multimodal unit: each output says how much of it the picture decides, and the question the rest.

    Arevalo et al. 2017 (1702.01992), eq. 1-5: h_v = tanh(W_v v), h_q = tanh(W_q q), z = σ(W_z [v, q]) and
    h = z ∘ h_v + (1 - z) ∘ h_q. Weights and multiplications: 2 · (D_v + D_q) · D_o.

    Args:
        picture, question, out: D_v, D_q and D_o.
    """

    def __init__(self, picture: int, question: int, out: int) -> None:
        super().__init__()
        self.picture = nn.Linear(picture, out)
        self.question = nn.Linear(question, out)
        self.gate = nn.Linear(picture + question, out)

    def forward(self, picture: Tensor, question: Tensor) -> Tensor:
        """(B, D_v) and (B, D_q) -> (B, D_o), in [-1, 1]."""
        share = self.gate(torch.cat([picture, question], 1)).sigmoid()
        return torch.lerp(self.question(question).tanh(), self.picture(picture).tanh(), share)
