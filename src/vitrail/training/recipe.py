"""A recipe: everything a training run depends on, in one YAML file that is checked before anything is built."""

import difflib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitrail.data.sources import DataSection
from vitrail.errors import UsageError
from vitrail.settings import Section
from vitrail.text.tokenizer import Tokenizer
from vitrail.training.family import FamilyConfig, build_config
from vitrail.training.objectives import ObjectiveSection

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class ModelSection(BaseModel):
    """Which family, and the fields of its config, those of a config within it under its name.

    What the data decides is left out: `classes`, or `text.vocabulary`.

    Attributes:
        family: a name of the registry, "vit".
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    family: str

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the family's config that are given."""
        return dict(self.model_extra or {})

    def config(self, classes: int | None = None, tokenizer: Tokenizer | None = None) -> FamilyConfig:
        """The family's config dataclass.

        Args:
            classes: how many the data has; None where it is not known yet, or has texts instead.
            tokenizer: the texts'; None where it is not known yet, or the data has classes instead.

        Raises:
            UsageError: an unknown or ill-typed field, or fields that contradict each other or the data.
        """
        return build_config(self.family, self.fields, classes, tokenizer)


class OptimiserSection(Section):
    """How a gradient becomes an update.

    AdamW: Loshchilov and Hutter 2019 (1711.05101), algorithm 2. Muon: Jordan et al. 2024, with the step scaled to the
    size of AdamW's (Liu et al. 2025, 2502.16982, eq. 4), so that one learning rate serves both: it takes the matrices
    of linear layers inside the network, and AdamW the rest, the head and the embeddings.

    Attributes:
        name: "adamw", or "muon", which learns more from a picture where there is little time, and costs more a step.
        lr: the highest learning rate.
        weight_decay: λ, on the matrices of linear and convolutional layers only.
        betas: AdamW's β₁ and β₂.
        eps: AdamW's ε.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8


class ScheduleSection(Section):
    """Linear warm-up, then a half cosine. Loshchilov and Hutter 2017 (1608.03983), eq. 5, without restarts.

    Attributes:
        warmup: steps until the highest learning rate.
        final: the last learning rate as a fraction of the highest.
    """

    warmup: Annotated[int, Field(ge=0)] = 0
    final: Fraction = 0.0


class AugmentationSection(Section):
    """What is done to the pictures of a training batch; everything is off unless said.

    Attributes:
        rotate: degrees either way.
        translate: fraction of a side, either way, in each direction.
        scale: the smallest and the largest factor of the size.
        shear: degrees either way, in each direction.
        flip: probability of mirroring left and right.
        colour: strength of random brightness, contrast, saturation and hue, 0 to 1.
        grey: probability that a picture loses its colours.
        light: strength of a random slope of brightness across the picture, 0 to 1.
        policy: operations drawn from a fixed list: "trivial" takes one (TrivialAugment, Müller and Hutter 2021,
            2103.10158), "rand" two (RandAugment, Cubuk et al. 2020, 1909.13719).
        erase: probability of blanking a rectangle (Zhong et al. 2020, 1708.04896).
        mixup: α of the Beta distribution that two whole pictures are mixed by (Zhang et al. 2018, 1710.09412); 0 for
            none.
        cutmix: α of the Beta distribution of the area that one picture lends another (Yun et al. 2019, 1905.04899).
        mix: probability that a batch is mixed at all, by either way where both are on.
    """

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    translate: Fraction = 0.0
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    flip: Fraction = 0.0
    colour: Fraction = 0.0
    grey: Fraction = 0.0
    light: Fraction = 0.0
    policy: Literal["none", "trivial", "rand"] = "none"
    erase: Fraction = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    mix: Fraction = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(
                f"scale goes from the smallest to the largest factor, not from {self.scale[0]} to {self.scale[1]}"
            )
        return self


class EvaluationSection(Section):
    """When and how the test data is looked at.

    Attributes:
        every: steps between evaluations; the last step is always one.
        batch_size: pictures at once, over all processes.
        samples: pictures on the sheet of predictions.
    """

    every: Count = 500
    batch_size: Count = 256
    samples: Annotated[int, Field(ge=0)] = 24


class CheckpointSection(Section):
    """When the state of the run is written.

    Attributes:
        every: steps between checkpoints.
        keep: how many of the newest are kept.
    """

    every: Count = 500
    keep: Count = 2


class Recipe(Section):
    """Everything that a run depends on.

    Attributes:
        name: names the run's folder.
        seed: of the first weights, the order of the data, and every random number on the way.
        model: the network.
        start_from: a checkpoint, or a finished run's folder, whose weights the network starts from, or the part of it
            that is of the checkpoint's family: the `image` of a vit-gpt, from a ViT. A head for other classes starts
            anew. Several are taken one after another, for the parts.
        freeze: parts of the network, by the names of its modules ("image"), that stay as they start.
        data: what it is trained and tested on.
        objective: what is minimised, and how well it does.
        augmentation: what happens to a batch before the network sees it.
        optimiser, schedule: AdamW and its learning rate.
        steps: updates of the weights.
        batch_size: pictures an update, over all processes and accumulated parts.
        accumulate: parts that a batch is split into, one after another, to save memory; 1 where an objective compares
            all of a batch.
        clip: largest norm of the gradient; 0 for any.
        ema: decay of the moving average of the weights, which is what is tested and exported; 0 for the weights
            themselves.
        precision: "bf16" multiplies in bfloat16 and keeps weights in float32; "fp32" does everything in float32.
        workers: processes that prepare batches; 0 prepares them in the training process.
        log_every: steps between lines of metrics.
        evaluation, checkpoint: their timetables.
    """

    name: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    model: ModelSection
    start_from: str | tuple[str, ...] | None = None
    freeze: tuple[str, ...] = ()
    data: DataSection
    objective: ObjectiveSection
    augmentation: AugmentationSection = AugmentationSection()
    optimiser: OptimiserSection = OptimiserSection()
    schedule: ScheduleSection = ScheduleSection()
    steps: Count
    batch_size: Count
    accumulate: Count = 1
    clip: Annotated[float, Field(ge=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["bf16", "fp32"] = "bf16"
    workers: Annotated[int, Field(ge=0)] = 0
    log_every: Count = 10
    evaluation: EvaluationSection = EvaluationSection()
    checkpoint: CheckpointSection = CheckpointSection()

    @property
    def starts(self) -> tuple[str, ...]:
        """All that the network starts from."""
        return (self.start_from,) if isinstance(self.start_from, str) else self.start_from or ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split into accumulate {self.accumulate} equal parts"
            )
        if self.schedule.warmup > self.steps:
            raise ValueError(f"schedule.warmup {self.schedule.warmup} is longer than the run, steps {self.steps}")
        if self.objective.reads and self.accumulate > 1:
            raise ValueError(
                f"accumulate is {self.accumulate}, but the objective {self.objective.name} compares all of a batch: "
                "save memory by objective.chunk"
            )
        name, look = self.objective.name, self.augmentation
        if (look.mixup or look.cutmix) and name not in ("classification", "presence"):
            raise ValueError(
                f"augmentation.mixup and .cutmix mix classes of pictures, and the objective {name} has none"
            )
        moved = look.rotate or look.translate or look.shear or look.flip or look.erase or look.scale != (1.0, 1.0)
        if name == "patches" and (moved or look.policy != "none"):
            raise ValueError("augmentation moves things, and a map would not move with them: only colours may change")
        return self

    def to_yaml(self) -> str:
        """The recipe with every default spelled out, as `load_recipe` reads it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check all of it that can be checked without the data.

    Args:
        path: a YAML file.
        overrides: "key=value" with a dotted key, "model.depth=4"; the value is YAML.

    Raises:
        UsageError: the file is missing or not YAML, or a key is unknown, missing, of the wrong type or out of its
            range; one sentence, which names the key.
    """
    raw = _read(Path(path))
    for override in overrides:
        _override(raw, override)
    return parse_recipe(raw, str(path))


def parse_recipe(raw: dict[str, Any], name: str = "the recipe") -> Recipe:
    """Check a recipe that is a dictionary already; as `load_recipe`."""
    try:
        # JSON, because YAML has lists and whole numbers where a recipe has tuples and floats, and that is all the
        # lenience there is: a text is never taken for a number.
        recipe = Recipe.model_validate_json(_json(raw))
    except ValidationError as error:
        raise UsageError(f"{name}: {_sentence(error, raw)}") from None
    try:
        recipe.model.config()
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    return recipe


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: PyYAML follows 1.1, to which 1e-3 is a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"),
    list("-+.0123456789"),
)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no recipe {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the recipe {path} cannot be read ({error})") from None
    try:
        raw = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise UsageError(f"the recipe {path} is not YAML{line} ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(raw, dict):
        raise UsageError(f"the recipe {path} holds no keys with values")
    return raw


def _override(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key of nested dictionaries."""
    key, equals, text = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise UsageError(f"'{override}' changes nothing in a recipe: write key=value, as in steps=200 or model.depth=4")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(f"the value of '{override}' is not YAML") from None
    for depth, section in enumerate(sections, start=1):
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise UsageError(
                f"'{override}' asks for a key inside '{'.'.join(sections[:depth])}', which holds a single value"
            )
    raw[last] = value


