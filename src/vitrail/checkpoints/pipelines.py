"""diffusers' pipelines: folders of parts, each a network with a config of its own, and a model_index.json above them.

Read are the parts that make pictures. A safety checker and what prepares pictures for it (`safety_checker`,
`feature_extractor`, `image_encoder`) are neither fetched nor read: no picture is judged here; and what is written says
that there is none.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from vitrail.checkpoints.diffusers import GeneratorLayout
from vitrail.checkpoints.layout import Description, Layout, Row, Shapes
from vitrail.checkpoints.reading import TOKENIZERS, TokenizerFiles, open_tensors, read_json, shapes_of, shard_names
from vitrail.errors import CheckpointError
from vitrail.models.model import Model

INDEX = "model_index.json"
SCHEDULER = "scheduler"
_SCHEDULER_FILE = "scheduler_config.json"
_WEIGHTS = {  # what each library calls its weights, safetensors first
    "diffusers": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "transformers": ("model.safetensors", "pytorch_model.bin"),
}

Get = Callable[[str], Path | None]
"""A file by its path within the pipeline's folder; None where there is none."""


class Part(NamedTuple):
    """A network of a pipeline.

    Attributes:
        ours: what it is called in our model.
        layout: its own layout.
    """

    ours: str
    layout: Layout


