"""Reading a saved model: its files in a folder or on a hub, its architecture, and what its weights file holds.

Everything is checked before memory is allocated for the network: a `config.json` of a few bytes can describe one of any
size. Only safetensors are read, never pickled weights.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reid_accel.config.strict import parsed_json
from reid_accel.errors import InputError, first_line, listed
from reid_accel.files import CHECKSUM, check_regular, has_right_checksum, read_text, sha256, with_checksum
from reid_accel.models.architecture import Architecture
from reid_accel.models.model_folder import MODEL_FILES

MAX_CONFIG_BYTES = 2**20
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}
"""The types of usable tensors, by their names in .safetensors files."""
WEIGHTS_CHECKSUM = "weights_sha256"
CONVERTED = (torch.float16, torch.bfloat16, torch.float64)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """What a .safetensors file holds, without its numbers."""

    shape: Mapping[str, tuple[int, ...]]
    dtype: Mapping[str, torch.dtype | str]
    """The name in the file where torch's is not in `DTYPES`."""
    same_as: Mapping[str, str]
    """For tensors that share their memory with another one: the name under which they are stored."""


def model_files(name: str, **of_the_hub: Any) -> tuple[Path, Path]:
    """`config.json` and `model.safetensors` of a folder or a hub's repository; of_the_hub: as for `hf_hub_download`."""
    if Path(name).is_dir():
        return Path(name) / MODEL_FILES[0], Path(name) / MODEL_FILES[1]
    return _downloaded(name, MODEL_FILES[0], of_the_hub), _downloaded(name, MODEL_FILES[1], of_the_hub)


def _downloaded(repo_id: str, file: str, of_the_hub: Mapping[str, Any]) -> Path:
    try:
        return Path(hf_hub_download(repo_id, file, **of_the_hub))
    except (EntryNotFoundError, OSError, ValueError) as error:
        if is_missing_on_hub(error):
            raise InputError(
                f"the hub repository {repo_id} has no {file}, so it is no model of this package; pickled weights "
                "(pytorch_model.bin) are not read, since loading them can run code"
            ) from error
        raise InputError(
            f"there is no folder {repo_id}, and no hub repository {repo_id} could be loaded ({first_line(error)})"
        ) from error


def is_missing_on_hub(error: BaseException) -> bool:
    """Whether the hub answered that a repository has no such file; without a connection, nothing is known."""
    return isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def read_architecture(path: Path) -> Architecture:
    """The architecture of a `config.json`. Raises InputError for a file that isn't one."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InputError(f"it has {path.stat().st_size:,} bytes, but a model's has a few thousand")
        content = parsed_json(read_text(path))
        if not isinstance(content, dict) or "architecture" not in content:
            raise InputError("it has no field `architecture`, so it is not of a model of this package")
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(
            f"the model {path.parent} cannot be loaded: {path.name} cannot be used ({error}); copy the model again"
        ) from error
    return Architecture.from_json(content["architecture"])


def write_config(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `config.json` beside the weights, with checksums of both."""
    checked = with_checksum({**content, WEIGHTS_CHECKSUM: sha256(folder / MODEL_FILES[1])})
    (folder / MODEL_FILES[0]).write_text(json.dumps(checked, sort_keys=True, indent=2) + "\n", encoding="utf-8")


def warn_of_changes(config_file: Path, weights_file: Path) -> None:
    """Log a warning for each file that isn't the one that was saved; earlier versions saved no checksums."""
    content = parsed_json(read_text(config_file))
    kept = content.get(WEIGHTS_CHECKSUM)
    changed = {
        config_file: CHECKSUM in content and not has_right_checksum(content),
        weights_file: kept is not None and kept != sha256(weights_file),
    }
    for path, is_changed in changed.items():
        if is_changed:
            logger.warning(
                f"{path} was changed after the model was saved (its checksum is another): unless that was intended, "
                "copy the model again"
            )


def read_header(path: Path) -> Header:
    """The names, shapes and types in a .safetensors file. Raises SafetensorError for another or a damaged file."""
    check_regular(path)
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return Header(
            {name: tuple(part.get_shape()) for name, part in slices.items()},
            {name: DTYPES.get(part.get_dtype(), part.get_dtype()) for name, part in slices.items()},
            file.metadata() or {},
        )


def read_model_header(path: Path) -> Header:
    """The header of a saved model's weights. Raises InputError for a damaged file."""
    try:
        return read_header(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the model {path.parent} cannot be loaded: {path.name} is damaged or incomplete ({error}); copy it again"
        ) from error


def check_size(architecture: Architecture, header: Header, name: str) -> None:
    """Raise InputError if the architecture has more parts or attributes than the file has tensors.

    Modules take memory even without weights.
    """
    modules = architecture.num_parts + len(architecture.groups)
    if modules > len(header.shape):
        raise misfit(name, f"{modules:,} stripes and attributes, but {len(header.shape):,} tensors")


def check_weights(state: Mapping[str, Tensor], header: Header, name: str) -> None:
    """Raise InputError unless the file holds exactly the tensors of a network; logs a warning if any is converted.

    state: the network's state dict; its tensors may be on the meta device.
    """
    stored = {key: header.same_as.get(key, key) for key in state}
    missing = sorted(key for key, source in stored.items() if source not in header.shape)
    unexpected = sorted(set(header.shape) - set(stored.values()))
    reshaped = [
        f"{key} {list(header.shape[source])} instead of {list(state[key].shape)}"
        for key, source in stored.items()
        if source in header.shape and header.shape[source] != tuple(state[key].shape)
    ]
    kinds = (("missing", missing), ("of another shape", reshaped), ("unexpected", unexpected))
    problems = [f"{len(keys)} {kind} ({listed(keys, 3, 200)})" for kind, keys in kinds if keys]
    if problems:
        raise misfit(name, f"of {len(state)} tensors, {', '.join(problems)}")
    check_dtypes({stored[key]: value for key, value in state.items()}, header.dtype, name)


def check_dtypes(wanted: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype | str], name: str) -> None:
    """Raise InputError for types that can't become those of a network; logs a warning if any is converted.

    wanted: the network's tensors; dtypes: those of the stored tensors of the same names.
    """
    wrong = [key for key, tensor in wanted.items() if dtypes[key] not in _allowed(tensor)]
    if wrong:
        raise InputError(
            f"the weights of {name} have types that cannot be used ({len(wrong)} tensors, such as {wrong[0]} in "
            f"{_word(dtypes[wrong[0]])}): store them as float32, unquantized"
        )
    converted = sorted({_word(dtypes[key]) for key in wanted if dtypes[key] in CONVERTED})
    if converted:
        logger.warning(f"the weights of {name} are stored as {' and '.join(converted)} and are converted to float32")


def _allowed(tensor: Tensor) -> tuple[torch.dtype, ...]:
    if tensor.is_floating_point():
        return (torch.float32, *CONVERTED)
    return (torch.bool,) if tensor.dtype == torch.bool else (torch.int64, torch.int32)


def _word(dtype: torch.dtype | str) -> str:
    return str(dtype).removeprefix("torch.")


def misfit(name: str, problem: str) -> InputError:
    """The error for weights of another network than `config.json` describes."""
    return InputError(
        f"the weights of the model {name} do not match its config.json; it may be from another version of reid_accel: "
        f"{problem[:300]}{'...' if len(problem) > 300 else ''}"
    )
