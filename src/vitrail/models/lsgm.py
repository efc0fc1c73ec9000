"""LSGM: an autoencoder whose latents have a diffusion for a prior, all of it trained together for the likelihood.

Vahdat, Kreis and Kautz, "Score-based Generative Modeling in Latent Space", NeurIPS 2021 (2106.05931). The paper's
autoencoder is a deep hierarchy of latents; this one has one grid of them, and the networks of its neighbours here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.diffusion import parameterisations
from vitrail.diffusion.cross_entropy import GeometricVP, cross_entropy, likelihood_weight, mixed
from vitrail.diffusion.denoiser import Denoiser, rows
from vitrail.diffusion.noise import Dice, noise_like
from vitrail.diffusion.schedules import geometric
from vitrail.errors import UsageError
from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from vitrail.models.ddpm import DDPM, DDPMConfig
from vitrail.models.generator import Generator, Usual
from vitrail.nn.patches import pair

Weighting = Literal["likelihood", "unweighted", "reweighted"]

AUTOENCODER = AutoencoderKLConfig(
    image_size=32, latent_channels=8, widths=(48, 96, 96), depth=1, groups=8, scaling_factor=1.0
)
PRIOR = DDPMConfig(image_size=8, channels=8, outputs=8, widths=(96, 192), depth=1, attention=(True, True), groups=8)

_STEPS = 1000.0  # what the prior's time is at t = 1


@dataclass(frozen=True)
class LSGMConfig:
    """The numbers of an LSGM; the defaults are for pictures of 32 pixels, whose latents are 8×8.

    Attributes:
        autoencoder: pictures to latents and back.
        prior: the network on latents; its pictures are those.
        variance_min: v_0, the variance of the noise where the prior's diffusion begins.
        variance_max: v_1, and where it ends.
        mixing: α at first, above 0 and below 1: how much of the prior is the network, and not the standard normal.
    """

    autoencoder: AutoencoderKLConfig = AUTOENCODER
    prior: DDPMConfig = PRIOR
    variance_min: float = 3e-5
    variance_max: float = 0.999
    mixing: float = 0.5

    def __post_init__(self) -> None:
        latent = self.autoencoder.latent_channels
        if not latent == self.prior.channels == self.prior.outputs:
            raise ValueError(
                f"latents have {latent} channels, and the prior takes {self.prior.channels} and gives "
                f"{self.prior.outputs}"
            )
        if not 0 < self.variance_min < self.variance_max < 1:
            raise ValueError(f"noise has a variance from {self.variance_min} to {self.variance_max}, not within (0, 1)")
        if not 0 < self.mixing < 1:
            raise ValueError(f"mixing starts at {self.mixing}, not within (0, 1)")

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side, or (height, width), of the pictures, in pixels."""
        return self.autoencoder.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.autoencoder.channels


class Bound(NamedTuple):
    """What bounds -log p(x) from above: -log p(x | z) + log q(z | x) - log p(z), the mean over z (eq. 3), in nats.

    Attributes:
        reconstruction: -log p(x | z), (B,).
        negative_entropy: the mean of log q(z | x), (B,).
        cross_entropy: of q(z | x) and the prior, (B,).
    """

    reconstruction: Tensor
    negative_entropy: Tensor
    cross_entropy: Tensor

    def total(self) -> Tensor:
        """The bound, (B,)."""
        return self.reconstruction + self.negative_entropy + self.cross_entropy


