"""Draw pictures from fewer numbers than they have: what is minimised for that, and how well it does."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from vitrail.data.source import Batch, Data
from vitrail.errors import UsageError
from vitrail.evaluation.classification import Scores
from vitrail.evaluation.generation import box_encoder
from vitrail.evaluation.reconstruction import ReconstructionScores
from vitrail.models.autoencoder import Autoencoder
from vitrail.models.autoencoder_kl import AutoencoderKL
from vitrail.models.model import Model
from vitrail.models.vq_autoencoder import VQAutoencoder
from vitrail.nn.patches import pair
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, Trainable, network_of
from vitrail.training.sheet import picture_sheet

Weight = Annotated[float, Field(ge=0)]


class AutoencodingSection(Objective):
    """The absolute error of what a picture becomes on its way through the latents, and what keeps these in order.

    Rombach et al. 2022 (2112.10752), §3.1 and appendix G, without their discriminator. The latents of a KL autoencoder
    are drawn and held near the normal Gaussian; those of a VQ autoencoder and its codebook are drawn together (van den
    Oord et al. 2017, 1711.00937, eq. 3).

    Attributes:
        kl: what the divergence from the normal Gaussian, in nats a latent, counts beside it; of a KL autoencoder.
        codebook: what the loss of eq. 3 counts beside it; of a VQ autoencoder.
        perceptual: what the squared error in the tokens of the box's own encoder, `emoji/vit-nano`, counts beside it:
            the perceptual loss of Johnson et al. 2016 (1603.08155), §3.2, of a network that knows emoji.
        edges: what the absolute error of the differences between neighbours counts beside it, in the pictures and in
            pictures of half the size: colours that are a little off cost little, and edges that are blurred much.
        crop: side of the squares, cut out at random, that are learned from instead of whole pictures, in pixels: an
            autoencoder without attention is the same everywhere, and four times as many pictures of half the side take
            as long. The norms, which see all of a picture, have to be told of whole ones afterwards.
    """

    name: Literal["autoencoding"]
    kl: Weight = 1e-4
    codebook: Weight = 1.0
    perceptual: Weight = 0.0
    edges: Weight = 0.0
    crop: Annotated[int, Field(ge=1)] | None = None

    @property
    def makes(self) -> bool:
        """Whether networks learn to make pictures."""
        return True

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained.

        Raises:
            UsageError: the network is no autoencoder.
        """
        if not isinstance(model, Autoencoder):
            raise UsageError(
                f"objective.name is 'autoencoding', which {model.family} is not trained by: use autoencoder-kl or "
                "vq-autoencoder"
            )
        return Autoencoding(model, self)

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch of prepared pictures (B, 3, H, W) forwards and backwards.

        Returns:
            The loss, (), detached.
        """
        return passes.learn(batch["images"])

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], Tensor]:
        """What gives prepared pictures (B, 3, H, W) as they come back and as they were: (B, 2, 3, H, W) float32."""
        network = network_of(model)

        def answer(images: Tensor, batch: Batch) -> Tensor:
            return torch.stack([network.decode(network.encode(images)).float().clamp(-1, 1), images], 1)

        return answer

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers these pairs, and scores them."""
        return ReconstructionScores()

    def sheet(self, batch: Batch, outputs: Sequence[Tensor], data: Data, title: str) -> Image.Image:
        """The pictures beside what comes back of them."""
        return picture_sheet([[was, back] for back, was in outputs], [""] * len(outputs), title)


class Autoencoding(Trainable):
    """An autoencoder and its loss in one forward pass.

    Args:
        network: what is left when training is over.
        section: what the loss is.
    """

    network: Autoencoder

    def __init__(self, network: Autoencoder, section: AutoencodingSection) -> None:
        super().__init__(network)
        self.section = section
        # Convolutions as narrow as a nano network's train one and a half times as fast so.
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stubs do not know it

    def forward(self, images: Tensor) -> Tensor:
        """Prepared pictures (B, 3, H, W) -> the loss, ()."""
        network, section = self.network, self.section
        if section.crop is not None:
            images = _cut(images, section.crop, network.config.factor)
        if isinstance(network, AutoencoderKL):
            posterior = network.posterior(images)
            latents = posterior.sample()
            back, order = network.decode(latents), section.kl * posterior.kl().mean() / latents[0].numel()
        else:
            assert isinstance(network, VQAutoencoder)
            back, quantised = network(images)
            order = section.codebook * quantised.loss
        loss = F.l1_loss(back.float(), images) + order
        if section.edges:
            loss = loss + section.edges * edge_error(back.float(), images)
        if section.perceptual:
            loss = loss + section.perceptual * perceptual(back, images)
        return loss


def _cut(images: Tensor, side: int, step: int) -> Tensor:
    """The same square of all pictures (B, 3, H, W), from a place on the grid of latents that is drawn anew each time.

    Raises:
        UsageError: a picture has no such square.
    """
    height, width = images.shape[2:]
    if side > min(height, width) or side % step:
        raise UsageError(
            f"objective.crop is {side}: pictures of {width}×{height} pixels have squares of multiples of {step}"
        )
    rows, columns = ((size - side) // step + 1 for size in (height, width))
    top, left = int(torch.randint(rows, ())) * step, int(torch.randint(columns, ())) * step
    return images[:, :, top : top + side, left : left + side].contiguous()


def edge_error(made: Tensor, real: Tensor) -> Tensor:
    """The mean absolute error of the differences between neighbours, over both directions and two scales, summed: ().

    Args:
        made, real: (B, 3, H, W) in [-1, 1].
    """
    error = made.new_zeros(())
    for wrong in (made - real, F.avg_pool2d(made - real, 2)):  # all of this is linear
        error = error + wrong.diff(dim=2).abs().mean() + wrong.diff(dim=3).abs().mean()
    return error


def perceptual(made: Tensor, real: Tensor) -> Tensor:
    """The mean squared error of two sets of pictures in the tokens of the box's own encoder, which are normed: ().

    Args:
        made, real: (B, 3, H, W) in [-1, 1]; gradients flow to the first.
    """
    encoder = box_encoder(made.device)
    size = pair(encoder.config.image_size)

    def tokens(images: Tensor) -> Tensor:
        scaled = F.interpolate(images.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
        return encoder.features(scaled).float()

    with torch.no_grad():
        wanted = tokens(real)
    return F.mse_loss(tokens(made), wanted)
