"""Find a checkpoint and open its files: in the box, in a folder, as one file, or on the hub.

No code in a checkpoint is ever run.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.checkpoints.box import box_names, open_box
from vitrail.checkpoints.layout import Description
from vitrail.checkpoints.original import original_kind
from vitrail.checkpoints.pipelines import INDEX, PipelineLayout, open_parts
from vitrail.checkpoints.reading import (
    TOKENIZERS,
    SafeTensors,
    TokenizerFiles,
    cached_tokenizer,
    licence_of,
    open_tensors,
    parse_json,
    read_json,
    reason_of,
    shapes_of,
    shard_names,
)
from vitrail.errors import CheckpointError
from vitrail.registry import layouts, published

_HUB_ID = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(/(?P<part>unet|vae|transformer|text_encoder|text_encoder_2))?(@(?P<revision>[\w./-]+))?"
)
_FORMS = {  # a config, and the weights it may stand beside, in the order in which the publishers' libraries look
    "config.json": (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.bin",
    ),
    "open_clip_config.json": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
_USUAL_FORM = "config.json"
_WEIGHTS = tuple(file for files in _FORMS.values() for file in files)
_WHOLE_WEIGHTS = ", ".join(file for file in _WEIGHTS if not file.endswith(".index.json"))
_CLIP_TOKENIZERS = (  # all the same; for a Stable Diffusion in one file, which holds none
    ("openai/clip-vit-large-patch14", ""),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "tokenizer/"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "tokenizer/"),
)
_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
_GENERATION, _ENDS = "generation_config.json", "eos_token_id"


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


def open_checkpoint(name_or_path: str, architecture: str | None = None, *, half: bool = False) -> Checkpoint:
    """Find a checkpoint and read its headers.

    Looked for in this order: a name in the box, a folder or file that exists, a published name of the registry, a hub
    id `org/name[@revision]`, or one part of a pipeline, `org/name/unet[@revision]`.

    Args:
        name_or_path: what the user called it.
        architecture: timm's name of the network, for a bare state dict that does not say what it is.
        half: whether of a pipeline's weights those in half precision are wanted, where there are such.

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
        return _open_folder(name_or_path, path, architecture, half=half)
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
    form = known[0].config_file if known else None
    folder = _fetch(name_or_path, hub_id["repo"], hub_id["part"], hub_id["revision"], form, half)
    return _open_folder(name_or_path, folder, architecture, known[1].licence if known else None, form, half=half)


def _not_found(name: str) -> str:
    close = difflib.get_close_matches(name, box_names(), n=1)
    name = name if len(name) <= 200 else f"{name[:200]}…"
    hint = f"; did you mean '{close[0]}'?" if close else "; `vitrail models` lists the names there are"
    return f"there is no model '{name}': it is not in the box, no such file or folder exists, and it is no hub id{hint}"


def _open_folder(
    name: str,
    folder: Path,
    architecture: str | None,
    licence: str | None = None,
    form: str | None = None,
    *,
    half: bool = False,
) -> Checkpoint:
    def get(file: str) -> Path | None:
        return folder / file if (folder / file).is_file() else None

    if form in (None, INDEX) and (index := get(INDEX)) is not None:
        description, tensors = open_parts(get, _pipeline(read_json(index), name), half)
        return Checkpoint(name, description, tensors, licence or licence_of(folder))
    weights, config_file = _find_form(get, form or _USUAL_FORM)
    if weights is None:
        loose = sorted(folder.glob("*.safetensors"))
        if len(loose) != 1:
            raise CheckpointError(f"the folder {folder} holds no weights: none of {_WHOLE_WEIGHTS} is there")
        weights = loose[0]
    config: Mapping[str, Any] | None
    if config_file is not None:
        config = read_json(config_file) | _ends(get(_GENERATION))
    elif architecture:
        config = {"architecture": architecture}
    else:
        config = None
    preprocessor = next((read_json(folder / file) for file in _PREPROCESSORS if (folder / file).is_file()), {})
    return _open_file(name, weights, config, licence or licence_of(folder), preprocessor, TokenizerFiles(folder))


def _ends(generation: Path | None) -> dict[str, Any]:
    """The ids that end a text, by a file on how texts are written, which has the last word on them; {} for none."""
    said = {} if generation is None else read_json(generation)
    return {} if said.get(_ENDS) is None else {_ENDS: said[_ENDS]}


def _pipeline(index: Mapping[str, Any], name: str) -> PipelineLayout:
    """The layout of the pipeline that a model_index.json speaks of."""
    for layout in layouts():
        if isinstance(layout, PipelineLayout) and layout.recognises(index):
            return layout
    raise CheckpointError(f"'{name}' is a pipeline of no kind that Vitrail knows ({index.get('_class_name')})")


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
    tensors = open_tensors(path)
    if isinstance(tensors, SafeTensors) and "vitrail" in tensors.metadata:  # our own form says everything in the file
        config = {"vitrail": parse_json(tensors.metadata["vitrail"], f"the header of {path}")}
        tokenizer_files = {name: said for name, said in tensors.metadata.items() if name == "tokenizer"}
        licence = licence or tensors.metadata.get("licence")
    kind = None if config and config.keys() != {"architecture"} else original_kind(shapes_of(tensors))
    if kind is not None:
        config = {**(config or {}), "original": kind}
        tokenizer_files = tokenizer_files or TokenizerFiles(path.parent) or cached_tokenizer(*_CLIP_TOKENIZERS)
    if config is None:
        raise CheckpointError(
            f"nothing says of which network the weights in {path} are: load a folder that has a config.json, or name "
            "the network (--architecture vit_base_patch16_224, say)"
        )
    description = Description(config, preprocessor or {}, shapes_of(tensors), tokenizer_files or {})
    return Checkpoint(name, description, tensors, licence)


def _fetch(name: str, repo: str, part: str | None, revision: str | None, form: str | None, half: bool) -> Path:
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
            return Path(
                hf_hub_download(repo, file, subfolder=part, revision=revision, local_files_only=bool(unreachable))
            )
        except LocalEntryNotFoundError as error:
            unreachable.append(error)
            return None
        except EntryNotFoundError:
            return None

    try:
        ask()
        if part is None and form in (None, INDEX) and (index := get(INDEX)) is not None:
            open_parts(get, _pipeline(read_json(index), name), half)
            get("README.md")
            return index.parent
        weights, _ = _find_form(get, form or _USUAL_FORM)
        if weights is None and unreachable:
            raise unreachable[0]
        if weights is None:
            raise CheckpointError(f"'{name}' on the hub holds no weights that Vitrail reads ({_WHOLE_WEIGHTS})")
        if weights.name.endswith(".index.json"):
            for shard in shard_names(weights):
                get(shard)
        for file in (*_PREPROCESSORS, _GENERATION, *TOKENIZERS, "README.md"):
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
            f"cannot be reached ({reason_of(error.__cause__ or error)})"
        ) from None
    return weights.parent
