"""Folders of the machine stay off what may become public."""

from pathlib import Path

import pytest

from reid_accel.reporting.card import model_card
from reid_accel.reporting.redaction import text_without_folders, without_folders
from reid_accel.reporting.schema import Report

SECRETS = ("secret", "someone", "corp-server")


@pytest.mark.parametrize(
    ("name", "value", "public"),
    [
        ("root", "/home/someone/data/market", ".../market"),
        ("root", "../secret/market/", ".../market"),
        ("root", "secret/market", ".../market"),
        ("root", "market", "market"),
        ("root", "C:\\Users\\someone\\market", ".../market"),
        ("root", "\\\\corp-server\\share\\market", ".../market"),
        ("root", "corp-server:/export/market", ".../market"),
        (
            "also",
            ["msmt17:/home/someone/MSMT17_V1", "market1501:secret/x"],
            ["msmt17:.../MSMT17_V1", "market1501:.../x"],
        ),
        ("cache_dir", "~/secret/cache", ".../cache"),
        ("weights_file", "/home/some one/secret/w.safetensors", ".../w.safetensors"),
        ("unknown", "file:///home/someone/x", ".../x"),
        ("unknown", "see /home/someone/x and ~someone/y", "see .../x and .../y"),
        ("push_to", "user/name", "user/name"),
        ("title", "CUHK03/NP 1/2", "CUHK03/NP 1/2"),
        ("url", "https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("height_px", 256, 256),
    ],
)
def test_a_setting_keeps_the_last_part_of_its_path(name: str, value: object, public: object) -> None:
    assert without_folders({name: value}) == {name: public}
    assert without_folders({"section": {name: value}}) == {"section": {name: public}}


def test_a_sentence_keeps_the_last_part_of_each_path() -> None:
    text = "cache (/home/someone/.cache/reid) and C:\\secret\\b: 3/4 of 'secret place/x.jpg', ./secret/c; and/or"
    expected = "cache (.../reid) and .../b: 3/4 of 'market/x.jpg', .../c; and/or"
    assert text_without_folders(text, {"secret place": "market"}) == expected
    assert text_without_folders("a data set in data", {"data": "market1501"}) == "a market1501 set in market1501"
    assert text_without_folders("metadata of database", {"data": "market1501"}) == "metadata of database"


def test_no_folder_of_the_run_is_on_the_card(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "someone"
    (home / "secret").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "secret")
    cache, also, root = home / "secret" / "my cache", home / "secret" / "MSMT17", home / "secret sets" / "market"
    report["config"] = {
        "data": {"root": str(root), "also": [f"msmt17:{also}", "market1501:~/secret/M"], "cache_dir": str(cache)},
        "model": {"weights_file": f"{home}/secret/w.safetensors", "module": "my_backbones"},
        "run": {"dir": "../secret/runs/first", "push_to": "user/name", "trackers": ["tensorboard"]},
        "model_path": f"{home}/secret/model",
    }
    report["data"]["root"] = str(root)
    report["data"]["warnings"] = [
        f"{root}/market_attribute.mat not found: training without attributes",
        f"{also}/list_train.txt names 3 images that do not exist",
        f"the cache {cache} cannot be written: decoding into {home}/secret/tmp instead",
        f"~/secret/my cache/crops is damaged; {Path('~/secret/M').expanduser()} lacks query; it is in ../secret/S",
    ]
    architecture = {"model": {"weights_file": f"{home}/secret/w.safetensors"}, "backbone_module": "my_backbones"}
    card = model_card(report, architecture)
    found = [line for line in card.splitlines() if any(secret in line for secret in (*SECRETS, str(tmp_path)))]
    assert found == []
    for kept in ("market_attribute.mat not found", "list_train.txt names 3 images", "msmt17:.../MSMT17", "user/name"):
        assert kept in card
