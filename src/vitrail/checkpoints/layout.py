"""What a publisher's layout is: a table between its names and ours that runs both ways.

A table is a list of rows. A row says how one of our tensors is made of the publisher's:

    Row("norm.{p}", "vit.layernorm.{p}")
    Row("blocks.{i}.attention.qkv.{p}", Joined("…query.{p}", "…key.{p}", "…value.{p}"))
    Row("project.weight", Transposed("visual.proj"))

`{i}` and `{j}` stand for numbers, `{rest}` for the rest of a name, any other braces for a piece without dots. Reading
looks every tensor of our network up in the table; writing follows the same rows backwards. So `load` and `save` are
each other's inverse.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vitrail.checkpoints.mapped import release
from vitrail.checkpoints.tokenizers import write_files
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer

Shapes = Mapping[str, tuple[int, ...]]
_ONE_NUMBER = {(), (1,)}  # a number may be kept either way
OPTIONAL = (r".*\.num_batches_tracked",)  # ours that a checkpoint may lack: they count training steps and start at zero


class Joined(tuple[str, ...]):
    """The publisher keeps apart what we keep in one tensor: its parts, one below the other along dimension 0."""

    def __new__(cls, *names: str) -> Self:
        """The names of the parts, in order."""
        return super().__new__(cls, names)

    def part_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the publisher's tensor, or of each of them, for ours of this shape."""
        return shape if len(self) == 1 else (shape[0] // len(self), *shape[1:])

    def part_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The shape of each of the publisher's tensors, for ours of this shape."""
        return [self.part_shape(shape)] * len(self)

    def join(self, parts: list[Tensor]) -> Tensor:
        """The publisher's tensors -> ours."""
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Ours -> the publisher's tensors."""
        return tensor.chunk(len(self)) if len(self) > 1 else [tensor]


class Transposed(Joined):
    """The publisher keeps as (in, out) a matrix that is (out, in) with us, as it is in `nn.Linear`."""

    def part_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Its two sides, changed over."""
        return shape[::-1]

    def join(self, parts: list[Tensor]) -> Tensor:
        """The publisher's matrix -> ours."""
        return parts[0].T.contiguous()

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Our matrix -> the publisher's."""
        return [tensor.T]


class Pointwise(Joined):
    """The publisher keeps as convolutions of 1×1 pixels, (out, in, 1, 1), the matrix of a linear map, (out, in)."""

    def part_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The matrix's shape, or a part's, and two sides of one pixel."""
        return (*super().part_shape(shape), 1, 1)

    def join(self, parts: list[Tensor]) -> Tensor:
        """The publisher's kernels -> our matrix."""
        return super().join(parts)[:, :, 0, 0]

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Our matrix -> the publisher's kernels."""
        return [part[:, :, None, None] for part in super().split(tensor)]


class OneNumber(Joined):
    """The publisher keeps as a vector of one, (1,), a number that is () with us."""

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Our number -> the publisher's vector. Read is either form, here and everywhere."""
        return [tensor.reshape(1)]


class Row:
    """One of our tensors and how the publisher spells it.

    Args:
        ours: pattern of our name.
        theirs: pattern of the publisher's name, or `Joined` patterns, or one `Transposed`; what `save` writes.
        also: other spellings that are read: newer and older versions of the publisher's library.
    """

    def __init__(self, ours: str, theirs: str | Joined, *also: str | Joined) -> None:
        self.pattern = re.compile(_regex(ours))
        self.spellings = [
            spelling if isinstance(spelling, Joined) else Joined(spelling) for spelling in (theirs, *also)
        ]

    def match(self, ours: str) -> list[Joined] | None:
        """Every spelling of one of our tensors, the written one first; None when the row is about other tensors."""
        found = self.pattern.fullmatch(ours)
        if found is None:
            return None
        pieces = found.groupdict()
        return [_renamed(spelling, lambda part: part.format(**pieces)) for spelling in self.spellings]

    def within(self, ours: str, *theirs: str) -> "Row":
        """The same row where its network is a part of a larger one.

        Args:
            ours: what stands before our names there, "unet.".
            theirs: what stands before the publisher's; of several each is read, and the first is written.
        """
        row = copy(self)
        row.pattern = re.compile(re.escape(ours) + self.pattern.pattern)
        row.spellings = [_renamed(spelling, f"{before}{{}}".format) for before in theirs for spelling in self.spellings]
        return row


def _renamed(spelling: Joined, rename: Callable[[str], str]) -> Joined:
    return type(spelling)(*map(rename, spelling))


_WILDCARDS = {"i": r"[0-9]+", "j": r"[0-9]+", "rest": r".+"}


def _regex(pattern: str) -> str:
    pieces = re.split(r"\{(\w+)\}", pattern)
    for position in range(1, len(pieces), 2):
        name = pieces[position]
        pieces[position] = f"(?P<{name}>{_WILDCARDS.get(name, r'[^.]+')})"
    pieces[::2] = [re.escape(piece) for piece in pieces[::2]]
    return "".join(pieces)


@dataclass(frozen=True)
class Published:
    """A network that a publisher's library has a name for, and its checkpoint on the hub.

    Attributes:
        config: our config for it.
        hub: its hub id, "google/vit-base-patch16-224"; "" for a network that has a name and no published weights.
        licence: SPDX identifier.
        preprocess: how its pictures are prepared, where the checkpoint ships no file that says so.
    """

    config: Any
    hub: str
    licence: str
    preprocess: Preprocess | None = None


@dataclass(frozen=True)
class Description:
    """What a checkpoint's files say besides the tensors.

    Attributes:
        config: the parsed config.json, or what stands for it.
        preprocessor: the parsed preprocessor_config.json, {} where there is none.
        shapes: name -> shape of every tensor in the checkpoint.
        tokenizer_files: name -> content of every file about its tokenizer, read when asked for: text, and bytes of
            what is no text, "spiece.model". Of a file of our own, the "tokenizer" in its header.
    """

    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    shapes: Shapes = field(default_factory=dict)
    tokenizer_files: Mapping[str, str | bytes] = field(default_factory=dict)


class Layout(ABC):
    """One publisher's form of one family."""

    library: str  # "transformers", "timm", "open_clip"
    family: str  # a name of the registry
    model: type[Model]
    published: ClassVar[Mapping[str, Published]]  # by the name the publisher gives it
    base_prefix: str = ""  # what stands before the names of the backbone when a head is on top
    ignored: Sequence[str] = ()  # patterns of the publisher's tensors that hold no weights
    config_file: str = "config.json"  # what the publisher calls its files
    weights_file: str = "model.safetensors"

    @abstractmethod
    def recognises(self, config: Mapping[str, Any]) -> bool:
        """Whether this config.json is of this layout and family."""

    def fits(self, shapes: Shapes) -> bool:
        """Whether the tensors are, by their names, where a config.json may be of several families."""
        return True

    @abstractmethod
    def read_config(self, description: Description) -> Any:
        """The publisher's config -> ours. KeyError, TypeError and ValueError are reported as a broken config."""

    @abstractmethod
    def write_config(self, model: Model) -> dict[str, Any]:
        """Our model's config -> the publisher's config.json. CheckpointError where it cannot be said."""

    @abstractmethod
    def rows(self, config: Any) -> list[Row]:
        """The table for a network of this config."""

    @abstractmethod
    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """How the checkpoint wants its pictures."""

    @abstractmethod
    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """Files that say so, by name: {"preprocessor_config.json": {…}}; {} where config.json says it.

        Where the publisher has no words for it, as near as it can: the crop may move by a pixel. `convert` reports it.
        """

    @abstractmethod
    def read_labels(self, description: Description, config: Any) -> tuple[str, ...] | None:
        """The classes' names, None where the checkpoint does not say."""

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """How the checkpoint turns texts into ids; None where it ships no file that says so.

        Asked for where a network reads texts. Whatever it raises is reported as broken files.
        """
        return None

    def write_tokenizer(self, model: Model) -> dict[str, str]:
        """Files beside the weights that turn texts into ids: name -> content; {} for a network without a tokenizer."""
        return {} if model.tokenizer is None else write_files(model.tokenizer)

    def write_described(self, model: Model) -> dict[str, dict[str, Any]]:
        """Every file in JSON that says what the network is: name -> content."""
        return {self.config_file: self.write_config(model), **self.write_preprocess(model.preprocess)}

    def shelve(self, tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Which file holds which tensors, by the publisher's names: file -> name -> tensor."""
        return {self.weights_file: tensors}

    def can_write(self, config: Any) -> bool:
        """Whether a network of this config belongs here, where a library has several layouts for one family."""
        return True

    def before_writing(self, model: Model) -> Model:
        """The same network in the form this layout can say: `model` itself unless something must be folded."""
        return model


def find_rows(names: Iterable[str], rows: Sequence[Row]) -> dict[str, list[Joined]]:
    """Our names -> every spelling of each. A name that no row knows is a defect of the table: KeyError."""
    plan = {}
    for name in names:
        spellings = next((found for row in rows if (found := row.match(name)) is not None), None)
        if spellings is None:
            raise KeyError(f"no row of the layout speaks of '{name}'")
        plan[name] = spellings
    return plan


def to_ours(
    layout: Layout, model: Model, tensors: Mapping[str, Tensor], shapes: Shapes, where: str
) -> dict[str, Tensor]:
    """The publisher's tensors under our names, ready for `load_state_dict(assign=True)`.

    Args:
        layout: whose form the checkpoint has.
        model: the network they are for, on the meta device.
        tensors: the checkpoint's tensors by name, read when asked for.
        shapes: their shapes.
        where: what to call the checkpoint in an error.

    Raises:
        CheckpointError: tensors are missing, misshapen, left over or no floats; the sentence names them.
    """
    bare = not any(name.startswith(layout.base_prefix) for name in shapes)  # a backbone saved without a head
    ours = model.weights()
    wanted = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    plan = find_rows(wanted, layout.rows(model.config))
    if bare:
        plan = {
            name: [_renamed(spelling, lambda part: part.removeprefix(layout.base_prefix)) for spelling in spellings]
            for name, spellings in plan.items()
        }
    usual = _usual_spelling(plan.values(), shapes)
    chosen: dict[str, Joined] = {}
    missing, misshapen, used = [], [], set[str]()
    for name, spellings in plan.items():
        parts = next((spelling for spelling in spellings if all(part in shapes for part in spelling)), None)
        if parts is None:
            if not _matches(name, OPTIONAL):
                parts = spellings[min(usual, len(spellings) - 1)]
                missing += [part for part in parts if part not in shapes]
                used.update(parts)
            continue
        chosen[name] = parts
        used.update(parts)
        misshapen += [
            f"'{part}' of shape {shapes[part]} where {part_shape} is wanted"
            for part, part_shape in zip(parts, parts.part_shapes(wanted[name]), strict=True)
            if shapes[part] != part_shape and not {shapes[part], part_shape} <= _ONE_NUMBER
        ]
    extra = sorted(name for name in shapes if name not in used and not _matches(name, layout.ignored))
    problems = [
        f"lacks {_some(missing, quote=True)}" if missing else "",
        f"has {_some(misshapen)}" if misshapen else "",
        f"has {_some(extra, quote=True)}, which a {layout.family} network does not know" if extra else "",
    ]
    if any(problems):
        raise CheckpointError(f"{where} {' and '.join(filter(None, problems))}")
    read = {}
    for name, parts in chosen.items():
        read[name] = _join(parts, [tensors[part] for part in parts], wanted[name])
        if read[name].is_floating_point() != ours[name].is_floating_point():
            raise CheckpointError(f"{where} has '{parts[0]}' in {read[name].dtype} where {ours[name].dtype} is wanted")
    return read


def to_theirs(layout: Layout, model: Model) -> dict[str, Tensor]:
    """Our model's tensors under the publisher's names."""
    state = model.weights()
    with_head = not isinstance(model.head, torch.nn.Identity)
    theirs: dict[str, Tensor] = {}
    for name, spellings in find_rows(state, layout.rows(model.config)).items():
        for part, tensor in zip(spellings[0], spellings[0].split(state[name]), strict=True):
            theirs[part if with_head else part.removeprefix(layout.base_prefix)] = tensor.detach().contiguous()
    return theirs


def _usual_spelling(spellings: Iterable[list[Joined]], shapes: Shapes) -> int:
    """Which of several spellings a checkpoint uses, so that what it lacks is called by the name it would have there."""
    found = Counter(
        place
        for some in spellings
        if len(some) > 1
        for place, parts in enumerate(some)
        if all(part in shapes for part in parts)
    )
    return found.most_common(1)[0][0] if found else 0


def _join(how: Joined, parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    joined = how.join(parts)
    for part in parts:
        if joined is not part:
            release(part)
    return joined.reshape(shape)  # which changes nothing but a number's ()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _some(things: Sequence[str], *, quote: bool = False, most: int = 3) -> str:
    shown = ", ".join(f"'{thing}'" if quote else thing for thing in things[:most])
    return shown if len(things) <= most else f"{shown} and {len(things) - most} more"
