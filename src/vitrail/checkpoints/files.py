"""Find a checkpoint and open its files: in the box, in a folder, as one file, or on the hub.

No code in a checkpoint is ever run.
"""

import difflib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.checkpoints.box import box_names, open_box
from vitrail.checkpoints.layout import Description
from vitrail.errors import CheckpointError
from vitrail.registry import published

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_FORMS = {  # a config, and the weights it may stand beside, in the order in which the publishers' libraries look
    "config.json": (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ),
    "open_clip_config.json": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
_USUAL_FORM = "config.json"
_WEIGHTS = tuple(file for files in _FORMS.values() for file in files)
_WHOLE_WEIGHTS = ", ".join(file for file in _WEIGHTS if not file.endswith(".index.json"))
_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
)


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: nothing has been read but its headers.

    Attributes:
        name: what the user called it.
        description: what its files say.
        tensors: its tensors by the publisher's names; each is mapped from the file when asked for.
        licence: an SPDX identifier, where the checkpoint says.
    """

    name: str
    description: Description
    tensors: Mapping[str, Tensor]
    licence: str | None = None


class SafeTensors(Mapping[str, Tensor]):
    """The tensors of one or more safetensors files, memory-mapped: a tensor is read when its numbers are."""

    def __init__(self, paths: list[Path]) -> None:
        self._files: dict[str, Any] = {}
        self.metadata: dict[str, str] = {}
        for path in paths:
            try:
                file = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path} is not a whole safetensors file ({first_line(error)})") from None
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
        self._paths = {name: folder / name for name in _TOKENIZERS if (folder / name).is_file()}

    def __getitem__(self, name: str) -> str | bytes:
        path = self._paths[name]
        try:
            return path.read_bytes() if path.suffix == ".model" else path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({first_line(error)})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def open_checkpoint(name_or_path: str, architecture: str | None = None) -> Checkpoint:
    """Find a checkpoint and read its headers.

    Looked for in this order: a name in the box, a folder or file that exists, a published name of the registry, a hub
    id `org/name[@revision]`.

    Args:
        name_or_path: what the user called it.
        architecture: timm's name of the network, for a bare state dict that does not say what it is.

    Raises:
        CheckpointError: it cannot be found, fetched, or is broken.
    """
    if name_or_path in box_names():
        path, config, licence = open_box(name_or_path)
        return _open_file(name_or_path, path, config, licence)
    path = Path(name_or_path)
    try:
        path = path.expanduser()
        is_file, is_folder = path.is_file(), bool(name_or_path) and path.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, with a null byte, or of a user there is not: no path
        is_file = is_folder = False
    if is_file:
        return _open_file(name_or_path, path, {"architecture": architecture} if architecture else None)
    if is_folder:
        return _open_folder(name_or_path, path, architecture)
    known = published(name_or_path)
    if known and not known[1].hub:
        raise CheckpointError(
            f"nobody has published weights for '{name_or_path}': it is the name of a network for weights of your own, "
            f"as in load('weights.safetensors', architecture='{name_or_path}')"
        )
    hub_id = _HUB_ID.fullmatch(known[1].hub if known else name_or_path)
    if (
        hub_id is None
        or path.suffix in (".safetensors", ".pth", ".bin", ".pt")
        or name_or_path.startswith((".", "/", "~"))
    ):
        raise CheckpointError(_not_found(name_or_path))
    form = known[0].config_file if known else _USUAL_FORM
    folder = _fetch(name_or_path, hub_id["repo"], hub_id["revision"], form)
    return _open_folder(name_or_path, folder, architecture, known[1].licence if known else None, form)


def _not_found(name: str) -> str:
    close = difflib.get_close_matches(name, box_names(), n=1)
    name = name if len(name) <= 200 else f"{name[:200]}…"
    hint = f"; did you mean '{close[0]}'?" if close else "; `vitrail models` lists the names there are"
    return f"there is no model '{name}': it is not in the box, no such file or folder exists, and it is no hub id{hint}"


def _open_folder(
    name: str, folder: Path, architecture: str | None, licence: str | None = None, form: str = _USUAL_FORM
) -> Checkpoint:
    weights, config_file = _find_form(lambda file: folder / file if (folder / file).is_file() else None, form)
    if weights is None:
        loose = sorted(folder.glob("*.safetensors"))
        if len(loose) != 1:
            raise CheckpointError(f"the folder {folder} holds no weights: none of {_WHOLE_WEIGHTS} is there")
        weights = loose[0]
    if config_file is not None:
        config = _read_json(config_file)
    elif architecture:
        config = {"architecture": architecture}
    else:
        config = None
    preprocessor = next((_read_json(folder / file) for file in _PREPROCESSORS if (folder / file).is_file()), {})
    return _open_file(name, weights, config, licence or _licence_of(folder), preprocessor, TokenizerFiles(folder))


def _find_form(get: Callable[[str], Path | None], first: str) -> tuple[Path | None, Path | None]:
    """The weights, and the config they stand beside; weights without one only where there is no such pair.

    Args:
        get: a file by its name; None where there is none.
        first: the config to look for first, in a repository that holds several publishers' files.
    """
    lonely = None
    for config_name in sorted(_FORMS, key=lambda name: name != first):
        config = get(config_name)
        if config is not None:
            lonely = lonely or config
            weights = next((found for file in _FORMS[config_name] if (found := get(file))), None)
            if weights is not None:
                return weights, config
    return next((found for file in _WEIGHTS if (found := get(file))), None), lonely


def _open_file(
    name: str,
    path: Path,
    config: Mapping[str, Any] | None,
    licence: str | None = None,
    preprocessor: Mapping[str, Any] | None = None,
    tokenizer_files: Mapping[str, str | bytes] | None = None,
) -> Checkpoint:
    tensors: Mapping[str, Tensor]
    if path.name.endswith(".index.json"):
        paths = _shards(path)
        if all(shard.suffix == ".safetensors" for shard in paths):
            tensors = SafeTensors(paths)
        else:
            tensors = {name: tensor for shard in paths for name, tensor in _unpickle(shard).items()}
    elif path.suffix == ".safetensors":
        tensors = SafeTensors([path])
    else:
        tensors = _unpickle(path)
    if isinstance(tensors, SafeTensors):
        shapes = tensors.shapes()
        if "vitrail" in tensors.metadata:  # our own form says everything in the file itself
            config = {"vitrail": _parse_json(tensors.metadata["vitrail"], f"the header of {path}")}
            tokenizer_files = {name: said for name, said in tensors.metadata.items() if name == "tokenizer"}
            licence = licence or tensors.metadata.get("licence")
    else:
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if config is None:
        raise CheckpointError(
            f"nothing says of which network the weights in {path} are: load a folder that has a config.json, or name "
            "the network (--architecture vit_base_patch16_224, say)"
        )
    return Checkpoint(name, Description(config, preprocessor or {}, shapes, tokenizer_files or {}), tensors, licence)


def _shards(index: Path) -> list[Path]:
    paths = [index.parent / name for name in _shard_names(index)]
    lacking = next((path.name for path in paths if not path.is_file()), None)
    if lacking is not None:
        raise CheckpointError(f"{index.parent} lacks the shard '{lacking}' that its index names")
    return paths


def _shard_names(index: Path) -> list[str]:
    """The files that an index names, each a plain name beside it."""
    names = _read_json(index).get("weight_map")
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
        raise CheckpointError(f"{path} is not a whole PyTorch checkpoint ({first_line(error)})") from None
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({first_line(error)})") from None
    return _parse_json(text, str(path))


def _parse_json(text: str, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} cannot be read as JSON ({first_line(error)})") from None
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{where} holds no JSON object")
    return parsed


def _licence_of(folder: Path) -> str | None:
    """The licence in the front matter of a hub card."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    found = re.search(r"^license:\s*[\"']?([\w.+-]+)", front, re.MULTILINE)
    return found[1] if found else None


