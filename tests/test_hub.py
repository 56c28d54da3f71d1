"""Pushing to a hub and loading from it again, against a small hub on this machine."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.exports import saved as saved_model
from helpers.exports import small_model
from helpers.fake_hub import FakeHub, Repo

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.hub import NO_TOKEN, plan_push, push
from reid_accel.models.reid import Architecture, ReIDModel
from reid_accel.reporting.card import DRAWN_TAG

PUSH = "import sys; from reid_accel.cli import main; main(['push', *sys.argv[1:]])"
LOAD = """
import json, sys
import numpy as np
from reid_accel import ReIDModel
model = ReIDModel.from_pretrained(sys.argv[1])
print(json.dumps(model.embed([np.load(sys.argv[2])]).tolist()))
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder that looks like a saved model to a hub, with a name that is a pattern."""
    folder = tmp_path / "model"
    (folder / ".cache").mkdir(parents=True)
    (folder / ".cache" / "left-behind.json").write_text("{}")
    (folder / "config.json").write_text('{"backbone": "resnet18"}')
    (folder / "README.md").write_text('---\nlibrary_name: reid_accel\n---\nfrom_pretrained("user/name")\n')
    (folder / "notes [1].json").write_text("{}")
    (folder / "model.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder


def _python(code: str, *arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def _content(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_a_push_brings_exactly_the_planned_files_to_the_hub(saved: Path, tmp_path: Path) -> None:
    before = _content(saved)
    with FakeHub() as hub:
        pushed = _python(PUSH, saved, "user/name", "--visibility=private", env=hub.environment(tmp_path / "home"))
    assert pushed.returncode == 0, pushed.stderr
    assert f"pushed to {hub.url}/user/name (private)" in pushed.stdout
    repo = hub.repos["user/name"]
    planned = plan_push(saved, "user/name").files
    assert sorted(repo.files) == [file.name for file in planned]
    assert all(repo.files[name] == (saved / name).read_bytes() for name in repo.files)
    assert repo.private
    assert _content(saved) == before


def test_the_card_on_the_hub_loads_the_model_by_its_new_name(saved: Path, tmp_path: Path) -> None:
    before = _content(saved)
    with FakeHub() as hub:
        assert _python(PUSH, saved, "user/model", env=hub.environment(tmp_path / "home")).returncode == 0
    assert b'from_pretrained("user/model")' in hub.repos["user/model"].files["README.md"]
    assert _content(saved) == before


def test_a_model_that_may_have_seen_people_is_private_by_default_and_one_of_drawn_people_is_not(
    saved: Path, tmp_path: Path
) -> None:
    with FakeHub() as hub:
        env = hub.environment(tmp_path / "home")
        first = _python(PUSH, saved, "user/people", env=env)
        asked_for = _python(PUSH, saved, "user/open", "--visibility=public", env=env)
        card = saved / "README.md"
        card.write_text(card.read_text().replace("library_name", f"tags: [{DRAWN_TAG}]\nlibrary_name"))
        drawn = _python(PUSH, saved, "user/drawn", env=env)
        card.unlink()
        without_card = plan_push(saved, "user/name")
    assert hub.repos["user/people"].private
    assert "(private, because it is not known to be trained on drawn pedestrians only)" in first.stdout
    assert not hub.repos["user/open"].private
    assert asked_for.stdout.endswith("user/open (public)\n")
    assert not hub.repos["user/drawn"].private
    assert drawn.stdout.endswith("user/drawn (public)\n")
    assert without_card.private


def test_a_push_that_would_be_private_is_not_made_to_a_public_repository(saved: Path, tmp_path: Path) -> None:
    with FakeHub() as hub:
        env = hub.environment(tmp_path / "home")
        hub.repos["user/name"] = Repo(private=False)
        refused = _python(PUSH, saved, "user/name", env=env)
        assert refused.returncode == 2
        assert "exists and is public" in refused.stderr
        assert hub.repos["user/name"].files == {}
        assert _python(PUSH, saved, "user/name", "--visibility=public", env=env).returncode == 0


def test_a_card_with_broken_metadata_is_refused_with_a_sentence(saved: Path) -> None:
    (saved / "README.md").write_text("---\ntags: [a\n---\n")
    with pytest.raises(InputError, match="not valid YAML"):
        plan_push(saved, "user/name")


def test_a_second_push_replaces_what_changed(saved: Path, tmp_path: Path) -> None:
    with FakeHub() as hub:
        env = hub.environment(tmp_path / "home")
        assert _python(PUSH, saved, "user/name", env=env).returncode == 0
        (saved / "config.json").write_text('{"backbone": "resnet34"}')
        assert _python(PUSH, saved, "user/name", env=env).returncode == 0
    assert hub.repos["user/name"].files["config.json"] == b'{"backbone": "resnet34"}'
    assert hub.repos["user/name"].commits == 2


def test_a_pushed_model_loads_from_the_hub_with_identical_embeddings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ReIDModel(Architecture(model=ModelConfig(backbone="resnet10t", neck_units=16), num_identities=3)).eval()
    model.save_pretrained(tmp_path / "model")
    image = np.random.default_rng(1).integers(0, 256, (128, 64, 3)).astype(np.uint8)
    np.save(tmp_path / "image.npy", image)
    with FakeHub() as hub:
        env = hub.environment(tmp_path / "home")
        assert _python(PUSH, tmp_path / "model", "user/name", env=env).returncode == 0
        asked = len(hub.requests)
        loaded = _python(LOAD, "user/name", tmp_path / "image.npy", env=env)
    assert loaded.returncode == 0, loaded.stderr
    downloads = [request for request in hub.requests[asked:] if request.startswith("GET")]
    assert any(request.endswith("/model.safetensors") for request in downloads)
    embedding_BD = torch.tensor(json.loads(loaded.stdout.splitlines()[-1]))
    assert torch.equal(embedding_BD, model.embed([image]))


def test_an_export_goes_along_with_its_proof_and_the_model_still_loads(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    folder = saved_model(tmp_path / "run")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n## How to load it\n\nSo.\n\n## Use\n\nWell.\n")
    image = np.random.default_rng(1).integers(0, 256, (64, 32, 3)).astype(np.uint8)
    np.save(tmp_path / "image.npy", image)
    with FakeHub() as hub:
        env = hub.environment(tmp_path / "home")
        pushed = _python(PUSH, folder, "user/name", "--with", "onnx", env=env)
        assert pushed.returncode == 0, pushed.stderr
        loaded = _python(LOAD, "user/name", tmp_path / "image.npy", env=env)
    files = hub.repos["user/name"].files
    export = tmp_path / "run/export"
    names = {"model.onnx", "golden.safetensors", "check.py", "trtexec.sh", "export.json"}
    assert {name for name in files if name.startswith("export/")} == {f"export/{name}" for name in names}
    assert all(files[f"export/{name}"] == (export / name).read_bytes() for name in names)
    card = files["README.md"].decode()
    assert card.index("## How to load it") < card.index("## Exported files") < card.index("## Use")
    assert "| `export/model.onnx` | ONNX Runtime" in card
    assert "minus 0.485 0.456 0.406, divided by 0.229 0.224 0.225" in card
    assert loaded.returncode == 0, loaded.stderr
    embedding_BD = torch.tensor(json.loads(loaded.stdout.splitlines()[-1]))
    assert torch.equal(embedding_BD, ReIDModel.from_pretrained(folder).embed([image]))
    small_model(neck="bn").save_pretrained(folder)
    with pytest.raises(InputError, match="is the export of another model than"):
        push(folder, "user/name", dry_run=True, formats=("onnx",))
    with pytest.raises(InputError, match="has no openvino file: run `reid-accel export"):
        push(folder, "user/name", dry_run=True, formats=("openvino",))
    with pytest.raises(InputError, match="torchscript is not pushed, since its files have pickled parts"):
        push(folder, "user/name", dry_run=True, formats=("torchscript",))


def test_without_a_token_a_sentence_is_printed_and_nothing_is_sent(saved: Path, tmp_path: Path) -> None:
    before = _content(saved)
    with FakeHub() as hub:
        failed = _python(PUSH, saved, "user/name", env=hub.environment(tmp_path / "home", token=None))
    assert failed.returncode == 2
    assert failed.stderr.strip() == f"reid-accel: {NO_TOKEN}"
    assert hub.requests == []
    assert _content(saved) == before


def test_a_token_that_may_not_write_is_a_sentence(saved: Path, tmp_path: Path) -> None:
    with FakeHub() as hub:
        failed = _python(PUSH, saved, "user/name", env=hub.environment(tmp_path / "home", token="hf_other"))
    assert failed.returncode == 2
    assert "needs write access" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert hub.repos == {}


@pytest.mark.parametrize("variable", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_no_connection_is_a_sentence_and_the_folder_stays(
    saved: Path, tmp_path: Path, variable: dict[str, str]
) -> None:
    before = _content(saved)
    with FakeHub() as hub:
        env = hub.environment(tmp_path / "home") | variable
    failed = _python(PUSH, saved, "user/name", env=env)
    assert failed.returncode == 2
    assert "no upload to" in failed.stderr
    assert "is unchanged" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert _content(saved) == before


def test_a_dry_run_needs_neither_token_nor_hub(saved: Path, tmp_path: Path) -> None:
    with FakeHub() as hub:
        planned = _python(PUSH, saved, "user/name", "--dry-run", env=hub.environment(tmp_path / "home", token=None))
    assert planned.returncode == 0, planned.stderr
    assert "5.0 kB  model.safetensors" in planned.stdout
    assert "would be pushed to" in planned.stdout
    assert hub.requests == []


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_is_no_model_is_refused(saved: Path, missing: str) -> None:
    (saved / missing).unlink()
    with pytest.raises(InputError, match=f"{missing} missing"):
        plan_push(saved, "user/name")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "sub/optimizer.PT", "a.pkl", "a.ckpt", "a.pth"])
def test_a_folder_with_pickles_is_refused(saved: Path, name: str) -> None:
    (saved / name).parent.mkdir(exist_ok=True)
    (saved / name).touch()
    with pytest.raises(InputError, match="run code"):
        plan_push(saved, "user/name")


@pytest.mark.parametrize(
    "repo_id",
    ["name", "a/b/c", "user/", "/name", "us er/name", "user/na--me", "user/..", "user/x.git", "u/" + "n" * 95, ""],
)
def test_a_bad_repository_name_is_refused(saved: Path, repo_id: str) -> None:
    with pytest.raises(InputError, match="user/name"):
        plan_push(saved, repo_id)


def test_every_name_that_is_accepted_passes_the_hubs_own_check(saved: Path) -> None:
    from huggingface_hub.utils import validate_repo_id

    for repo_id in ("user/name", "User-1/re.id_2", "u/" + "n" * 94, "_a/_b"):
        validate_repo_id(plan_push(saved, repo_id).repo_id)


def test_hidden_files_stay_behind(saved: Path) -> None:
    assert os.listdir(saved / ".cache")
    assert not any(".cache" in file.name for file in plan_push(saved, "user/name").files)


def test_only_the_models_own_files_are_uploaded(saved: Path, tmp_path: Path) -> None:
    (saved / "LICENSE.md").write_text("terms")
    (saved / "nested").mkdir()
    (saved / "nested" / "config.json").write_text("{}")
    (saved / "query.jpg").write_bytes(b"a person")
    plan = plan_push(saved, "user/name")
    assert [file.name for file in plan.files] == ["LICENSE.md", "README.md", "config.json", "model.safetensors"]
    assert plan.left_out == ("nested/config.json", "notes [1].json", "query.jpg")
    assert any("left out" in line and "query.jpg" in line for line in plan.lines())
    with FakeHub() as hub:
        pushed = _python(PUSH, saved, "user/name", env=hub.environment(tmp_path / "home"))
    assert pushed.returncode == 0, pushed.stderr
    assert sorted(hub.repos["user/name"].files) == ["LICENSE.md", "README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["README.md", "LICENSE.md", "config.json", "model.safetensors"])
def test_a_link_out_of_the_folder_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("---\ntags: []\n---\n")
    (saved / name).unlink(missing_ok=True)
    (saved / name).symlink_to(secret)
    with pytest.raises(InputError, match=rf"{name} is a link to .*secret, outside the model's folder"):
        plan_push(saved, "user/name")
    (saved / name).unlink()
    (saved / "kept").write_text("---\ntags: []\n---\n")
    (saved / name).symlink_to("kept")
    assert name in [file.name for file in plan_push(saved, "user/name").files]


def test_a_link_to_a_model_folder_is_pushed(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "newest").symlink_to(saved)
    assert len(plan_push(tmp_path / "newest", "user/name").files) == 3
