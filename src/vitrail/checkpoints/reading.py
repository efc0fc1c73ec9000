"""What lies in a checkpoint's files: tensors, mapped where they can be, and words. No code in them is ever run."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.errors import CheckpointError, first_line

TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
)


class SafeTensors(Mapping[str, Tensor]):
    """The tensors of one or more safetensors files, memory-mapped: a tensor is read when its numbers are."""

    def __init__(self, paths: list[Path]) -> None:
        self._files: dict[str, Any] = {}
        self.metadata: dict[str, str] = {}
        for path in paths:
            try:
                file = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path} is not a whole safetensors file ({reason_of(error)})") from None
            self._files.update(dict.fromkeys(file.keys(), file))
            self.metadata.update(file.metadata() or {})

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, from the headers alone."""
        return {name: tuple(file.get_slice(name).get_shape()) for name, file in self._files.items()}


class TokenizerFiles(Mapping[str, str | bytes]):
    """What lies in a folder about a tokenizer: a file is read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._paths = {name: folder / name for name in TOKENIZERS if (folder / name).is_file()}

    def __getitem__(self, name: str) -> str | bytes:
        path = self._paths[name]
        try:
            return path.read_bytes() if path.suffix == ".model" else path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({reason_of(error)})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def cached_tokenizer(*places: tuple[str, str]) -> Mapping[str, str | bytes]:
    """The files about a tokenizer that the hub's local cache holds of one of these; {} where it holds none.

    Args:
        places: a hub id and what stands before the files' names there, "tokenizer/" or "".
    """
    from huggingface_hub import try_to_load_from_cache

    for repo, before in places:
        found = try_to_load_from_cache(repo, f"{before}vocab.json")
        if isinstance(found, str):
            return TokenizerFiles(Path(found).parent)
    return {}


def open_tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a weights' file, or of all the shards that an index names.

    Raises:
        CheckpointError: it is broken, lacks a shard, or holds other things than tensors.
    """
    if path.suffix == ".json":
        paths = _shards(path)
        if all(shard.suffix == ".safetensors" for shard in paths):
            return SafeTensors(paths)
        return {name: tensor for shard in paths for name, tensor in _unpickle(shard).items()}
    return SafeTensors([path]) if path.suffix == ".safetensors" else _unpickle(path)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape, without reading what need not be read."""
    if isinstance(tensors, SafeTensors):
        return tensors.shapes()
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _shards(index: Path) -> list[Path]:
    paths = [index.parent / name for name in shard_names(index)]
    lacking = next((path.name for path in paths if not path.is_file()), None)
    if lacking is not None:
        raise CheckpointError(f"{index.parent} lacks the shard '{lacking}' that its index names")
    return paths


def shard_names(index: Path) -> list[str]:
    """The files that an index names, each a plain name beside it."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index} has no weight map")
    shards = sorted(set(map(str, names.values())))
    for name in shards:
        if not re.fullmatch(r"[\w-][\w.-]{0,200}", name):
            raise CheckpointError(f"{index} names '{name}', which is no file beside it")
    return shards


def _unpickle(path: Path) -> dict[str, Tensor]:
    """A state dict saved by torch.save, with nothing but tensors in it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's guesses about damaged bytes; the error says enough
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RecursionError):
        raise CheckpointError(
            f"{path} is not a plain state dict: it is damaged, or holds Python objects, and Vitrail never runs code "
            "from a checkpoint"
        ) from None
    except Exception as error:  # damaged bytes make the unpickler stumble over errors of every kind
        raise CheckpointError(f"{path} is not a whole PyTorch checkpoint ({reason_of(error)})") from None
    for wrapper in ("state_dict", "model"):  # what training scripts wrap it in
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and _is_plain(item) for name, item in state.items()
    ):
        raise CheckpointError(f"{path} is not a state dict: it holds other things than named tensors")
    return state


def _is_plain(thing: object) -> bool:
    """Whether this is a tensor with its numbers in memory, one by one: not sparse, quantised or without storage."""
    return (
        isinstance(thing, Tensor)
        and thing.layout == torch.strided
        and thing.device.type == "cpu"
        and not thing.is_quantized
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: there is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({reason_of(error)})") from None
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> dict[str, Any]:
    """The object that a text in JSON holds; `where` says in an error where it stands.

    Raises:
        CheckpointError: there is none.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} cannot be read as JSON ({reason_of(error)})") from None
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{where} holds no JSON object")
    return parsed


def licence_of(folder: Path) -> str | None:
    """The licence in the front matter of a hub card."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    found = re.search(r"^license:\s*[\"']?([\w.+-]+)", front, re.MULTILINE)
    return found[1] if found else None


def reason_of(error: BaseException) -> str:
    """What an error says, in one line: some libraries' messages carry the stack of their C++."""
    return first_line(error).rstrip(".:")[:200]
