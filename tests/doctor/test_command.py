"""`reid-accel doctor` as a user starts it."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.broken_sets import BREAKS, TRAIN, named
from helpers.launching import REPOSITORY

from reid_accel.config.data import DataConfig
from reid_accel.data.sets import list_dataset
from reid_accel.doctor.command import main
from reid_accel.doctor.examine import labeled
from reid_accel.doctor.facts import facts_of
from reid_accel.doctor.matches import match_findings
from reid_accel.doctor.people import people_findings
from reid_accel.doctor.pictures import in_threads
from reid_accel.files import read_text

CUHK03 = REPOSITORY.parent / "shared/data/cuhk03-np/detected"


def doctor(root: Path, *words: object, folder: Path) -> tuple[int, dict[str, object], str]:
    """The exit code, doctor.json and doctor.html."""
    data = ["--data.name", "market-layout", "--data.root", str(root), "--data.cache-dir", str(folder / "cache")]
    code = main([*data, "--dir", str(folder / "out"), *map(str, words)])
    return code, json.loads(read_text(folder / "out/doctor.json")), read_text(folder / "out/doctor.html")


def test_a_clean_set_gives_exit_code_0_and_its_counts(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, results, page = doctor(drawn, folder=tmp_path)
    assert (code, results["findings"], results["format"]) == (0, [], 1)
    assert results["numbers"] == {"error": 0, "warning": 0, "note": 0}
    train = results["facts"]["splits"]["train"]  # type: ignore[index]
    assert train["images"] == len(list((drawn / TRAIN).iterdir()))
    assert (train["people"], train["cameras"]) == (24, 4)
    gallery = results["facts"]["splits"]["gallery"]  # type: ignore[index]
    assert (gallery["distractors"], gallery["junk"]) == (6, 5)
    assert "Nothing was found" in page
    printed = capsys.readouterr().out
    assert "nothing found" in printed
    assert "--train.images-per-identity 4" in printed


def test_a_broken_set_gives_exit_code_1_and_pictures_with_remedies(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {}
    for make in BREAKS.values():
        make(clean)
    before = {path: path.read_bytes() for path in clean.rglob("*") if path.is_file()}
    code, results, page = doctor(clean, folder=tmp_path)
    assert code == results["exit_code"] == 1
    findings: list[dict[str, object]] = results["findings"]  # type: ignore[assignment]
    assert {finding["key"] for finding in findings} >= set(BREAKS)
    severities = [str(finding["severity"]) for finding in findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    printed = " ".join(capsys.readouterr().out.split())
    for finding in findings:
        assert f"{str(finding['remedy'])[:20]}" in printed
    assert page.count("data:image/jpeg;base64,") > 20
    assert "unreadable" in page
    assert before == {path: path.read_bytes() for path in clean.rglob("*") if path.is_file()}


def test_names_are_shown_as_text_on_the_page(clean: Path, tmp_path: Path) -> None:
    path = named(clean, TRAIN, 0)
    shutil.copy(path, path.with_name(path.name[:-4] + "<script>alert(1)&.jpg"))
    _, _, page = doctor(clean, folder=tmp_path)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&amp;" in page
    assert "default-src 'none'" in page


def test_a_mistake_is_one_sentence_and_nothing_is_written(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken.csv"
    taken.write_text("mine")
    wrong = [
        (["--data.root", str(tmp_path / "nowhere")], "there is no folder"),
        (["--data.root", str(drawn), "--fix", str(taken)], "must be a new file"),
        (["--data.root", str(drawn), "--fix", str(tmp_path / "a.xlsx")], "must end in .csv or .tsv"),
        (["--data.root", str(drawn), "--dir", str(taken)], "is a file: name a folder"),
        (["--data.root", str(drawn), "--model", str(tmp_path / "no/model/there")], "no model"),
        (["--data.root", str(drawn), "--data.also", f"msmt17:{drawn}"], "one set at a time"),
    ]
    for words, sentence in wrong:
        with pytest.raises(SystemExit) as stopped:
            main(["--data.name", "market-layout", "--dir", str(tmp_path / "out"), *words])
        assert stopped.value.code == 2
        said = " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert sentence in said, said
    assert taken.read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_each_run_gets_a_folder_of_its_own(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["--data.name", "market-layout", "--data.root", str(drawn)]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["doctor", "doctor-2"]


def test_an_interrupt_ends_the_examination_and_writes_nothing(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reid_accel.doctor.pictures.read_image", interrupted)
    with pytest.raises(SystemExit) as stopped:
        doctor(drawn, folder=tmp_path)
    assert stopped.value.code == 130
    assert not (tmp_path / "out").exists()


def test_tasks_that_have_not_started_are_canceled_when_one_fails() -> None:
    done: list[int] = []

    def work(rows: range) -> int:
        done.append(rows.start)
        if rows.start == 0:
            raise KeyboardInterrupt
        return 1

    with pytest.raises(KeyboardInterrupt):
        list(in_threads(work, [range(number, number + 1) for number in range(10_000)]))
    assert len(done) < 10_000


@pytest.mark.skipif(not CUHK03.is_dir(), reason=f"{CUHK03} is absent")
def test_the_labels_of_cuhk03_have_the_published_counts_and_nothing_is_wrong_with_them(tmp_path: Path) -> None:
    config = DataConfig(name="market-layout", root=str(CUHK03))
    splits = labeled(list_dataset(config, cache_dir=tmp_path), "market-layout")
    counts = facts_of(splits, {}).splits
    assert [(counts[split]["images"], counts[split]["people"]) for split in ("train", "query", "gallery")] == [
        (7365, 767),
        (1400, 700),
        (5332, 700),
    ]
    assert {split["cameras"] for split in counts.values()} == {2}
    assert [*people_findings(splits), *match_findings(splits)] == []