class PartsTensors(Mapping[str, Tensor]):
    """The tensors of several parts, by the part's name, a dot, and their own."""

    def __init__(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> Tensor:
        part, _, rest = name.partition(".")
        return self._parts[part][rest]

    def __iter__(self) -> Iterator[str]:
        return (f"{part}.{name}" for part, tensors in self._parts.items() for name in tensors)

    def __len__(self) -> int:
        return sum(map(len, self._parts.values()))


class PipelineLayout(GeneratorLayout):
    """A folder with model_index.json, whose `_class_name` says the family.

    A description of such a folder has for its config what the index says, and under "parts" each part's own config, by
    its name in the index; the names of tensors and of tokenizers' files begin with that of their part.
    """

    library = "diffusers"
    config_file = INDEX
    class_names: ClassVar[tuple[str, ...]]  # of pipelines of these parts; the first is written
    parts: ClassVar[Mapping[str, Part]]  # by their names in the index
    tokenizers: ClassVar[tuple[str, ...]] = ()  # theirs

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `_class_name`."""
        return config.get("_class_name") in self.class_names

    @property
    def ignored(self) -> tuple[str, ...]:  # type: ignore[override]  # those of the parts
        """Patterns of tensors that hold no weights."""
        return tuple(rf"{name}\.{pattern}" for name, part in self.parts.items() for pattern in part.layout.ignored)

    def rows(self, config: Any) -> list[Row]:
        """The tables of all parts."""
        return [
            row.within(f"{part.ours}.", f"{name}.")
            for name, part in self.parts.items()
            for row in part.layout.rows(getattr(config, part.ours))
        ]

    def read_parts(self, description: Description) -> dict[str, Any]:
        """Our configs of the parts, by our names of them."""
        return {part.ours: part.layout.read_config(part_of(description, name)) for name, part in self.parts.items()}

    @abstractmethod
    def write_scheduler(self, config: Any) -> dict[str, Any]:
        """scheduler_config.json for a model of this config."""

    def write_index(self, config: Any) -> dict[str, Any]:
        """What model_index.json says beside the parts' classes."""
        return {}

    def write_config(self, model: Model) -> dict[str, Any]:
        """model_index.json."""
        said: dict[str, Any] = {"_class_name": self.class_names[0], **self.write_index(model.config)}
        for name, part in self.parts.items():
            written = part.layout.write_config(model.get_submodule(part.ours))  # type: ignore[arg-type]
            said[name] = [part.layout.library, written.get("_class_name") or written["architectures"][0]]
        for name in self.tokenizers:
            said[name] = ["transformers", "CLIPTokenizer"]
        return {**said, SCHEDULER: ["diffusers", self.write_scheduler(model.config)["_class_name"]]}

    def write_described(self, model: Model) -> dict[str, dict[str, Any]]:
        """The index and every part's config."""
        configs = {
            f"{name}/{part.layout.config_file}": part.layout.write_config(model.get_submodule(part.ours))  # type: ignore[arg-type]
            for name, part in self.parts.items()
        }
        scheduler = {f"{SCHEDULER}/{_SCHEDULER_FILE}": self.write_scheduler(model.config)}
        return {INDEX: self.write_config(model), **configs, **scheduler}

    def shelve(self, tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Every part's tensors in a file of its own."""
        return {
            f"{name}/{part.layout.weights_file}": {
                key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")
            }
            for name, part in self.parts.items()
        }


def part_of(description: Description, name: str) -> Description:
    """What a pipeline's description says of one of its parts."""
    before, among = f"{name}.", f"{name}/"
    return Description(
        description.config["parts"].get(name, {}),
        {},
        {key.removeprefix(before): shape for key, shape in description.shapes.items() if key.startswith(before)},
        {
            key.removeprefix(among): description.tokenizer_files[key]
            for key in description.tokenizer_files
            if key.startswith(among)
        },
    )


def open_parts(get: Get, layout: PipelineLayout, half: bool) -> tuple[Description, Mapping[str, Tensor]]:
    """What the parts of a pipeline say, and their tensors.

    Args:
        get: its files; one that fetches them brings what is needed, and no more, to where they are kept.
        layout: the pipeline's.
        half: whether weights in half precision, the variant "fp16", are wanted rather than whole ones. Where there is
            but one of the two it is taken.

    Raises:
        CheckpointError: a part is missing or broken.
    """
    index = get(INDEX)
    assert index is not None  # it has told which layout this is
    said = read_json(index)
    for name in (*layout.parts, *layout.tokenizers):
        if not _is_there(said.get(name)):
            raise CheckpointError(f"this {said['_class_name']} has no '{name}', and Vitrail knows only whole ones")
    configs, tensors = {}, {}
    for name, part in layout.parts.items():
        where, config = _find(get, name, part.layout.config_file)
        weights = _weights(get, where, part.layout.library, half)
        if config is None or weights is None:
            what = part.layout.config_file if config is None else "weights"
            raise CheckpointError(f"the part '{name}' of this {said['_class_name']} has no {what}")
        if weights.suffix == ".json":
            for shard in shard_names(weights):
                get(f"{where}{shard}")
        configs[name], tensors[name] = read_json(config), open_tensors(weights)
    _, scheduler = _find(get, SCHEDULER, _SCHEDULER_FILE)
    if scheduler is None:
        raise CheckpointError(f"this {said['_class_name']} has no {_SCHEDULER_FILE}")
    configs[SCHEDULER] = read_json(scheduler)
    words: dict[str, str | bytes] = {}
    for name in layout.tokenizers:
        found = [path for file in TOKENIZERS if (path := get(f"{name}/{file}"))]
        if found:
            words |= {f"{name}/{file}": content for file, content in TokenizerFiles(found[0].parent).items()}
    shapes: Shapes = {f"{name}.{key}": shape for name in tensors for key, shape in shapes_of(tensors[name]).items()}
    return Description({**said, "parts": configs}, {}, shapes, words), PartsTensors(tensors)


def _is_there(component: object) -> bool:
    """Whether an index names a class for a component: [library, class], and not [null, null]."""
    return isinstance(component, list) and len(component) == 2 and component[1] is not None


def _find(get: Get, part: str, file: str) -> tuple[str, Path | None]:
    """A file of a part, and what stands before it: the oldest pipelines, of one network, keep all beside the index."""
    path = get(f"{part}/{file}")
    return (f"{part}/", path) if path is not None else ("", get(file))


def _weights(get: Get, where: str, library: str, half: bool) -> Path | None:
    """The weights of a part, or their index; safetensors before pickles, and the wanted precision before the other."""
    for name in _WEIGHTS[library]:
        stem, ending = name.split(".")
        for variant in (".fp16", "") if half else ("", ".fp16"):
            for file in (f"{stem}{variant}.{ending}", f"{stem}.{ending}.index{variant}.json"):
                if (path := get(f"{where}{file}")) is not None:
                    return path
    return None
