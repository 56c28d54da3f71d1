import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from reid_accel.errors import InputError
from reid_accel.weights.containers import read_checkpoint


def some_weights() -> dict[str, torch.Tensor]:
    return {f"layer{n}.weight": torch.full((3, 4), float(n)) for n in range(3)}


class Payload:
    """An object whose loading would run a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_payload_gets_a_sentence_and_does_nothing(zipped: bool, tmp_path: Path) -> None:
    victim = tmp_path / "touched"
    content = {"state_dict": some_weights(), "note": Payload(f"touch {victim}")}
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"holds more than weights: loading it calls (posix|nt)\.system, which is not"):
        read_checkpoint(tmp_path / "bad.pth")
    assert not victim.exists()
    torch.load(tmp_path / "bad.pth", weights_only=False)
    assert victim.exists(), "the control: the payload works where pickles are run"


@pytest.mark.parametrize("function", ["builtins.eval", "builtins.getattr", "subprocess.Popen", "torch.hub.load"])
def test_no_function_is_called_by_name(function: str, tmp_path: Path) -> None:
    module, _, name = function.rpartition(".")
    plain = io.BytesIO()
    torch.save(some_weights(), plain)
    pickled = f"c{module}\n{name}\n(S'1'\ntR.".encode()
    pickletools.dis(pickled, io.StringIO())  # a valid pickle
    path = tmp_path / "bad.pth"
    path.write_bytes(replaced_pickle(plain.getvalue(), pickled))
    with pytest.raises(InputError, match="holds more than weights"):
        read_checkpoint(path)


def replaced_pickle(archive: bytes, pickled: bytes) -> bytes:
    """A zip archive like torch's with another pickle in it."""
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return out.getvalue()


def test_settings_and_scores_beside_the_weights_are_dropped(tmp_path: Path) -> None:
    import argparse
    from collections import OrderedDict

    content = {
        "state_dict": OrderedDict(some_weights()),
        "rank1": np.float64(0.9),
        "curve": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1),
        "epoch": 3,
    }
    torch.save(content, tmp_path / "net.pth")
    checkpoint = read_checkpoint(tmp_path / "net.pth")
    assert checkpoint.inside == "state_dict"
    assert list(checkpoint.tensors) == list(some_weights())


class _Python2Pickler(pickle._Pickler):
    """Writes text as Python 2 did: as bytes, here in latin-1."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes_string(self, text: str) -> None:
        encoded = text.encode("latin-1")
        self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(encoded)) + encoded)
        self.memoize(text)

    dispatch[str] = save_bytes_string


def test_an_old_file_of_python_2_is_read_as_latin_1(tmp_path: Path) -> None:
    pickler = SimpleNamespace(
        __name__="pickle", Pickler=_Python2Pickler, dump=lambda o, f, protocol: _Python2Pickler(f, protocol).dump(o)
    )
    path = tmp_path / "old.pth.tar"
    weights = {"größe.weight": torch.ones(2), "b.weight": torch.zeros(3)}
    torch.save({"state_dict": weights}, path, pickler, pickle_protocol=2, _use_new_zipfile_serialization=False)
    assert b"gr\xf6\xdfe" in path.read_bytes()
    assert list(read_checkpoint(path).tensors) == list(weights)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_damaged(zipped: bool, share: float, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(some_weights(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"net\.pth is damaged or incomplete: download or copy it again"):
        read_checkpoint(path)


def test_flipped_bytes_give_a_sentence_or_weights(tmp_path: Path) -> None:
    path, rng = tmp_path / "net.pth", np.random.default_rng(0)
    for zipped in (True, False):
        torch.save(some_weights(), path, _use_new_zipfile_serialization=zipped)
        content = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(content)
            for place in rng.integers(0, len(content), 3):
                damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with suppress(InputError):  # anything else is a fault
                read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (
            b"<!DOCTYPE html><html>not found</html>",
            "is not a checkpoint: it is neither .* begins with b'<!DOCTYPE html>",
        ),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "is not a checkpoint"),
        (b"PK\x03\x04" + bytes(64), "is damaged or incomplete"),
        (b"\x80\x02}q\x00.", "is damaged or incomplete"),
    ],
    ids=["empty", "a page", "an image", "a broken zip", "another pickle"],
)
def test_what_is_no_checkpoint_gets_a_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_checkpoint(path)


def test_addresses_folders_and_fifos_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"https:/+example\.org/a\.pth is an address: download the file first"):
        read_checkpoint(Path("https://example.org/a.pth"))
    with pytest.raises(InputError, match="is a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_checkpoint(tmp_path / "none.pth")
    os.mkfifo(tmp_path / "fifo.pth")
    with pytest.raises(InputError, match="not a regular file"):
        read_checkpoint(tmp_path / "fifo.pth")


def an_entry_that_holds_itself() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["model"] = content
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"epoch": 3, "best": 0.5}, "holds no weights: its entries are epoch, best"),
        (an_entry_that_holds_itself(), "holds no weights: its entries are model"),
        ([torch.zeros(3)], "holds no named tensors but a list"),
        (torch.zeros(3), "holds no named tensors but a Tensor"),
        ({"a": torch.zeros(2, 2).to_sparse(), "b": torch.zeros(1)}, "tensor a is sparse"),
        ({"a": torch.zeros(1).expand(10**9), "b": torch.zeros(1)}, "tensor a claims more numbers than the file holds"),
    ],
    ids=["no tensors", "itself", "a list", "a tensor", "sparse", "expanded"],
)
def test_contents_that_are_no_weights_get_a_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(InputError, match=sentence):
        read_checkpoint(tmp_path / "net.pth")


def test_a_whole_network_and_a_program_say_to_save_the_state_dict(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    torch.save(network, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"calls torch\.nn\.modules.*save only the network's state_dict"):
        read_checkpoint(tmp_path / "net.pth")
    torch.jit.trace(network, torch.zeros(1, 2)).save(str(tmp_path / "program.pt"))
    with pytest.raises(InputError, match=r"is a TorchScript program.*state_dict"):
        read_checkpoint(tmp_path / "program.pt")


def test_a_damaged_safetensors_file_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 10**12) + b"{}")
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        read_checkpoint(tmp_path / "a.safetensors")


MEMORY = """
import re, sys
from pathlib import Path
from reid_accel.weights.containers import read_checkpoint
from reid_accel.weights.backbone_file import as_float32
def anonymous(): return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = anonymous()
tensors = as_float32(read_checkpoint(Path(sys.argv[1])).tensors)
total = sum(float(value.flatten()[-1]) for value in tensors.values())
print((anonymous() - before) / 1024, total)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    torch.save({f"w{n}": torch.ones(4_000_000) for n in range(12)}, tmp_path / "large.pth")  # 192 MB
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "large.pth")], capture_output=True, text=True, check=True
    )
    grown_mib, total = map(float, done.stdout.split())
    assert total == 12
    assert grown_mib < 100, "a copy would be 183 MiB"
