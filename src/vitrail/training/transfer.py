"""Transfer: a network that has the right head already, trained further, by a few added weights or by all of its own.

Its loop is that of every recipe. What is here is a recipe for it, LoRA, and how the loop gets a network that is there.
"""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from torch import Tensor, nn

from vitrail import registry
from vitrail.data.source import Batch, Data, to_tensor
from vitrail.errors import UsageError, VitrailError
from vitrail.evaluation.torchmetrics import declare_missing_operators
from vitrail.imaging.inputs import Input
from vitrail.models.model import Model
from vitrail.nn.attention import Attention
from vitrail.training.average import Average
from vitrail.training.loop import Trainer
from vitrail.training.optimiser import build_optimiser
from vitrail.training.randomness import seed_for
from vitrail.training.recipe import Recipe, parse_recipe
from vitrail.training.run import RunFolder

Example = tuple[Input, int]
"""A picture that has not been opened yet, and the number of its class."""

Advance = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

RANK = 8
"""Of the matrices that LoRA adds."""

LEARNING_RATES = {"lora": 1e-3, "full": 1e-4}
"""The highest learning rates that are taken unless said."""


def tune(
    network: Model,
    examples: Sequence[Example],
    *,
    method: Literal["lora", "full"],
    epochs: int = 10,
    lr: float | None = None,
    batch_size: int = 32,
    seed: int = 0,
    advance: Advance | None = None,
) -> Model:
    """Train a copy of a network that has the right head already, by the same loop as any recipe.

    Start from a head that was probed, as Kumar et al. 2022 (2202.10054) do (§3.4): the gradients of one that says
    nothing would first of all undo what the network knows. Batch norms keep their statistics.

    Args:
        network: see `vitrail.tasks.probe.with_classes`; it stays as it is.
        examples: what it is trained on.
        method: "full" trains all weights; "lora" trains the head, and for each linear map in front of it a product of
            two thin matrices that is added to it and, in the end, merged with it (Hu et al. 2021, 2106.09685, eq. 3).
        epochs: how often each picture is looked at.
        lr: the highest learning rate; that of `LEARNING_RATES` unless said.
        batch_size: pictures an update.
        seed: of the order of the pictures, their augmentation, and LoRA's first weights.
        advance: told after each update.

    Returns:
        The network, in eval mode, with the same names for its weights.

    Raises:
        UsageError: numbers that make no sense, a network that takes pictures of varying sizes or without colours, or
            "lora" for one without attention.
        ImageError: a picture cannot be opened.
        VitrailError: a library is missing, or the loss is infinite.
    """
    check_tunable(network, method)
    recipe = _recipe(network, len(examples), epochs, lr or LEARNING_RATES[method], batch_size, seed)
    tuned = _copied(network)
    if method == "lora":
        torch.manual_seed(seed_for(seed, "adapters"))
        add_adapters(tuned)
    assert network.labels is not None
    source = _Examples(examples, network)
    data = Data(source, source, network.labels, many=False, split="")
    with tempfile.TemporaryDirectory(prefix="vitrail-") as folder:
        _Tuner(tuned, recipe, data, RunFolder(Path(folder)), advance).run()
    if method == "lora":
        merge_adapters(tuned)
    return tuned.requires_grad_(True).to(next(network.parameters()).device).eval()


def check_tunable(network: Model, method: Literal["lora", "full"]) -> None:
    """Whether `tune` can be called with this network, said before any work is done.

    Raises:
        UsageError, VitrailError: as `tune`.
    """
    if network.preprocess.output_size is None or network.preprocess.mode != "RGB":
        raise UsageError("only networks that take RGB pictures of one size can be tuned: use the method probe")
    if method == "lora":
        if not any(isinstance(module, Attention) for module in network.modules()):
            raise UsageError(
                f"lora adapts the linear maps of transformers, and {network.family} is none: use probe or full"
            )
        _import_peft()


def add_adapters(network: Model, rank: int = RANK) -> None:
    """Add LoRA's two matrices to every linear map in front of the head; they and the head are all that is trained.

    Args:
        network: a transformer.
        rank: of their product.
    """
    peft = _import_peft()
    maps = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and name != "head"]
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=maps), network)
    network.head.requires_grad_(True)


