"""What all layouts of the transformers library have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image

from vitrail.checkpoints.layout import Description, Layout
from vitrail.checkpoints.preprocessors import from_transformers, to_transformers
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess, Resize
from vitrail.models.model import Model
from vitrail.nn.patches import pair

_ACTIVATIONS = {  # transformers' names for `hidden_act` -> ours; the first of equals is written
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


class TransformersLayout(Layout):
    """A folder with config.json (`model_type` says the family), safetensors and preprocessor_config.json."""

    library = "transformers"
    model_type: ClassVar[str]
    processor: ClassVar[str]  # the image processor class that is written
    mean: ClassVar[tuple[float, ...]]  # that processor's, for a checkpoint that ships no preprocessor file
    std: ClassVar[tuple[float, ...]]
    resample: ClassVar[Image.Resampling] = Image.Resampling.BICUBIC

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `model_type`."""
        return config.get("model_type") == self.model_type

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """From preprocessor_config.json; without one, as the family's processor does it unless told."""
        if description.preprocessor:
            return from_transformers(description.preprocessor, self.processor)
        return self.usual_preprocess(config)

    def usual_preprocess(self, config: Any) -> Preprocess:
        """Where no file says how: to the network's size, normalised as its processor does."""
        size = Resize(pair(config.image_size), resample=self.resample)
        if config.channels == 1:
            return Preprocess(size, mode="L", mean=self.mean[:1], std=self.std[:1])
        return Preprocess(size, mean=self.mean, std=self.std)

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """preprocessor_config.json."""
        return {"preprocessor_config.json": to_transformers(preprocess, self.processor, exact=False)}

    def read_labels(self, description: Description, config: Any) -> tuple[str, ...] | None:
        """From id2label, unless it only counts (LABEL_0, LABEL_1, …); a network that reads texts has no classes."""
        classes = getattr(config, "classes", 0)
        names = description.config.get("id2label") or {}
        labels = tuple(str(names.get(str(index), names.get(index, ""))) for index in range(classes))
        counted = tuple(f"LABEL_{index}" for index in range(classes))
        return labels if all(labels) and labels not in ((), counted) else None


def shortest_edge(image_size: int | tuple[int, int], processor: str) -> Preprocess:
    """What CLIPImageProcessor and its kin do unless told: the shortest edge to the network's size, then its middle."""
    height, width = pair(image_size)
    return from_transformers({"size": {"shortest_edge": min(height, width)}, "crop_size": [height, width]}, processor)


def labels_config(model: Model) -> dict[str, Any]:
    """id2label and label2id of a network with a head; they tell transformers how many classes there are."""
    count = model.config.classes
    labels = model.labels or tuple(f"LABEL_{index}" for index in range(count))
    return {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def read_activation(name: str) -> str:
    """Our name of transformers' `hidden_act`."""
    if name not in _ACTIVATIONS:
        raise CheckpointError(f"the activation '{name}' is not one that this family is known with")
    return _ACTIVATIONS[name]


def write_activation(name: str) -> str:
    """transformers' `hidden_act` for our name."""
    return next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == name)


def read_encoder(
    said: Mapping[str, Any],
    *,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    mlp_width: int = 3072,
    activation: str = "gelu",
    norm_eps: float = 1e-12,
) -> dict[str, Any]:
    """The fields that the config of every transformer has; what is left out is as given, or as in BERT-Base."""
    return {
        "width": said.get("hidden_size", width),
        "depth": said.get("num_hidden_layers", depth),
        "heads": said.get("num_attention_heads", heads),
        "mlp_width": said.get("intermediate_size", mlp_width),
        "activation": read_activation(said.get("hidden_act", activation)),
        "norm_eps": said.get("layer_norm_eps", norm_eps),
    }


def write_encoder(config: Any) -> dict[str, Any]:
    """These fields as transformers names them."""
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": write_activation(config.activation),
        "layer_norm_eps": config.norm_eps,
    }


def read_size(size: int | list[int] | tuple[int, int]) -> int | tuple[int, int]:
    """An image or patch size: one number, or [height, width], which becomes one number when both are equal."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"a size in pixels is {size!r}")
    return sides[0] if sides[0] == sides[1] else sides


def write_size(size: int | tuple[int, int]) -> int | list[int]:
    """An image or patch size as JSON has it."""
    return size if isinstance(size, int) else list(size)
