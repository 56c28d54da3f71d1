"""Saved models that are damaged, of another version, or made to do harm."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fake_hub import FakeHub, Repo
from safetensors.torch import load_file, save_file

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel, load_model
from reid_accel.version import __version__


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    settings = ModelConfig(backbone="test_resnet", height_px=64, width_px=32, neck_units=16, stripes=(1, 2))
    ReIDModel(Architecture(model=settings, groups=MARKET_GROUPS, num_identities=3)).save_pretrained(folder)
    return folder


def changed(saved: Path, folder: Path, place: tuple[str | int, ...], value: object) -> Path:
    """A copy of the model with one value of config.json replaced, or removed if it is `...`."""
    content = json.loads((saved / "config.json").read_text())
    inside: Any = content["architecture"]
    for name in place[:-1]:
        inside = inside[name]
    if value is ...:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return with_config(saved, folder, json.dumps(content))


def with_config(saved: Path, folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    return folder


WRONG_VALUES = {
    bool: [0, 1, "true", None, [True]],
    int: [True, "3", 3.0, 2.5, None, [3], -1],
    str: [3, None, ["x"], True],
}


def wrong_values() -> list[tuple[tuple[str | int, ...], object]]:
    """For each field of the architecture: values of other types, a list, an object."""
    settings = ModelConfig(backbone="test_resnet", height_px=64, width_px=32, stripes=(1, 2))
    architecture = Architecture(model=settings, groups=MARKET_GROUPS)
    wrong: list[tuple[tuple[str | int, ...], object]] = []
    for prefix, holder in (((), architecture), (("model",), settings)):
        for each in fields(holder):  # type: ignore[arg-type]
            place = (*prefix, each.name)
            optional = ["3", True, 2.5] if each.name == "patch_stride" else [3, True]
            values = WRONG_VALUES.get(type(getattr(holder, each.name)), optional)
            wrong += [(place, value) for value in (*values, {"a": 1}, [[1]])]
    wrong += [(("model",), None), (("groups",), "hat"), (("groups", 0), []), (("groups", 0, "name"), 3)]
    wrong += [(("groups", 0, "name"), "hat"), (("groups", 0, "values"), "young"), (("groups", 0, "values"), ["young"])]
    wrong += [(("groups", 0, "values", 0), 1), (("groups", 0, "more"), 1), (("model", "nek"), "fc"), (("more",), 1)]
    wrong += [
        (("mean",), [0.5]),
        (("mean", 0), "0.5"),
        (("mean", 0), float("nan")),
        (("std", 1), 0),
        (("std", 1), True),
    ]
    wrong += [(("std", 2), -0.2), (("std", 2), float("inf")), (("num_identities",), -1), (("model", "stripes"), [])]
    wrong += [(("model", "stripes"), [0]), (("model", "stripes"), [1, True]), (("model", "stripes"), [1.0, 2])]
    wrong += [(("model", "neck"), "bnn"), (("model", "metric"), "manhattan"), (("model", "fit"), "crop")]
    wrong += [(("model", "height_px"), 65), (("model", "width_px"), 0), (("model", "neck_units"), 0)]
    wrong += [(("model", "last_stride"), True), (("model", "last_stride"), 1.0), (("model", "backbone"), "resnet51")]
    return wrong


@pytest.mark.parametrize(("place", "value"), wrong_values(), ids=str)
def test_every_wrong_value_of_a_config_is_refused_with_a_sentence(
    saved: Path, tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    folder = changed(saved, tmp_path, place, value)
    with pytest.raises(InputError) as info:
        load_model(folder)
    assert "\n" not in str(info.value)
    for load in (ReIDModel.from_pretrained, Architecture.from_json):
        given = folder if load == ReIDModel.from_pretrained else json.loads((folder / "config.json").read_text())
        if load == Architecture.from_json and place in (("model", "backbone"), ("model", "camera_embedding")):
            continue  # what is refused is the backbone, or that it has no tokens
        with pytest.raises(InputError):
            load(given["architecture"] if isinstance(given, dict) else given)  # type: ignore[operator]


@pytest.mark.parametrize(
    "place", [("model",), *(("model", each.name) for each in fields(ModelConfig)), ("mean",), ("software",)]
)
def test_a_missing_field_is_refused(saved: Path, tmp_path: Path, place: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=rf"missing fields \({'.'.join(place)}\)"):
        load_model(changed(saved, tmp_path, place, ...))


def test_the_sentence_says_which_version_wrote_the_file(saved: Path, tmp_path: Path) -> None:
    changed(saved, tmp_path, ("software",), "9.1.0")
    with pytest.raises(InputError, match=rf"written by reid_accel 9\.1\.0 and cannot be used by {__version__}: .*bnn"):
        load_model(changed(tmp_path, tmp_path, ("model", "neck"), "bnn"))
    with pytest.raises(InputError, match="written by an unknown version of reid_accel"):
        load_model(changed(saved, tmp_path, ("software",), ...))


def test_a_file_of_an_older_version_may_lack_what_was_added_since(saved: Path, tmp_path: Path) -> None:
    changed(saved, tmp_path, ("software",), "0.0.9")
    loaded = load_model(changed(tmp_path, tmp_path, ("frozen_statistics",), ...))
    assert loaded.architecture.software == "0.0.9"
    assert loaded.architecture == load_model(saved).architecture


NO_CONFIGS = ["", "{", "[]", "3", "null", "{}", '{"architecture": {}, "architecture": {}}', "[" * 10**5, " " * 2**21]


@pytest.mark.parametrize("text", [*NO_CONFIGS, "\ud800"])
def test_a_config_that_is_no_config_is_refused(saved: Path, tmp_path: Path, text: str) -> None:
    with_config(saved, tmp_path, "")
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)


HUGE = [
    (("model", "neck_units"), 2_000_000_000),
    (("model", "neck_units"), 10**30),
    (("model", "stripes"), [1_000_000]),
    (("model", "stripes"), [1] * 100_000),
    (("num_identities",), 2_000_000_000),
    (("num_identities",), 10**18),
    (("model", "height_px"), 32 * 10**8),
    (("model", "backbone"), "vit_giant_patch14_224"),
]


def test_a_config_that_describes_gigabytes_is_refused_before_they_are_allocated(saved: Path, tmp_path: Path) -> None:
    code = "import resource, sys\nimport reid_accel.models.reid as reid\n"
    code += "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))\n"
    code += "for folder in sys.argv[1:]:\n    try:\n        reid.load_model(folder)\n"
    code += "    except reid.InputError as error:\n        print('refused', folder, error)\n    else:\n"
    code += "        print('loaded', folder)\n"
    folders = [changed(saved, tmp_path / str(number), *huge) for number, huge in enumerate(HUGE)]
    command = [sys.executable, "-c", code, str(saved), *map(str, folders)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    lines = done.stdout.splitlines()
    assert lines[:1] == [f"loaded {saved}"], done.stdout + done.stderr
    assert [line.split()[:2] for line in lines[1:]] == [["refused", str(folder)] for folder in folders], done.stderr


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64, torch.bool]
)
def test_weights_of_other_types_are_refused(saved: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    with_config(saved, tmp_path, (saved / "config.json").read_text())
    weights = load_file(tmp_path / "model.safetensors")
    name = "neck.0.0.weight"
    save_file(weights | {name: weights[name].to(dtype)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"types that cannot be used \(1 tensors, such as neck\.0\.0\.weight in "):
        load_model(tmp_path)
    name = "neck.0.1.num_batches_tracked"
    save_file(weights | {name: weights[name].float()}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="num_batches_tracked in float32"):
        load_model(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_weights_are_converted_with_a_sentence(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: torch.dtype
) -> None:
    load_model(saved)
    assert not caplog.records, "the control: float32 needs no sentence"
    with_config(saved, tmp_path, (saved / "config.json").read_text())
    weights = load_file(tmp_path / "model.safetensors")
    stored = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    save_file(stored, tmp_path / "model.safetensors")
    model = load_model(tmp_path)
    assert f"stored as {str(dtype)[6:]} and are converted to float32" in caplog.text
    assert all(torch.equal(value, stored[name].to(value.dtype)) for name, value in model.state_dict().items())
    assert {value.dtype for value in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("size", [0, 7, 100, 5000])
def test_cut_weights_are_refused(saved: Path, tmp_path: Path, size: int) -> None:
    with_config(saved, tmp_path, (saved / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes()[:size])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged or incomplete"):
        load_model(tmp_path)


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_a_repository_with_pickled_weights_only_is_refused_without_reading_them(saved: Path, tmp_path: Path) -> None:
    torch.save(load_file(saved / "model.safetensors"), tmp_path / "harmless")
    torch.save(Attack(tmp_path / "attacked"), tmp_path / "attack")
    code = "import sys\nfrom reid_accel.models.reid import InputError, load_model\nfor name in sys.argv[1:]:\n"
    code += "    try:\n        load_model(name)\n        print('loaded', name)\n"
    code += "    except InputError as error:\n        print('refused', name, error)\n"
    names = ["user/harmless", "user/attack", "user/good"]
    with FakeHub() as hub:
        config = (saved / "config.json").read_bytes()
        for name in names[:2]:
            weights = (tmp_path / Path(name).name).read_bytes()
            hub.repos[name] = Repo(False, {"config.json": config, "pytorch_model.bin": weights})
        hub.repos["user/good"] = Repo(False, {path.name: path.read_bytes() for path in saved.iterdir()})
        hub.repos["user/nothing"] = Repo(False, {"README.md": b""})
        command = [sys.executable, "-c", code, *names, "user/nothing"]
        env = hub.environment(tmp_path / "home")
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=True, cwd=tmp_path)
    harmless, attack, good, nothing = done.stdout.splitlines()
    for line, name in ((harmless, "user/harmless"), (attack, "user/attack")):
        assert line.startswith(f"refused {name} the hub repository {name} has no model.safetensors")
    assert good == "loaded user/good"
    assert nothing.startswith("refused user/nothing the hub repository user/nothing has no config.json")
    assert not [request for request in hub.requests if "pytorch_model.bin" in request]
    assert not (tmp_path / "attacked").exists()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "attack", weights_only=True)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_changed_file_of_a_saved_model_is_named_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
    ReIDModel(Architecture(model=settings, num_identities=3)).save_pretrained(tmp_path)
    ReIDModel.from_pretrained(tmp_path)
    assert "was changed" not in caplog.text
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    if name == "config.json":
        path.write_bytes(content.replace(b"0.485", b"0.486"))
    else:
        content[-3] ^= 1
        path.write_bytes(content)
    ReIDModel.from_pretrained(tmp_path)
    assert f"{path} was changed after the model was saved" in caplog.text


def test_a_model_that_was_saved_without_checksums_is_loaded_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
    ReIDModel(Architecture(model=settings, num_identities=3)).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"architecture": content["architecture"]}))
    ReIDModel.from_pretrained(tmp_path)
    assert "was changed" not in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(saved: Path, tmp_path: Path, value: float) -> None:
    shutil.copytree(saved, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    broken = next(name for name, tensor in weights.items() if tensor.is_floating_point() and tensor.ndim > 1)
    weights[broken].view(-1)[1] = value
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"1 of {len(weights)} tensors hold NaN or infinity .{re.escape(broken)}"):
        ReIDModel.from_pretrained(tmp_path / "model")
