"""Transfer: a trained network put to work on other classes, by a new head, by a few added weights, or by all of them."""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from vitrail import registry
from vitrail.data.source import Batch, Data, to_tensor
from vitrail.errors import UsageError, VitrailError
from vitrail.evaluation.torchmetrics import _declare_missing_operators
from vitrail.imaging.inputs import Input
from vitrail.models.model import Model
from vitrail.nn.attention import Attention
from vitrail.training.average import Average
from vitrail.training.loop import Trainer
from vitrail.training.optimiser import build_optimiser
from vitrail.training.randomness import generator_for, seed_for
from vitrail.training.recipe import Recipe, parse_recipe
from vitrail.training.run import RunFolder

Example = tuple[Input, int]
"""A picture that has not been opened yet, and the number of its class."""

Advance = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

STRENGTHS = tuple(10 ** (exponent / 2) for exponent in range(0, -13, -1))
"""The strengths of a probe's penalty that are tried, from the strongest on."""

RANK = 8
"""Of the matrices that LoRA adds."""

LEARNING_RATES = {"lora": 1e-3, "full": 1e-4}
"""The highest learning rates that are taken unless said."""


def with_classes(model: Model, labels: Sequence[str]) -> Model:
    """The same network with another head, which says nothing yet: all its weights are zero.

    Everything in front of the head is shared with `model`, whose weights stay as they are. A DeiT loses the head of its
    distillation token, for there is no teacher.

    Args:
        model: of any family that has a head, with or without one.
        labels: the names of the classes.

    Raises:
        UsageError: a family that has no head.
    """
    if not hasattr(model.config, "classes"):
        raise UsageError(f"the family {model.family} has no head to put classes on")
    changes: dict[str, Any] = {"classes": len(labels)}
    if hasattr(model.config, "distillation_head"):
        changes["distillation_head"] = False
    with torch.device("meta"):
        changed = registry.FAMILIES[model.family].load_model()(replace(model.config, **changes))
    state, weights = changed.state_dict(), model.state_dict()
    like = next(model.parameters())
    for name, tensor in state.items():
        head = name.startswith("head.")
        state[name] = torch.zeros(tensor.shape, dtype=like.dtype, device=like.device) if head else weights[name]
    changed.load_state_dict(state, assign=True)
    changed.preprocess, changed.labels = model.preprocess, tuple(labels)
    return changed.eval()


@dataclass(frozen=True)
class Probe:
    """A linear map from pooled vectors to logits.

    Attributes:
        weight: (classes, D) float32.
        bias: (classes,) float32.
        strength: λ, of the penalty λ / 2 · ‖W‖² on the weights for standardised vectors.
    """

    weight: Tensor
    bias: Tensor
    strength: float


def fit_probe(vectors: Tensor, targets: Tensor, classes: int, *, seed: int = 0) -> Probe:
    """Multinomial logistic regression on vectors as they are, by L-BFGS.

    Each number of a vector is standardised first, and the map that is found takes that into itself. The strength of the
    penalty is the one, from the strongest on, that leaves the least cross-entropy on a fifth of each class that is kept
    aside; then all vectors are fitted. The procedure is that of Radford et al. 2021 (2103.00020), appendix A.3, but for
    the standardising, and for the cross-entropy where they look at the accuracy.

    Args:
        vectors: (N, D) float32.
        targets: (N,) int64, class numbers; each class has one vector at least.
        classes: how many there are.
        seed: of what is kept aside.
    """
    mean, spread = vectors.mean(0), vectors.std(0, correction=0)
    scale = torch.where(spread > 1e-6 * spread.max(), 1 / spread, 0)  # a number that never varies tells nothing
    inputs = (vectors - mean) * scale
    strength = _best_strength(inputs, targets, classes, seed)
    weight, bias = _fit(inputs, targets, strength, _nothing(inputs, classes))
    weight = weight * scale
    return Probe(weight, bias - weight @ mean, strength)


