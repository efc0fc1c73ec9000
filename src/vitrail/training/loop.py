"""The loop: from a recipe to a trained, scored and saved network, on one core or on many machines.

Every update is a pure function of the weights, the optimiser's state, the seed and the number of the update; see
`vitrail.training.randomness` for how, and `vitrail.training.checkpoint` for what that buys. Accelerate does the
distributing.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from vitrail.checkpoints.load import load
from vitrail.checkpoints.save import save
from vitrail.data.source import Batch, Data, Prompts, Quiz, Source, Talks, Texts, normalise, scaling
from vitrail.engines.threads import limit_threads
from vitrail.errors import UsageError, VitrailError
from vitrail.models.clip import CLIP
from vitrail.models.clip_text import text_tower
from vitrail.models.model import Model
from vitrail.models.vit import ViT
from vitrail.models.vqa import VQA
from vitrail.text.tokenizer import Tokenizer
from vitrail.training.augment import Augmentation
from vitrail.training.average import Average
from vitrail.training.batches import Batches, loader
from vitrail.training.checkpoint import read_checkpoint, write_checkpoint
from vitrail.training.family import build_model, makes_pictures, picture_size, reads_texts, text_of
from vitrail.training.optimiser import build_optimiser, is_head, learning_rate
from vitrail.training.passes import Passes, network_of
from vitrail.training.progress import Progress
from vitrail.training.randomness import seed_for, shuffled
from vitrail.training.recipe import Recipe, load_recipe
from vitrail.training.run import Run, RunFolder
from vitrail.training.sharding import whole


def train(recipe: Recipe, *, output: str | Path | None = None, resume: bool = True) -> Run:
    """Train what a recipe says, or go on where a run of it was interrupted.

    Under `accelerate launch` every process calls this, and they share the work.

    Args:
        recipe: what `load_recipe` returns.
        output: the run's folder; "runs/NAME" unless said.
        resume: go on from the newest checkpoint in the folder; False discards what a run left there and starts over.

    Returns:
        The finished run. One that was finished already is not run again.

    Raises:
        UsageError: the recipe does not fit the data or the number of processes, or the folder holds a run of another
            one.
        VitrailError: the data or a library is missing, or the disk is full.
    """
    folder = RunFolder(Path(output or Path("runs") / recipe.name))
    data = open_data(recipe)
    accelerator = _accelerator(recipe)
    folder.check(recipe if resume else None)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if not resume:
            folder.start_over()
        folder.start(recipe)
        if (said := data.texts or data.talks or data.quiz or data.prompts) and not folder.tokenizer.is_file():
            folder.write_tokenizer(_tokenizer_for(recipe, said))
    accelerator.wait_for_everyone()
    trainer = Trainer(recipe, data, folder, accelerator)
    return trainer.run()


def evaluate(run: str | Path) -> Run:
    """Score a finished run's network anew, in float32 and from its exported file.

    Args:
        run: the run's folder.

    Raises:
        UsageError: there is no finished run in the folder.
    """
    folder = RunFolder(Path(run))
    if not folder.model.is_file() or not folder.recipe.is_file():
        raise UsageError(f"{folder.path} holds no finished run: `vitrail train` makes one")
    recipe = load_recipe(folder.recipe)
    data = open_data(recipe)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load(str(folder.model), device=device)
    if (data.quiz or not model.reads) and model.labels != data.labels:
        raise UsageError(f"the data has changed since {folder.path} was trained: its classes are others now")
    scores = recipe.objective.scores(data, device)
    with torch.inference_mode():
        answer = recipe.objective.answering(model, data)
        for batch, _ in _test_batches(data.test, recipe.evaluation.batch_size, 0, 1):
            scores.update(answer(normalise(batch["images"].to(device)), batch), batch["targets"].to(device))
    return Run(folder.path, recipe.name, recipe.steps, data.split, scores.compute())


def open_data(recipe: Recipe) -> Data:
    """The recipe's data, checked against its model and objective.

    Raises:
        UsageError: they do not fit.
    """
    data = recipe.data.open(picture_size(recipe.model.config()))
    said = f"objective.name is '{recipe.objective.name}', but "
    if (data.texts is not None) != recipe.objective.reads:
        come = "without texts" if data.texts is None else "with texts"
        raise UsageError(f"{said}the pictures of data.source '{recipe.data.source}' come {come}")
    if data.many != recipe.objective.many:
        shows = "several classes" if data.many else "one class"
        raise UsageError(f"{said}a picture of data.source '{recipe.data.source}' shows {shows}")
    if data.mapped != (recipe.objective.name == "patches"):
        raise UsageError(f"{said}data.targets says what {'each pixel' if data.mapped else 'a whole picture'} shows")
    if (data.talks is not None) != (recipe.objective.name == "talking"):
        are = "no conversations" if data.talks is None else "conversations"
        raise UsageError(f"{said}data.source '{recipe.data.source}' holds {are}")
    if (data.quiz is not None) != (recipe.objective.name == "answering"):
        asks = "asks nothing" if data.quiz is None else "asks questions"
        raise UsageError(f"{said}data.source '{recipe.data.source}' {asks}")
    if (data.senses is not None) != (recipe.objective.name == "sensing"):
        come = "no films and sounds" if data.senses is None else "films and sounds"
        raise UsageError(f"{said}with the pictures of data.source '{recipe.data.source}' come {come}")
    if (data.prompts is not None) != (recipe.objective.name == "imagining"):
        come = "without prompts" if data.prompts is None else "with prompts"
        raise UsageError(f"{said}the pictures of data.source '{recipe.data.source}' come {come}")
    if reads_texts(recipe.model.family) != recipe.objective.reads:
        do = "read no texts" if recipe.objective.reads else "name no classes"
        raise UsageError(f"{said}networks of model.family '{recipe.model.family}' {do}")
    if (recipe.model.family == VQA.family) != (recipe.objective.name == "answering"):
        do = "choose no answers" if recipe.objective.name == "answering" else "choose answers"
        raise UsageError(f"{said}networks of model.family '{recipe.model.family}' {do}")
    if makes_pictures(recipe.model.family) != recipe.objective.makes:
        do = "make no pictures" if recipe.objective.makes else "make pictures, and say nothing of them"
        raise UsageError(f"{said}networks of model.family '{recipe.model.family}' {do}")
    if data.labels and data.texts is None:
        recipe.model.config(len(data.labels))
    return data


class Trainer:
    """A run in one process.

    Args:
        recipe: what to do.
        data: opened.
        folder: the run's.
        accelerator: Accelerate's, of this process.
    """

    def __init__(self, recipe: Recipe, data: Data, folder: RunFolder, accelerator: Accelerator) -> None:
        self.recipe, self.data, self.folder, self.accelerator = recipe, data, folder, accelerator
        self.main, self.device = accelerator.is_main_process, accelerator.device
        parts = recipe.accumulate * accelerator.num_processes
        if recipe.batch_size % parts:
            raise UsageError(
                f"batch_size {recipe.batch_size} cannot be shared by {accelerator.num_processes} processes, each with "
                f"accumulate {recipe.accumulate} equal parts"
            )
        self.batches = Batches(
            data.train, recipe.batch_size // parts, recipe.seed, accelerator.process_index, accelerator.num_processes
        )
        self.tokenizer = folder.read_tokenizer() if data.texts or data.talks or data.quiz or data.prompts else None
        chooses = data.quiz is not None or self.tokenizer is None
        self.config = recipe.model.config(len(data.labels) if chooses else None, self.tokenizer)
        torch.manual_seed(seed_for(recipe.seed, "weights"))
        model = build_model(recipe.model.family, self.config)
        self._describe(model)
        for start in recipe.starts:
            start_from(model, start)
        if not accelerator.is_fsdp2:  # which shares no weights that lie so; convolutions are nearly twice as fast
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs do not know it
        trainable = recipe.objective.trainable(model)
        freeze(model, recipe.freeze)
        optimiser = build_optimiser(model, recipe.optimiser)
        if accelerator.is_fsdp2 and any(weight.ndim == 0 for weight in model.parameters()):
            raise UsageError(f"FSDP2 cannot share {model.family}, which has weights that are single numbers: use DDP")
        # Accelerate would place copies of the groups on the device, which two optimisers in one would not know of.
        self.model, self.optimiser = accelerator.prepare(trainable, optimiser, device_placement=[True, False])
        self.network: nn.Module = network_of(self.model)
        self.average = Average(self.network, recipe.ema)
        self.augmentation = Augmentation(recipe.augmentation, len(data.labels))

    def run(self) -> Run:
        """All updates that are still to be made, and what comes after the last."""
        recipe, step = self.recipe, 0
        if latest := self.folder.latest():
            step = read_checkpoint(latest, self.network, self.average, self.optimiser.optimizer)
        if self.main:
            self.folder.forget_after(step)
        scores: dict[str, float] = {}
        with Progress(recipe, self.folder, step, visible=self.main) as progress:
            parts = iter(
                loader(
                    self.batches,
                    range(step * recipe.accumulate, recipe.steps * recipe.accumulate),
                    recipe.workers,
                    self.device,
                )
            )
            losses: list[Tensor] = []
            while step < recipe.steps:
                losses.append(self.update(step, parts))
                step += 1
                last, due = step == recipe.steps, step % recipe.checkpoint.every == 0
                progress.advance()
                # A window of losses ends at every checkpoint, so that the one after it is whole in a resumed run, too.
                if last or due or step % recipe.log_every == 0:
                    self._log(progress, step, losses)
                    losses = []
                if last or step % recipe.evaluation.every == 0:
                    scores = self.evaluate(step)
                    progress.scores(step, scores)
                if last or due:
                    write_checkpoint(
                        self.folder.checkpoints,
                        step,
                        self.network,
                        self.average,
                        self.optimiser.optimizer,
                        keep=recipe.checkpoint.keep,
                        main=self.main,
                    )
        updated = bool(scores)
        scores = scores or self.evaluate(step)  # where nothing was left to do
        if updated or not self.folder.model.is_file():
            self.export()
        self.accelerator.wait_for_everyone()
        return Run(self.folder.path, recipe.name, step, self.data.split, scores)

    def update(self, step: int, parts: Iterator[Batch]) -> Tensor:
        """One update of the weights; its loss, the mean over this process's pictures, ()."""
        recipe, accelerator = self.recipe, self.accelerator
        self.model.train()
        rate = learning_rate(step, recipe.steps, recipe.optimiser.lr, recipe.schedule)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        total, passes = torch.zeros((), device=self.device), Passes(self.model, accelerator)
        for part in range(recipe.accumulate):
            torch.manual_seed(seed_for(recipe.seed, "step", step, part, accelerator.process_index))
            with accelerator.accumulate(self.model):
                batch = self._prepared(next(parts))
                loss = recipe.objective.learn(passes, batch)
                if accelerator.sync_gradients and recipe.clip:
                    accelerator.clip_grad_norm_(self.model.parameters(), recipe.clip)
                self.optimiser.step()
                self.optimiser.zero_grad()
            total += loss / recipe.accumulate
        self.average.update(step)
        return total

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """The averaged weights' scores on the test data, and a sheet of its first pictures."""
        recipe, accelerator = self.recipe, self.accelerator
        scores = recipe.objective.scores(self.data, self.device)
        world, rank = accelerator.num_processes, accelerator.process_index
        size = max(1, recipe.evaluation.batch_size // world)
        self.model.eval()
        with self.average.applied(), accelerator.autocast():
            self.average.settle_norms(self._norm_pictures())
            answer = recipe.objective.answering(self.model, self.data)
            for batch, count in _test_batches(self.data.test, size, rank, world):
                outputs = answer(normalise(batch["images"].to(self.device)), batch)[:count]
                if count:
                    scores.update(outputs, batch["targets"][:count].to(self.device))
            if samples := min(recipe.evaluation.samples, len(self.data.test)):
                shown = torch.linspace(0, len(self.data.test) - 1, samples).round().long()
                batch = _numbered(self.data.test, shown)
                # By all processes: under FSDP2 none can run alone.
                outputs = answer(normalise(batch["images"].to(self.device)), batch)
                if self.main:
                    self._draw(batch, outputs, step)
        return scores.compute()

    def export(self) -> None:
        """Write the averaged weights as a network that `vitrail.load` reads."""
        state = {name: whole(tensor) for name, tensor in self.average.state.items()}
        if not self.main:
            return
        with torch.device("meta"):
            model = build_model(self.recipe.model.family, self.config)
        model.assign({name: state[name] for name in model.weights()})
        model.preprocess = scaling(picture_size(self.config))
        self._describe(model)
        save(model, self.folder.model, layout="vitrail")

    def _describe(self, model: Model) -> None:
        """Say of a network what its data says."""
        if model.reads:
            model.tokenizer = self.tokenizer
        if not model.reads or self.data.quiz:
            model.labels = self.data.labels

    def _prepared(self, batch: Batch) -> Batch:
        """A batch as the network takes it: on its device, augmented, and normalised."""
        images = batch["images"].to(self.device, non_blocking=True).float() / 255
        targets = batch["targets"].to(self.device, non_blocking=True)
        if images.ndim == 4:  # rows of several pictures stay as they are
            images, targets = self.augmentation(images, targets)
        return {**batch, "images": normalise(images), "targets": targets}

    def _norm_pictures(self) -> Iterator[Tensor]:
        """A thousand pictures of the training data or so, as they are tested, the same in every process."""
        torch.manual_seed(seed_for(self.recipe.seed, "norms"))
        length, size = len(self.data.train), 256
        indices = shuffled(0, min(4 * size, length), length, self.recipe.seed)
        for part in indices.tensor_split(max(1, len(indices) // size)):
            yield normalise(self.data.train.batch(part, None)["images"].to(self.device))

    def _log(self, progress: Progress, step: int, losses: list[Tensor]) -> None:
        """Write the mean loss of the last updates, over all processes."""
        loss = float(self.accelerator.reduce(torch.stack(losses).mean(), "mean"))
        if not math.isfinite(loss):
            raise VitrailError(
                f"the loss is {loss} at step {step}: a lower optimiser.lr, a longer schedule.warmup or precision=fp32 "
                "may help"
            )
        rate = learning_rate(step - 1, self.recipe.steps, self.recipe.optimiser.lr, self.recipe.schedule)
        progress.loss(step, loss, rate)

    def _draw(self, batch: Batch, outputs: Any, step: int) -> None:
        title = f"{self.recipe.name}, step {step}: {self.data.split}"
        drawn = self.recipe.objective.sheet(batch, outputs, self.data, title)
        drawn.save(self.folder.samples / f"step-{step:08d}.png")


def freeze(model: Model, parts: Sequence[str]) -> None:
    """Let parts of a network stay as they are.

    Args:
        model: the network.
        parts: names of its modules.

    Raises:
        UsageError: it has no such module.
    """
    for part in parts:
        try:
            model.get_submodule(part).requires_grad_(False)
        except AttributeError:
            names = ", ".join(name for name, _ in model.named_children())
            raise UsageError(f"freeze names '{part}', and {model.family} has the parts {names}") from None


def start_from(model: Model, name: str) -> None:
    """Copy another network's weights into this one.

    Args:
        model: of the same family and sizes, or with such a part.
        name: what `vitrail.load` takes, or a finished run's folder.

    Raises:
        UsageError: it is another family or of other sizes.
        CheckpointError: it cannot be loaded.
    """
    copy_weights(model, _load_run(name), name)


def copy_weights(model: Model, other: Model, name: str) -> None:
    """Copy a network's weights into another, or into the part of it that is of its family.

    A head for other classes starts anew, and a ViT's positions in pictures of another size are interpolated.

    Args:
        model: takes them.
        other: gives them.
        name: what to call the giver in an error.

    Raises:
        UsageError: it is another family or of other sizes.
    """
    part = _part_of(model, other)
    if part is None and isinstance(other, CLIP):
        other = text_tower(other)
        part = _part_of(model, other)
    if part is None:
        raise UsageError(f"start_from names '{name}', which is of the family {other.family}, not {model.family}")
    weights, ours = other.state_dict(), part.state_dict()
    if other.labels != part.labels or isinstance(part.head, nn.Identity):
        weights = {key: weight for key, weight in weights.items() if not is_head(key)}
    if isinstance(other, ViT) and isinstance(part, ViT):
        weights["positions"] = other.positions_for(part.config.grid).detach()
    for key in weights:
        if key not in ours or ours[key].shape != weights[key].shape:
            raise UsageError(f"start_from names '{name}', whose '{key}' does not fit this recipe's model")
    part.load_state_dict({**ours, **weights})


def _part_of(model: Model, other: Model) -> Model | None:
    """The first part of a network, itself before all, that is of another's family."""
    parts = (module for module in model.modules() if isinstance(module, Model) and module.family == other.family)
    return next(parts, None)


def _tokenizer_for(recipe: Recipe, texts: Texts | Talks | Quiz | Prompts) -> Tokenizer:
    """That of the network the run starts from; or one trained from the texts of training, for as many tokens a text as
    the network has places for.
    """
    from vitrail.text.train import train_tokenizer

    for start in recipe.starts:
        other = _load_run(start)
        if other.tokenizer is not None:
            return other.tokenizer
    return train_tokenizer(texts.corpus(), texts.vocabulary, text_of(recipe.model.config()).context)


def _load_run(name: str) -> Model:
    """What `vitrail.load` loads, or a finished run's network; on the CPU, for its weights go where the trainer is."""
    run = RunFolder(Path(name))
    return load(str(run.model) if run.recipe.is_file() else name, device="cpu")


def _test_batches(source: Source, size: int, rank: int, world: int) -> Iterator[tuple[Batch, int]]:
    """This process's share of the test data, and how many pictures of each batch count.

    Every process gets as many batches of the same size, because under FSDP2 they must run together; what is missing
    at the end is filled up with pictures that do not count.
    """
    length = len(source)
    for start in range(0, length, size * world):
        indices = torch.arange(start + rank * size, start + (rank + 1) * size)
        count = int((indices < length).sum())
        if world == 1:
            indices = indices[:count]
        yield _numbered(source, indices.clamp(max=length - 1)), count


def _numbered(source: Source, indices: Tensor) -> Batch:
    """Pictures of a test, with their numbers."""
    return {**source.batch(indices, None), "numbers": indices}


def _accelerator(recipe: Recipe) -> Accelerator:
    """Accelerate's view of this process among all of them."""
    limit_threads()
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    precision = "bf16" if recipe.precision == "bf16" else "no"
    accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=recipe.accumulate)
    if accelerator.is_fsdp2:
        # Every process draws the same first weights, so none needs to be sent any; and Accelerate 1.15 cannot send
        # those that a network holds directly, such as a class token.
        accelerator.state.fsdp_plugin.cpu_ram_efficient_loading = False
    return accelerator