def _json(raw: dict[str, Any]) -> str:
    try:
        return json.dumps(raw, default=str)
    except (ValueError, RecursionError):  # YAML can say a list that holds itself
        raise UsageError("the recipe refers to itself") from None


def _sentence(error: ValidationError, raw: dict[str, Any]) -> str:
    """The first thing that is wrong, with the dotted key it is wrong with."""
    first = error.errors(include_url=False)[0]
    place = _place(first["loc"], raw)
    key = ".".join(place)
    kind, said = first["type"], first["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _keys(), 1)
        return f"there is no key '{key}'" + (f" (is '{near[0]}' meant?)" if near else "")
    if kind == "missing":
        return f"the key '{key}' is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context = first["ctx"]
        tag = context["discriminator"].strip("'")
        name = f"{key}.{tag}"
        if kind == "union_tag_not_found":
            return f"the key '{name}' is missing"
        return f"{name} is '{context['tag']}', and can be {context['expected_tags']}"
    if kind == "value_error":
        return f"{key}: {said}" if key else said
    return f"{key} is {first['input']!r}, where it says: {said[0].lower()}{said[1:]}"


def _place(where: tuple[int | str, ...], raw: Any) -> list[str]:
    """The keys on the way to an error, without the names of alternatives that pydantic puts between them."""
    place = []
    for key in where:
        if isinstance(raw, dict) and (key in raw or key == where[-1]):
            raw = raw.get(key)
        elif isinstance(raw, list) and isinstance(key, int) and key < len(raw):
            raw = raw[key]
        else:
            continue
        place.append(str(key))
    return place


@cache
def _keys() -> tuple[str, ...]:
    """Every key that a recipe can hold anywhere, but those of a family's config."""
    schema = Recipe.model_json_schema()
    return tuple({key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})})
