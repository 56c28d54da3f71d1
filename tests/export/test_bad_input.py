"""What can go wrong around an export is a sentence, and nothing half-written stays."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers.exports import saved
from helpers.full_disk import files_of_at_most
from torch import Tensor, nn

from reid_accel import ReIDModel
from reid_accel.cli import main
from reid_accel.config.export import ExportConfig
from reid_accel.config.export_graph import GraphOptions
from reid_accel.errors import InputError
from reid_accel.export import job
from reid_accel.export.runtimes import open_runtime
from reid_accel.export.write import export


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused command prints."""
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("form", "name"), [("onnx", "onnxruntime"), ("onnx", "onnxscript"), ("openvino", "openvino")])
def test_a_missing_runtime_names_the_extra(
    form: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    text = said(["export", str(saved(tmp_path)), "--to", form], capsys)
    assert f"--to {form} needs the package {name}, which is not installed: pip install 'reid_accel[export]'" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "onnx,tflite"], "--to: there is no 'tflite'; there are onnx, openvino, torchscript, torch-export"),
        (["--for", "norfair"], "--for: there is no 'norfair'"),
        (["--with-attributes", "--to", "torchscript"], "was trained without attributes: export it without"),
        (["--bgr"], "--bgr must be left out with --flavor raw"),
        (["--input-name", "a b"], "--input-name must be letters, digits and _"),
        (["--opset", "9"], "--opset must be from 17 to"),
        (["--images", "nowhere", "--to", "torchscript"], "there is no folder or image nowhere"),
    ],
)
def test_impossible_settings_are_refused(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(["export", str(saved(tmp_path)), *words], capsys)
    assert sentence in text
    assert "tyro" not in text, "the name of a parser's inner part"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_with_something_else_is_never_replaced(tmp_path: Path) -> None:
    model = saved(tmp_path)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="exists already and is no earlier export"):
            export(str(model), ExportConfig(to=("torchscript",), out=str(tmp_path / "thesis"), overwrite=overwrite))
    assert (tmp_path / "thesis/chapter.tex").is_file()


@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript", "torch-export"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(form: str, tmp_path: Path) -> None:
    model = saved(tmp_path, neck_units=256)
    with files_of_at_most(100_000), pytest.raises(InputError, match="the file system or `ulimit -f` allows no larger"):
        export(str(model), ExportConfig(to=(form,)))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interruption_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "prove", interrupted)
    with pytest.raises(SystemExit) as left:
        main(["export", str(model), "--to", "torchscript"])
    assert left.value.code == 130
    assert capsys.readouterr().err == "reid-accel: interrupted; what was written so far is complete\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


class Fickle(nn.Module):
    """A backbone whose path depends on the images."""

    num_features = head_hidden_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer(images)
        return maps.mean((2, 3)) if maps.mean() > 0 else maps.amax((2, 3))


def test_a_backbone_that_cannot_be_traced_is_named_with_what_works(tmp_path: Path) -> None:
    model = ReIDModel.from_pretrained(saved(tmp_path, neck="bn"))
    model.backbone = Fickle()
    model.neck = type(model.neck)(1, 8, 8)
    model.feature_size = 8
    with pytest.raises(InputError, match=r"the backbone test_resnet cannot be exported to .*Swins can be exported"):
        model.eval().export(tmp_path / "deployed", to=("torch-export",))
    assert not (tmp_path / "deployed").exists()


def test_an_unknown_setting_of_model_export_is_a_sentence(tmp_path: Path) -> None:
    model = ReIDModel.from_pretrained(saved(tmp_path))
    with pytest.raises(InputError, match="there is no setting flavour of an export; there are flavor"):
        model.export(tmp_path / "deployed", flavour="raw")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export to all formats."""
    model = saved(tmp_path_factory.mktemp("run"))
    return export(str(model), ExportConfig(to=("onnx,openvino,torchscript,torch-export",))).folder


NAMES = ["model.onnx", "model.xml", "model.bin", "model.torchscript", "model.pt2"]


@pytest.mark.parametrize("alone", [False, True], ids=["with its manifest", "alone"])
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_not_run(name: str, alone: bool, folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    if alone:
        (copied / "export.json").unlink()
    content = bytearray((copied / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = bytes(255 - value for value in content[middle : middle + 4])
    (copied / name).write_bytes(content)
    opened = copied / name.replace(".bin", ".xml")
    reason = (
        "was changed|were changed|is damaged" if alone or name == "model.bin" else "is not the file that was proven"
    )
    if alone and name == "model.xml":
        reason = "is damaged|were changed"
    with pytest.raises(InputError, match=reason):
        open_runtime(opened)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.torchscript", "model.pt2"])
def test_half_a_file_is_not_run(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copied")
    (tmp_path / "copied/export.json").unlink()
    path = tmp_path / "copied" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        open_runtime(path)


def test_a_file_of_torch_export_with_pickled_parts_is_not_loaded(tmp_path: Path) -> None:
    program = torch.export.export(nn.Conv2d(3, 4, 3), (torch.zeros(2, 3, 8, 8),))
    torch.export.save(program, tmp_path / "other.pt2")
    with pytest.raises(InputError, match="has parts that could run code"):
        open_runtime(tmp_path / "other.pt2")


def test_another_suffix_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"")
    with pytest.raises(InputError, match=r"is no exported model: its name must end with \.onnx, \.xml"):
        open_runtime(tmp_path / "model.tflite")


def test_a_foreign_manifest_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "model.onnx", tmp_path)
    (tmp_path / "export.json").write_text(json.dumps({"expo": []}))
    with pytest.raises(InputError, match="is of another version or another program"):
        open_runtime(tmp_path / "model.onnx")


def test_options_are_checked_when_they_are_made() -> None:
    with pytest.raises(InputError, match="output-name must be another name than the input's"):
        GraphOptions(output_name="images")
