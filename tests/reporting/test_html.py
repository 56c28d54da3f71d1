"""The report page: everything on it, nothing from outside it, nothing in it that runs."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.reports import example_report
from PIL import Image, ImageDraw

from reid_accel.reporting.html.page import render, write_html
from reid_accel.reporting.html.pictures import RankList, Shown
from reid_accel.reporting.schema import percent

EVIL = "<script>alert(1)</script>\"'&.jpg"


def example_lists(num_lists: int, share_right: float, matches: int = 10) -> list[RankList]:
    """Rank lists of drawn people, right with the given probability."""
    rng = np.random.default_rng([num_lists, int(100 * share_right)])
    lists = []
    for number in range(num_lists):
        pid = 30 + 7 * number
        query = Shown(_drawn_person(pid, rng), f"{pid:04d}_c1_{number:06d}.jpg", pid, 1, None, None)
        shown = []
        for rank in range(matches):
            correct = bool(rng.random() < share_right)
            other = pid if correct else pid + 1 + rank
            camera = int(rng.integers(2, 7))
            name = f"{other:04d}_c{camera}_{rank:06d}.jpg"
            picture = _drawn_person(other, rng)
            shown.append(Shown(picture, name, other, camera, 0.1 + 0.037 * rank, correct))
        lists.append(RankList(query, tuple(shown), share_right))
    return lists


def _drawn_person(pid: int, rng: np.random.Generator) -> np.ndarray:
    colors = np.random.default_rng(pid).integers(40, 220, (3, 3))
    background = tuple(int(value) for value in rng.integers(90, 190, 3))
    top, trousers, skin = (tuple(int(value) for value in color) for color in colors)
    picture = Image.new("RGB", (64, 128), background)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((24, 8, 40, 28), fill=skin)
    pen.rounded_rectangle((16, 28, 48, 72), 6, fill=top)
    pen.rectangle((20, 72, 31, 120), fill=trousers)
    pen.rectangle((34, 72, 45, 120), fill=trousers)
    noisy = np.asarray(picture).astype(np.float32) + rng.normal(0, 9, (128, 64, 1))
    return noisy.clip(0, 255).astype(np.uint8)


class Page(HTMLParser):
    """All tags with their attributes and all text, as a browser's parser would split them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.words += data

    def attributes(self, tag: str, name: str) -> list[str]:
        return [attributes.get(name) or "" for found, attributes in self.tags if found == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(example_report(), example_lists(2, 0.9), example_lists(3, 0.2)))


def test_every_element_is_closed_in_order(page: Page) -> None:
    assert page.open == []


def test_the_page_asks_nothing_of_the_outside_and_runs_nothing(page: Page) -> None:
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.tags)
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
    assert all(source.startswith("data:image/") for source in page.attributes("img", "src"))
    assert "url(" not in page.words
    assert "@import" not in page.words


def test_all_headline_numbers_are_there_with_their_protocol(page: Page) -> None:
    for words in ("68.7 %", "84.2 %", "84.7 %", "market, ap=standard, euclidean", "12 groups"):
        assert words in page.words
    assert "majority baseline 71.2 % (+13.5 points)" in page.words
    assert "re-ranked: k-reciprocal" in page.words


def test_all_pictures_are_there_and_look_like_what_was_given() -> None:
    lists = example_lists(2, 0.5)
    sources = Page(render(example_report(), lists, [])).attributes("img", "src")
    given = [shown.image_HWC for ranked in lists for shown in (ranked.query, *ranked.matches)]
    assert len(sources) == len(given) == 22
    for source, image_HWC in zip(sources, given, strict=True):
        decoded = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        difference = np.asarray(decoded).astype(float) - image_HWC
        assert np.abs(difference).mean() < 8


def test_right_and_wrong_are_told_by_sign_and_word_not_only_by_color() -> None:
    ranked = example_lists(1, 0.5)[0]
    page = Page(render(example_report(), [ranked], []))
    right = sum(match.correct is True for match in ranked.matches)
    figures = page.attributes("figure", "class")
    assert (figures.count("query"), figures.count("right"), figures.count("wrong")) == (1, right, 10 - right)
    legend = 1
    assert page.words.count("✓") == right + legend
    assert page.words.count("✗") == 10 - right + legend
    assert sum(alt.startswith("same person") for alt in page.attributes("img", "alt")) == right


def test_nothing_in_names_warnings_or_config_becomes_markup() -> None:
    report = example_report()
    report["title"] = EVIL
    report["config"] = {EVIL: EVIL}
    report["data"].update(name=EVIL, root=EVIL, warnings=[EVIL], skipped_images=[{"name": EVIL, "reason": EVIL}])
    report["retrieval"][0]["stamp"] = EVIL
    picture = example_lists(1, 1.0)[0].query.image_HWC
    query = Shown(picture, EVIL, 1, 1, None, None)
    page = Page(render(report, [RankList(query, (Shown(picture, EVIL, 1, 2, 0.5, True),), 1.0)], []))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words.count(EVIL) >= 6
    assert any(EVIL in title for title in page.attributes("figure", "title"))
    assert page.open == []


def test_warnings_and_skipped_images_are_shown(page: Page) -> None:
    assert "2 queries have no other picture" in page.words
    assert "image file is truncated" in page.words
    assert "240 of 242" in page.words


def test_a_report_without_training_attributes_or_junk_is_still_a_page(tmp_path: Path) -> None:
    report = example_report()
    report.update(training=None, attributes=None, junk=None, retrieval=[], config={})
    write_html(tmp_path / "report.html", report, [], [])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert report["title"] in page.words
    assert "svg" not in {tag for tag, _ in page.tags}


def test_curves_go_down_where_values_fall_and_skip_what_is_not_a_number() -> None:
    report = example_report()
    assert report["training"] is not None
    history = report["training"]["history"]
    history[3]["loss"] = float("nan")
    history[4]["validation_mAP"] = None
    page = Page(render(report, [], []))
    lines = [attributes["points"] or "" for tag, attributes in page.tags if tag == "polyline"]
    loss = [tuple(map(float, pair.split(","))) for pair in lines[0].split()]
    assert len(loss) == len(history) - 1
    assert loss[0][1] < loss[-1][1]  # SVG counts from the top
    assert all(np.isfinite(loss).ravel())


def test_one_epoch_is_drawn_as_a_dot() -> None:
    report = example_report()
    assert report["training"] is not None
    report["training"]["history"] = report["training"]["history"][:1]
    assert "circle" in {tag for tag, _ in Page(render(report, [], [])).tags}


@pytest.mark.parametrize("shape", [(128, 64), (256, 128, 3), (1, 1, 3), (64, 128, 4)])
def test_pictures_of_any_size_and_kind_are_embedded(shape: tuple[int, ...]) -> None:
    query = Shown(np.zeros(shape, np.uint8), "a.jpg", 1, 1, None, None)
    sources = Page(render(example_report(), [RankList(query, (), 0.0)], [])).attributes("img", "src")
    assert Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))).height <= 192


def test_a_percentage_of_nothing_is_a_dash() -> None:
    assert percent(None) == "–"