class LSGM(Generator):
    """p(x | z) by a decoder, q(z | x) by an encoder, and p(z) by a diffusion: figure 1."""

    family: ClassVar[str] = "lsgm"
    prompted: ClassVar[bool] = False
    config: LSGMConfig
    schedule: GeometricVP

    def __init__(self, config: LSGMConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = AutoencoderKL(config.autoencoder)
        self.prior = DDPM(config.prior)
        logit = math.log(config.mixing / (1 - config.mixing))
        self.mixing = nn.Parameter(torch.full((config.autoencoder.latent_channels,), logit))  # a logit a channel
        self.log_scale = nn.Parameter(torch.full((config.channels,), -2.0))  # of p(x | z), a channel of the picture
        self.schedule = GeometricVP(config.variance_min, config.variance_max)
        self.usual = Usual(num_steps=50, sampler="heun", guidance_scale=1.0, size=pair(config.image_size))
        self.head = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """What is left of pictures after a way through the latents' mean: (B, C, H, W) in [-1, 1] -> the same shape."""
        return self.autoencoder(images)

    def noise_in(self, noisy: Tensor, time: Tensor) -> Tensor:
        """ε_θ(z_t, t): latents (B, Z, h, w) at times (B,) from 0 to 1 -> the noise in them, by the mixed prior.

        The network says the velocity √(1 - v) ε - √v z_0 (Salimans and Ho 2022, 2202.00512, §4), whose squared error
        the likelihood weighting then counts alike at all times. It says 0 at first: then ε' = √v z_t, and the prior is
        the standard normal, whatever α is.
        """
        variance = self.schedule.variance(time)
        along = rows(variance, noisy)
        said = along.sqrt() * noisy + (1 - along).sqrt() * self.prior(noisy, _STEPS * time).float()
        return mixed(noisy, said, self.mixing.sigmoid()[:, None, None], variance)

    def bound(self, images: Tensor, time: Tensor, draw: Tensor, noise: Tensor) -> Bound:
        """A bound of -log p(x) in nats, each term a guess from one draw.

        Args:
            images: bytes scaled to [-1, 1], (B, C, H, W).
            time: where the prior is asked, (B,), evenly from [0, 1).
            draw: what chooses z of q(z | x), standard normal, (B, Z, h, w).
            noise: ε, standard normal, (B, Z, h, w).
        """
        return self._bound(images, time, draw, noise, None)[0]

    def loss(
        self,
        images: Tensor,
        time: Tensor,
        draw: Tensor,
        noise: Tensor,
        *,
        kl: float = 1.0,
        weighting: Weighting = "likelihood",
    ) -> Tensor:
        """What is minimised: its value is the bound in bits per dimension; its gradients are of two things (§3.3).

        Encoder, decoder and scale follow the bound, whose cross entropy has the likelihood weighting w_ll. The prior
        and its mixing follow ½ w(t) ‖ε - ε_θ‖² with a weighting of their own (eq. 9 and Table 1), which may care more
        for what pictures look like. Both come from one look of the prior, as in algorithm 3 of the paper: z_t is shown
        to it such that gradients for the encoder arrive as w_ll has them.

        Args:
            images, time, draw, noise: as `bound` takes them.
            kl: what log q(z | x) - log p(z) counts in the gradients of encoder and decoder; 1 is the bound.
            weighting: w(t) for the prior: "likelihood" g² / v, "unweighted" 1, "reweighted" g², with which
                w(t) ‖ε - ε_θ‖² is, up to a factor, the squared error of the z_0 that follows from ε_θ.

        Returns:
            ().
        """
        per_bit = images[0].numel() * math.log(2)
        per_latent = 2 * noise[0].numel()
        likelihood = likelihood_weight(time, self.schedule)
        variance = self.schedule.variance(time)
        own = {
            "likelihood": likelihood / self.schedule.span,
            "unweighted": torch.ones_like(time),
            "reweighted": likelihood * variance / self.schedule.span,
        }[weighting]
        wanted, given = kl * likelihood / (2 * per_bit), own / per_latent
        bound, error = self._bound(images, time, draw, noise, wanted / given)
        followed = (bound.reconstruction + kl * bound.negative_entropy) / per_bit + given * error
        value = (bound.total() / per_bit).mean().detach()
        followed = followed.mean()
        return followed + (value - followed.detach())

    @torch.no_grad()
    def bits(self, images: Tensor, *, looks: int = 16, dice: Dice = None) -> Tensor:
        """The bound in bits per dimension, the mean over several draws whose times are spread evenly.

        Args:
            images: bytes scaled to [-1, 1], (B, C, H, W).
            looks: how many draws.
            dice: of them: one generator, or one for each picture.

        Returns:
            (B,).
        """
        latents = images.new_empty(len(images), *self.latent_shape((images.shape[2], images.shape[3])))
        total = torch.zeros(len(images), device=images.device)
        for look in range(looks):
            place = torch.special.ndtr(noise_like(images.new_empty(len(images)), dice))  # even in (0, 1)
            draw, noise = noise_like(latents, dice), noise_like(latents, dice)
            total += self.bound(images, (look + place) / looks, draw, noise).total()
        return total / (looks * images[0].numel() * math.log(2))

    def condition(self, prompts: Sequence[str]) -> Any:
        """Nothing can be asked for.

        Raises:
            UsageError: always.
        """
        raise UsageError("an LSGM is not told what to make: leave the prompt out")

    def denoiser(self) -> Denoiser:
        """D(x, σ) of the prior, on latents (B, Z, h, w)."""
        return parameterisations.epsilon(lambda x, time, cond: self.noise_in(x, time.float()), self.schedule)

    def sigmas(self, num_steps: int, sampler: str) -> Tensor:
        """Noise levels with one ratio between neighbours, (num_steps + 1,)."""
        return geometric(self.schedule.sigma_min, self.schedule.sigma_max, num_steps)

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in [-1, 1] -> the mean of their latents (B, Z, h, w)."""
        return self.autoencoder.encode(images).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, Z, h, w) -> the likeliest pictures (B, C, H, W), beyond [-1, 1] where white or black is sure."""
        return self.autoencoder.decode(latents).float()

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Pictures' (height, width) -> (Z, h, w).

        Raises:
            UsageError: the latents' grid, or the prior's halving, does not divide them.
        """
        factor = self.config.autoencoder.factor
        grid = factor * 2 ** (len(self.config.prior.widths) - 1)
        height, width = size
        if not height or not width or height % grid or width % grid:
            raise UsageError(f"an LSGM makes pictures whose sides are multiples of {grid} pixels, not {width}×{height}")
        return self.config.autoencoder.latent_channels, height // factor, width // factor

    def _bound(
        self, images: Tensor, time: Tensor, draw: Tensor, noise: Tensor, strength: Tensor | None
    ) -> tuple[Bound, Tensor]:
        """The bound, and ‖ε - ε_θ‖² (B,), whose gradients with regard to latents are multiplied by `strength` (B,)."""
        posterior = self.autoencoder.posterior(images)
        mean, log_variance = posterior.mean.float(), posterior.log_variance.float()
        latents = mean + (log_variance / 2).exp() * draw
        said = self.autoencoder.decode(latents).float()
        reconstruction = -logistic_log_likelihood(images.float(), said, self.log_scale[:, None, None])
        negative_entropy = -0.5 * (1 + math.log(2 * math.pi) + log_variance)
        noisy = self.schedule.diffuse(latents, noise, time)
        if strength is not None:  # the value as it is, the gradient stronger
            noisy = noisy.detach() + rows(strength, noisy) * (noisy - noisy.detach())
        error = (noise - self.noise_in(noisy, time)).square().flatten(1).sum(1)
        entropy = cross_entropy(error, time, noise[0].numel(), self.schedule)
        return Bound(reconstruction.flatten(1).sum(1), negative_entropy.flatten(1).sum(1), entropy), error


def logistic_log_likelihood(images: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log of the share of a logistic distribution that falls into each byte's cell. Salimans et al. 2017 (1701.05517),
    eq. 2: the outermost cells reach to infinity.

    With a and b the cell's ends, σ(a) - σ(b) = σ(a) σ(-b) (1 - e^(b - a)), which loses nothing far from the mean.

    Args:
        images: bytes scaled to [-1, 1], (B, C, H, W).
        mean: of the same shape.
        log_scale: log s, of a shape that broadcasts to it.

    Returns:
        (B, C, H, W), in nats, at most 0.
    """
    inverse = (-log_scale).exp()
    upper, lower = (images - mean + 1 / 255) * inverse, (images - mean - 1 / 255) * inverse
    below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
    inside = below + above + torch.log(-torch.expm1(-2 / 255 * inverse))
    return torch.where(images < -0.999, below, torch.where(images > 0.999, above, inside))
