"""Names and states of files, against the plain definitions that were used before."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.made_sets import draw_image, make_market, make_msmt17

from reid_accel.data import scan
from reid_accel.data.forms.layouts import MarketLayout, Msmt17
from reid_accel.data.listing import IMAGE_ENDINGS, find_images, list_images
from reid_accel.data.paths import Paths
from reid_accel.data.scan import are_there, entries_of, forget_entries, states_of
from reid_accel.errors import InputError


def settle(folder: Path) -> None:
    """As if the folder had last changed a minute ago."""
    os.utime(folder, (time.time() - 60, time.time() - 60))


def messy(root: Path) -> Path:
    """Images and all that lies beside them."""
    plain = ("b.jpg", "a.JPG", "C.png", "notes.txt", "no ending", "trailing.", "ü (1).jpeg")
    for name in (*plain, ".hidden.jpg", "._b.jpg"):
        draw_image(root / "made.jpg").rename(root / name)
    draw_image(root / "folder.jpg" / "inside.jpg")
    draw_image(root / "b" / "2.jpg")
    draw_image(root / "b-c" / "1.jpg")
    draw_image(root / ".secret" / "x.jpg")
    (root / "linked").symlink_to(root / "b", target_is_directory=True)
    (root / "link.jpg").symlink_to(root / "b.jpg")
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    (root / "circle.jpg").symlink_to(root / "circle.jpg")
    return root


def plainly_an_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".") and not path.is_dir()


def test_images_are_those_that_asking_each_file_finds(tmp_path: Path) -> None:
    root = messy(tmp_path / "set")
    expected = sorted(path for path in root.iterdir() if plainly_an_image(path))
    assert list_images(root) == expected
    assert "dangling.jpg" in {path.name for path in expected}
    below = [path for path in root.rglob("*") if plainly_an_image(path)]
    visible = sorted(path for path in below if not any(part[0] == "." for part in path.relative_to(root).parts))
    assert find_images(root) == visible
    assert [path.parent.name for path in visible[-3:]] != ["b", "b", "b"], "the control: folders among files"


def test_the_fingerprint_is_the_hash_of_names_sizes_and_times(tmp_path: Path) -> None:
    """So that earlier crop stores and checkpoints are found."""
    root = make_market(tmp_path / "market")
    (root / "query" / "9999_c1s1_000000_00.png").symlink_to(root / "gone.png")
    listing = MarketLayout().read(root)
    digest = hashlib.sha256(str(root.resolve()).encode())
    for split in sorted(listing.splits):
        for image in listing.splits[split]:
            try:
                status = image.path.stat()
                readable = "" if os.access(image.path, os.R_OK) else " unreadable"
                state = f"{status.st_size} {status.st_mtime_ns}{readable}"
            except OSError as error:
                state = str(error.strerror)
            digest.update(f"{image.path.parent.name}/{image.path.name} {state}\n".encode())
    assert listing.fingerprint == digest.hexdigest()[:16]


@pytest.mark.parametrize("number", [0, 1, 511, 513, 20_000])
def test_states_come_in_order_in_any_number(tmp_path: Path, number: int) -> None:
    files = [tmp_path / f"{size}.txt" for size in range(7)]
    for size, path in enumerate(files):
        path.write_bytes(b"x" * size)
    paths = [files[row * row % 7] for row in range(number)]
    found = list(states_of(paths))
    assert [path for path, _ in found] == paths
    assert [int(state.split()[0]) for _, state in found] == [row * row % 7 for row in range(number)]


def test_progress_is_told_for_large_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scan, "PROGRESS_EVERY", 8192)
    with caplog.at_level("INFO"):
        list(states_of([tmp_path] * 20_000))
    assert [record.message for record in caplog.records] == ["looked at 8,192 files", "looked at 16,384 files"]


def test_a_folder_is_read_once_for_check_listing_and_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_market(tmp_path / "market")
    for folder in (root, *root.iterdir()):
        settle(folder)
    read: list[str] = []
    plain = os.scandir

    def counted(folder: str) -> object:
        read.append(os.path.basename(folder))
        return plain(folder)

    monkeypatch.setattr(os, "scandir", counted)
    MarketLayout().check(root)
    MarketLayout().read(root)
    assert sorted(read) == ["bounding_box_test", "bounding_box_train", "query"]
    forget_entries(root / "query")
    forget_entries(tmp_path / "mark")  # of another folder
    MarketLayout().check(root)
    assert read[3:] == ["query"], "the control: it is read again after it was forgotten"


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda folder: draw_image(folder / "new.jpg"),
    "removed": lambda folder: (folder / "a.jpg").unlink(),
    "renamed": lambda folder: (folder / "a.jpg").rename(folder / "z.jpg"),
}


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_read_again(tmp_path: Path, change: str, settled: bool) -> None:
    draw_image(tmp_path / "a.jpg")
    if settled:
        settle(tmp_path)
    before = entries_of(tmp_path)
    CHANGES[change](tmp_path)
    after = entries_of(tmp_path)
    assert after != before
    assert after.files == tuple(sorted(path.name for path in tmp_path.iterdir()))


@pytest.mark.parametrize("number", [3, 40])
def test_files_are_there_as_asking_for_each_says(tmp_path: Path, number: int) -> None:
    for name in range(number):
        draw_image(tmp_path / "a" / f"{name}.jpg")
    (tmp_path / "a" / "0.jpg").unlink()
    (tmp_path / "a" / "1.jpg").unlink()
    (tmp_path / "a" / "1.jpg").symlink_to("gone")  # an unreadable image, not a missing one
    named = [tmp_path / "a" / f"{name}.jpg" for name in range(number + 2)]
    others = [tmp_path / "nowhere" / f"{name}.jpg" for name in range(number)]
    paths = [*named, *others, tmp_path / "a", *[str(path / ".") for path in named], "nul\0.jpg", Path("a/b\0c")]
    assert are_there(paths) == [os.path.lexists(path) for path in paths]
    assert are_there(named) == [False, *[True] * (number - 1), False, False]


def test_missing_images_of_a_list_are_named(tmp_path: Path) -> None:
    root = make_msmt17(tmp_path / "msmt17")
    first, *_ = Msmt17().read(root).splits["gallery"]
    first.path.unlink()
    with pytest.raises(InputError, match=rf"list_gallery\.txt: 1 of 2 images do not exist .*{first.name}"):
        Msmt17().read(root)


def test_paths_are_what_was_given(tmp_path: Path) -> None:
    given = [Path("a/1.jpg"), Path("b/2.jpg"), Path("3.jpg"), Path("/x/1.jpg"), Path(), Path("a/2.jpg"), tmp_path]
    paths = Paths.of(given, ["1.jpg", "set/2.jpg"])
    assert list(paths) == given
    assert (len(paths), paths[-1], list(paths[1:3])) == (7, given[-1], given[1:3])
    assert list(paths.select(np.array([5, 0, 0]))) == [given[5], given[0], given[0]]
