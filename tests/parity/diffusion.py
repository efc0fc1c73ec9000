"""How the networks that denoise are read back in diffusers, and compared with it where only their shapes can be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vitrail.checkpoints.layout import Description, Layout, to_theirs


def load_diffusers(kind: Any, folder: Path) -> Any:
    """Load a folder in diffusers; every tensor must be there and be known."""
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(info[said] for said in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def assert_same_names(layout: Layout, config: Any, kind: Any, said: Mapping[str, Any]) -> None:
    """A network of our config, and diffusers' of its config.json, have the same tensors; read, the one is the other.

    Both are built without memory, so that a published size costs nothing.
    """
    with torch.device("meta"):
        ours = layout.model(config)
        theirs = kind.from_config(dict(said))
        again = kind.from_config(layout.write_config(ours))
    assert layout.read_config(Description({"_class_name": kind.__name__, **theirs.config})) == config
    expected = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in to_theirs(layout, ours).items()} == expected
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == expected