def _fetch(name: str, repo: str, revision: str | None, form: str) -> Path:
    """The folder of the local hub cache that holds a hub checkpoint, after fetching what of it is missing."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    unreachable: list[Exception] = []  # the hub does not answer: only its local cache is asked

    def ask() -> None:
        """Ask the hub once: `hf_hub_download` would try for half a minute, and again for every file."""
        try:
            get_hf_file_metadata(hf_hub_url(repo, "config.json", revision=revision), timeout=10)
        except HFValidationError:
            raise
        except HfHubHTTPError:
            pass  # an answer, too
        except Exception as error:  # of whichever network library huggingface_hub is built on
            unreachable.append(error)

    def get(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(repo, file, revision=revision, local_files_only=bool(unreachable)))
        except LocalEntryNotFoundError as error:
            unreachable.append(error)
            return None
        except EntryNotFoundError:
            return None

    try:
        ask()
        weights, _ = _find_form(get, form)
        if weights is None and unreachable:
            raise unreachable[0]
        if weights is None:
            raise CheckpointError(f"'{name}' on the hub holds no weights that Vitrail reads ({_WHOLE_WEIGHTS})")
        if weights.name.endswith(".index.json"):
            for shard in _shard_names(weights):
                get(shard)
        for file in (*_PREPROCESSORS, *_TOKENIZERS, "README.md"):
            get(file)
    except CheckpointError:
        raise
    except GatedRepoError:
        raise CheckpointError(
            f"'{name}' is gated: accept its terms on the hub and log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(f"'{repo}' on the hub has no revision '{revision}'") from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"there is no '{name}' on the hub (or it is private: log in with `hf auth login`)"
        ) from None
    except HFValidationError:
        raise CheckpointError(_not_found(name)) from None
    except Exception as error:
        raise CheckpointError(
            f"'{name}' is not in the box, no such folder exists, it is not in the hub's local cache, and the hub "
            f"cannot be reached ({first_line(error.__cause__ or error)})"
        ) from None
    return weights.parent


def first_line(error: BaseException) -> str:
    """What an error says, in one line: some libraries' messages carry the stack of their C++."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")[:200]
