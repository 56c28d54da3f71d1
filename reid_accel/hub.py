"""Pushing a saved model folder to a model hub: plan, checks and upload."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token, metadata_load
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from reid_accel.errors import InputError, first_line, listed
from reid_accel.export.packed import PackedExport, packed_export
from reid_accel.files import read_text
from reid_accel.models.model_folder import CARD_FILE, MODEL_FILES, OWN_FILES
from reid_accel.reporting.card import DRAWN_TAG, pushed_card

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
REPO_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
NO_TOKEN = (
    "pushing needs a token with write access: run `hf auth login`, or set the environment variable HF_TOKEN, and push "
    "again"
)

Visibility = Literal["auto", "private", "public"]


@dataclass(frozen=True)
class PlannedFile:
    """A file by its name on the hub (with forward slashes), which is that inside the model's folder unless `source` is
    its path."""

    name: str
    size_bytes: int
    source: Path | None = None


@dataclass(frozen=True)
class PushPlan:
    """The files and the destination of a push; `uploaded` is False for a dry run.

    `reason`: why the repository is private by default; `left_out`: files in the folder that are no part of the model.
    """

    repo_id: str
    url: str
    private: bool
    files: tuple[PlannedFile, ...]
    uploaded: bool
    reason: str = ""
    left_out: tuple[str, ...] = ()
    card_section: str = ""
    """What is added to the card."""

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def lines(self) -> list[str]:
        """The plan as text: one line per file, then the total."""
        rows = [f"{readable_size(file.size_bytes):>10}  {file.name}" for file in self.files]
        verb = "pushed to" if self.uploaded else "would be pushed to"
        kind = "private" if self.private else "public"
        noun = "file" if len(self.files) == 1 else "files"
        total = f"{len(self.files)} {noun}, {readable_size(self.size_bytes)}"
        if self.left_out:
            rows.append(f"left out, since they are no part of the model: {listed(self.left_out)}")
        return [*rows, f"{total}, {verb} {self.url} ({kind}{self.reason})"]


def push(
    folder: Path,
    repo_id: str,
    *,
    visibility: Visibility = "auto",
    dry_run: bool = False,
    formats: tuple[str, ...] = (),
) -> PushPlan:
    """Upload `folder` to the model repository `repo_id`, which is created if it is new; `dry_run` only lists the files.

    The hub is HF_ENDPOINT, by default huggingface.co. visibility: of a new repository; `auto` is private unless the
    model was trained on drawn pedestrians only. formats: of the export beside the model's folder, which goes along (and
    is made if there is none). Raises InputError before anything is sent for a bad name, a folder that
    is not a saved model, a missing token, or a private push to an existing public repository, and when the upload
    fails. The folder is never modified.
    """
    planned = plan_push(folder, repo_id, visibility)
    if formats:
        planned = _with_export(planned, packed_export(folder, formats))
    if dry_run:
        return planned
    check_token()
    try:
        private = _upload(folder, planned)
    except HfHubHTTPError as error:
        raise InputError(f"the hub refused {repo_id}: {_reason(error)}. {_unchanged(folder)}") from error
    except InputError:
        raise
    except (HTTPError, OSError, ValueError) as error:
        raise InputError(f"no upload to {constants.ENDPOINT}: {first_line(error)}. {_unchanged(folder)}") from error
    return replace(planned, private=private, reason=planned.reason if private else "", uploaded=True)


def plan_push(folder: Path, repo_id: str, visibility: Visibility = "auto") -> PushPlan:
    """The model's own files, in name order, which a push would upload; InputError if it would be refused."""
    check_repo_id(repo_id)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; pass the model/ folder of a run")
    visible = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path, folder)]
    names = [path.relative_to(folder).as_posix() for path in visible]
    _check_files(folder, names)
    own = [name for name in names if name in OWN_FILES]
    for name in own:
        _check_inside(folder / name, folder)
    files = tuple(PlannedFile(name, (folder / name).stat().st_size) for name in own)
    by_default = visibility == "auto" and not _saw_drawn_people_only(folder)
    reason = ", because it is not known to be trained on drawn pedestrians only"
    return PushPlan(
        repo_id,
        f"{constants.ENDPOINT}/{repo_id}",
        visibility == "private" or by_default,
        files,
        uploaded=False,
        reason=reason if by_default else "",
        left_out=tuple(name for name in names if name not in OWN_FILES),
    )