def merge_adapters(network: Model) -> None:
    """Add what the adapters learned to the maps that they belong to, and remove them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, module.get_base_layer())


class _Tuner(Trainer):
    """The loop on a network that is there already. It writes and scores nothing: what comes of it is scored later."""

    def __init__(self, network: Model, recipe: Recipe, data: Data, folder: RunFolder, advance: Advance | None) -> None:
        accelerator = _accelerator(next(network.parameters()).device)
        super().__init__(recipe, data, folder, accelerator)
        accelerator.free_memory()
        whole = _FromLoop(network)
        self.model, self.optimiser = accelerator.prepare(whole, build_optimiser(whole, recipe.optimiser))
        self.network, self.average = whole, Average(whole, recipe.ema)
        self.main = False  # the process that would write
        self.advance = advance

    def update(self, step: int, parts: Any) -> Tensor:
        """As in the loop, and told."""
        loss = super().update(step, parts)
        if self.advance:
            self.advance("training", step + 1, self.recipe.steps)
        return loss

    def evaluate(self, step: int) -> dict[str, float]:
        """Nothing."""
        return {}

    def export(self) -> None:
        """Nothing."""


class _FromLoop(nn.Module):
    """A network behind what turns pictures as the loop gives them, in [-1, 1], into those of its preprocessing."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Model) -> None:
        super().__init__()
        self.network = network
        pixels = replace(network.preprocess, resize=None, crop=None)
        black, white = pixels([Image.new("RGB", (1, 1), colour) for colour in ("black", "white")])
        self.register_buffer("scale", (white - black) / 2, persistent=False)
        self.register_buffer("shift", (white + black) / 2, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> logits (B, classes)."""
        return self.network(images * self.scale + self.shift)

    def train(self, mode: bool = True) -> "_FromLoop":
        """Training mode, but for batch norms: a few small batches know less of a picture's statistics than they do."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class _Examples:
    """Pictures as the network's preprocessing leaves them before any arithmetic, opened whenever they are looked at."""

    def __init__(self, examples: Sequence[Example], network: Model) -> None:
        self.inputs = [input for input, _ in examples]
        self.targets = torch.tensor([target for _, target in examples])
        self.preprocess = network.preprocess

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `vitrail.data.source.Source`."""

        def look(index: int) -> Image.Image:
            return self.preprocess.picture(self.inputs[index].open())

        with ThreadPoolExecutor(4) as pool:
            pictures = list(pool.map(look, indices.tolist()))
        return {"images": to_tensor(pictures), "targets": self.targets[indices]}


def _recipe(network: Model, pictures: int, epochs: int, lr: float, batch_size: int, seed: int) -> Recipe:
    """What the loop is to do."""
    for name, value in (("epochs", epochs), ("batch size", batch_size)):
        if value < 1:
            raise UsageError(f"the {name} must be at least 1, not {value}")
    steps = math.ceil(epochs * pictures / batch_size)
    config = {key: value for key, value in dataclasses.asdict(network.config).items() if key != "classes"}
    half = next(network.parameters()).device.type == "cuda" and torch.cuda.is_bf16_supported()
    raw = {
        "name": "finetune",
        "seed": seed,
        "model": {"family": network.family, **config},
        "data": {"source": "folder", "path": "."},  # listed and split already
        "objective": {"name": "classification"},
        "augmentation": {"rotate": 10, "translate": 0.1, "scale": [0.8, 1.2], "colour": 0.2},
        "optimiser": {"lr": lr},
        "schedule": {"warmup": steps // 10},
        "steps": steps,
        "batch_size": batch_size,
        "precision": "bf16" if half else "fp32",
    }
    return parse_recipe(raw, "the tuning")


def _copied(network: Model) -> Model:
    """The same network with weights of its own."""
    with torch.device("meta"):
        copied = registry.FAMILIES[network.family].load_model()(network.config)
    copied.load_state_dict({name: tensor.clone() for name, tensor in network.state_dict().items()}, assign=True)
    copied.preprocess, copied.labels = network.preprocess, network.labels
    return copied.requires_grad_(True)


def _accelerator(device: torch.device) -> Accelerator:
    """Accelerate's, for the kind of device that the network is on."""
    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run of this process may have been elsewhere
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if half else "no")


def _import_peft() -> Any:
    declare_missing_operators()  # peft imports transformers, which imports torchvision where that is installed
    try:
        import peft
    except ImportError:
        raise VitrailError("lora needs peft: pip install 'vitrail[train]'") from None
    return peft