def stratified(targets: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of what is kept and of what is held out, (K,) and (H,) int64: the same share of each class.

    Of a class of two or more, one at least is held out and one at least is kept; a class of one is kept.

    Args:
        targets: (N,) class numbers.
        fraction: how much is held out, between 0 and 1.
        seed: another seed holds out others.
    """
    kept, held = [], []
    for number in targets.unique().tolist():
        own = (targets == number).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=generator_for(seed, "held out", number))]
        count = min(max(1, round(fraction * len(own))), len(own) - 1)
        held.append(own[:count])
        kept.append(own[count:])
    return torch.cat(kept).sort().values, torch.cat(held).sort().values


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

    Start from a head that was probed, as in Kumar et al. 2022 (2202.10054), §4: the gradients of one that says nothing would
    first of all undo what the network knows. Batch norms keep their statistics.

    Args:
        network: see `with_classes`; it stays as it is.
        examples: what it is trained on.
        method: "full" trains all weights; "lora" trains the head, and for each linear map in front of it a product of two
            thin matrices that is added to it and, in the end, merged with it (Hu et al. 2021, 2106.09685, eq. 3).
        epochs: how often each picture is looked at.
        lr: the highest learning rate; that of `LEARNING_RATES` unless said.
        batch_size: pictures an update.
        seed: of the order of the pictures, their augmentation, and LoRA's first weights.
        advance: told after each update.

    Returns:
        The network, in eval mode, with the same names for its weights.

    Raises:
        UsageError: numbers that make no sense, a network that takes pictures of varying sizes or without colours, or "lora" for one
            without attention.
        ImageError: a picture cannot be opened.
        VitrailError: a library is missing, or the loss is infinite.
    """
    if network.preprocess.output_size is None or network.preprocess.mode != "RGB":
        raise UsageError("only networks that take RGB pictures of one size can be tuned: use the method probe")
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


def add_adapters(network: Model, rank: int = RANK) -> None:
    """Add LoRA's two matrices to every linear map in front of the head; they and the head are all that is trained.

    Raises:
        UsageError: the network has no attention.
        VitrailError: peft is not installed.
    """
    if not any(isinstance(module, Attention) for module in network.modules()):
        raise UsageError(
            f"lora adapts the linear maps of transformers, and {network.family} is none: use probe or full"
        )
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
    """The loop on a network that is there already. It writes nothing, and scores nothing: that is done on what comes of it."""

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
    """A network behind what turns the pictures that the loop gives, in [-1, 1], into those that its preprocessing would."""

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


def _best_strength(inputs: Tensor, targets: Tensor, classes: int, seed: int) -> float:
    kept, held = stratified(targets, 0.2, seed)
    if not len(held):
        return 1.0  # one picture a class: there is nothing to choose by
    best, least, found = STRENGTHS[0], math.inf, _nothing(inputs, classes)
    for strength in STRENGTHS:
        found = _fit(inputs[kept], targets[kept], strength, found)
        loss = float(F.cross_entropy(F.linear(inputs[held], *found), targets[held]))
        if loss < least:
            best, least = strength, loss
        elif strength < best / 5:  # past its best
            break
    return best


def _nothing(inputs: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(classes, inputs.shape[1]), torch.zeros(classes)


def _fit(inputs: Tensor, targets: Tensor, strength: float, start: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of the least cross-entropy and penalty, found from a start."""
    weight, bias = (tensor.clone().requires_grad_() for tensor in start)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=100, tolerance_grad=1e-4, tolerance_change=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(F.linear(inputs, weight, bias), targets) + strength / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.inference_mode(False), torch.enable_grad():
        optimiser.step(loss)
    return weight.detach(), bias.detach()


def _accelerator(device: torch.device) -> Any:
    """Accelerate's, for the kind of device that the network is on."""
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise VitrailError("tuning needs Accelerate: pip install 'vitrail[train]'") from None
    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run of this process may have been elsewhere
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if half else "no")


def _import_peft() -> Any:
    _declare_missing_operators()  # peft imports transformers, which imports torchvision where that is installed
    try:
        import peft
    except ImportError:
        raise VitrailError("lora needs peft: pip install 'vitrail[train]'") from None
    return peft
