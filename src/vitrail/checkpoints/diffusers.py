"""What all layouts of the diffusers library have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Joined, Layout, Row
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import HALF, Preprocess

_SILU = ("silu", "swish")  # two names of one function; the first is written


class GeneratorLayout(Layout):
    """A layout of networks that make pictures: no file says how they have their pixels, for all have them alike."""

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """Pixels to [-1, 1] in the picture's own size."""
        if getattr(config, "channels", 3) == 1:
            return Preprocess(resize=None, mode="L", mean=HALF[:1], std=HALF[:1])
        return Preprocess(resize=None, mean=HALF, std=HALF)

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """Nothing: no file says it."""
        return {}

    def read_labels(self, description: Description, config: Any) -> tuple[str, ...] | None:
        """None: they name no classes."""
        return None


class DiffusersLayout(GeneratorLayout):
    """A folder with config.json (`_class_name` says the family) and diffusion_pytorch_model.safetensors."""

    library = "diffusers"
    weights_file = "diffusion_pytorch_model.safetensors"
    class_name: ClassVar[str]

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `_class_name`."""
        return config.get("_class_name") == self.class_name


def block_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a `ResidualBlock`; ResnetBlock2D there. `ours` and `theirs` stand before the names, dot and all."""
    return [
        Row(f"{ours}time.{{p}}", f"{theirs}time_emb_proj.{{p}}"),
        Row(f"{ours}shortcut.{{p}}", f"{theirs}conv_shortcut.{{p}}"),
        Row(f"{ours}norm{{n}}.{{p}}", f"{theirs}norm{{n}}.{{p}}"),
        Row(f"{ours}conv{{n}}.{{p}}", f"{theirs}conv{{n}}.{{p}}"),
    ]


def attention_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a `SpatialAttention`; Attention there, and AttentionBlock until diffusers 0.17."""
    return [
        Row(f"{ours}norm.{{p}}", f"{theirs}group_norm.{{p}}"),
        Row(
            f"{ours}attention.qkv.{{p}}",
            Joined(*(f"{theirs}to_{part}.{{p}}" for part in "qkv")),
            Joined(*(f"{theirs}{part}.{{p}}" for part in ("query", "key", "value"))),
        ),
        Row(f"{ours}attention.out.{{p}}", f"{theirs}to_out.0.{{p}}", f"{theirs}proj_attn.{{p}}"),
    ]


def refuse_unusual(said: Mapping[str, Any], usual: Mapping[str, Any], what: str) -> None:
    """Settings that change the mathematics must be as a family knows them; what config.json leaves out is.

    Args:
        said: config.json.
        usual: setting -> the value that the family is written for, and diffusers' default.
        what: what to call the network in the sentence, "an AutoencoderKL".

    Raises:
        CheckpointError: one is not.
    """
    for name, value in usual.items():
        if said.get(name, value) != value:
            raise CheckpointError(f"{what} with '{name}' {said[name]!r} is not one that Vitrail knows")


def refuse_other_activations(said: Mapping[str, Any], what: str) -> None:
    """`act_fn` must be SiLU, by either of its names, as in every network that diffusers' hub folders hold.

    Raises:
        CheckpointError: it is not.
    """
    if said.get("act_fn", _SILU[0]) not in _SILU:
        raise CheckpointError(f"{what} with the activation {said['act_fn']!r} is not one that Vitrail knows")