def _with_export(planned: PushPlan, packed: PackedExport) -> PushPlan:
    files = tuple(PlannedFile(name, path.stat().st_size, path) for name, path in packed.files.items())
    return replace(planned, files=(*planned.files, *files), card_section=packed.section)


def _saw_drawn_people_only(folder: Path) -> bool:
    """Whether the model's card has the tag for drawn data; False without a card."""
    card = folder / CARD_FILE
    try:
        metadata = metadata_load(card) if card.is_file() else None
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"the metadata of {card} is not valid YAML ({first_line(error)}); correct it") from error
    return DRAWN_TAG in ((metadata or {}).get("tags") or [])


def check_repo_id(repo_id: str) -> None:
    """Raise InputError unless `repo_id` is a valid `user/name` on the hub."""
    well_spelled = REPO_ID.fullmatch(repo_id) and "--" not in repo_id and ".." not in repo_id
    if not well_spelled or repo_id.endswith((".git", "-", ".")) or len(repo_id) > 96:
        raise InputError(
            f"{repo_id!r} is not a repository name; it must have the form user/name with letters, digits, '-', '_' "
            "and '.', at most 96 characters"
        )


def check_token() -> None:
    """Raise InputError if no token is stored; called before a training that ends in a push."""
    if get_token() is None:
        raise InputError(NO_TOKEN)


def readable_size(size_bytes: int) -> str:
    """A human-readable file size.

    >>> readable_size(999), readable_size(44_700_000)
    ('999 B', '44.7 MB')
    """
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"


def _check_files(folder: Path, names: list[str]) -> None:
    missing = [name for name in MODEL_FILES if name not in names]
    if missing:
        raise InputError(
            f"{folder} is not a saved model: {' and '.join(missing)} missing; pass the model/ folder of a run"
        )
    pickles = [name for name in names if Path(name).suffix.lower() in PICKLE_SUFFIXES]
    if pickles:
        raise InputError(
            f"{folder} contains {', '.join(pickles)}: such files can run code when they are loaded; remove "
            "them, the weights are in model.safetensors"
        )


def _check_inside(path: Path, folder: Path) -> None:
    """Raise InputError for a symbolic link out of the folder: what it leads to may not be meant to be public."""
    target = path.resolve()
    if not target.is_relative_to(folder.resolve()):
        raise InputError(f"{path} is a link to {target}, outside the model's folder: replace it by a copy to push it")


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _upload(folder: Path, planned: PushPlan) -> bool:
    """Create the repository if it is new and commit the files; returns whether it is private."""
    api = HfApi(library_name="reid_accel")
    api.create_repo(planned.repo_id, private=planned.private, repo_type="model", exist_ok=True)
    private = bool(api.model_info(planned.repo_id).private)
    if planned.private and not private:
        raise InputError(
            f"{planned.repo_id} exists and is public, and this push would be private; make the repository private in "
            "its settings, or push with --visibility public"
        )
    operations = [
        CommitOperationAdd(file.name, file.source or _content(folder / file.name, planned)) for file in planned.files
    ]
    api.create_commit(planned.repo_id, operations, commit_message="Push a reid_accel model", repo_type="model")
    return private


def _content(path: Path, planned: PushPlan) -> Path | bytes:
    """What is uploaded for a file of the model: its path, or the card with the repository's name."""
    if path.name != CARD_FILE:
        return path
    return pushed_card(read_text(path), planned.repo_id, planned.card_section).encode()


def _reason(error: HfHubHTTPError) -> str:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return f"the token needs write access to this repository ({status})"
    return first_line(error)


def _unchanged(folder: Path) -> str:
    return f"{folder} is unchanged: push it again once this is fixed"
