"""The report page: everything on it, nothing from outside it, nothing in it that runs."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.reports import BAD_IMAGE
from PIL import Image, ImageDraw

from reid_accel.reporting.html.curves import Curve, chart
from reid_accel.reporting.html.page import TEMPLATES, render, series, training_charts, write_html
from reid_accel.reporting.html.pictures import RankList, Shown
from reid_accel.reporting.metrics import RETRIEVAL_METRICS, headline
from reid_accel.reporting.schema import Report, percent

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
        lists.append(RankList(query, tuple(shown), share_right, num_hits=matches))
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


@pytest.fixture
def page(report: Report) -> Page:
    return Page(render(report, example_lists(2, 0.9), example_lists(3, 0.2)))


def test_every_element_is_closed_in_order(page: Page) -> None:
    assert page.open == []


def test_the_page_of_the_run_itself_is_well_formed_and_shows_its_pictures(run_folder: Path) -> None:
    page = Page((run_folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.attributes("img", "src")) > 10
    assert "found in the first" in page.words


def test_the_page_asks_nothing_of_the_outside_and_runs_nothing(page: Page) -> None:
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.tags)
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert all(source.startswith("data:image/") for source in page.attributes("img", "src"))
    assert "url(" not in page.words
    assert "@import" not in page.words
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page.attributes("meta", "content")


def test_the_table_of_contents_leads_to_every_section(page: Page) -> None:
    links = page.attributes("a", "href")
    sections = page.attributes("section", "id")
    assert links[-len(sections) :] == [f"#{section}" for section in sections]
    assert {"retrieval", "attributes", "training", "best", "worst", "data", "run"} <= set(sections)


def test_the_header_names_data_network_and_epochs_but_not_the_device(report: Report) -> None:
    text = render(report, [], [])
    header = text.partition("<header>")[2].partition("</header>")[0]
    assert "Made Market · test_resnet · 64 × 32 px · 2 epochs" in header
    assert "cpu" not in header


def test_all_headline_numbers_are_there_with_their_protocol(report: Report) -> None:
    cards = render(report, [], []).partition('<div class="cards">')[2].partition("<nav")[0]
    scores = report["retrieval"][0]
    assert scores["protocol"] == "market1501"
    assert scores["split"] == "query → gallery"
    assert percent(scores["mAP"]) in cards
    assert percent(scores["cmc"]["1"]) in cards
    assert "market1501, ap=standard, cosine; query → gallery" in cards
    assert report["attributes"] is not None
    convention = report["attributes"]["conventions"]["12 groups"]
    assert percent(convention["accuracy"]) in cards
    assert f"12 groups; majority baseline {percent(convention['majority_baseline'])} (" in cards


def test_without_a_labeled_test_set_the_headline_is_course_strict(report: Report) -> None:
    report["retrieval"] = [scores for scores in report["retrieval"] if scores["split"] != "query → gallery"]
    assert report["retrieval"][0]["protocol"] == "course"
    assert report["retrieval"][0]["cmc"]["1"] == 1.0
    cards = render(report, [], []).partition('<div class="cards">')[2].partition("<nav")[0]
    assert "course-strict, ap=standard, cosine" in cards
    quoted = headline(report)
    assert quoted is not None
    assert quoted["protocol"] == "course-strict"


def test_the_table_says_why_course_finds_every_query_first(page: Page) -> None:
    assert page.words.count("the query is in the gallery and is its own first hit") == 2  # ranking and verification
    assert "re-ranked: k-reciprocal" in page.words


def test_every_metric_is_a_column_of_the_page(report: Report, page: Page) -> None:
    for metric in RETRIEVAL_METRICS:
        assert metric.heading in page.words
        assert metric.text(metric.value(report["retrieval"][0])) in page.words


def test_tables_have_captions_scopes_and_can_be_scrolled_with_the_keyboard(page: Page) -> None:
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) >= 5
    assert set(page.attributes("th", "scope")) == {"col", "row"}
    scrolling = [attributes for _, attributes in page.tags if attributes.get("class") in ("scroll", "strip")]
    assert len(scrolling) == tables + 5
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in scrolling)


def test_accuracies_below_the_baseline_are_marked_in_words(report: Report) -> None:
    assert report["attributes"] is not None
    entries = [*report["attributes"]["conventions"].values(), *report["attributes"]["per_group"]]
    for entry, accuracy in zip(entries, np.linspace(0.3, 0.7, len(entries)), strict=True):
        entry["accuracy"], entry["majority_baseline"] = float(accuracy), 0.5
    page = Page(render(report, [], []))
    below = sum(entry["accuracy"] < 0.5 for entry in entries)
    assert 0 < below < len(entries)
    assert page.words.count("below baseline") == page.attributes("tr", "class").count("below") == below


def test_all_pictures_are_there_and_look_like_what_was_given(report: Report) -> None:
    lists = example_lists(2, 0.5)
    sources = Page(render(report, lists, [])).attributes("img", "src")
    given = [shown.image_HWC for ranked in lists for shown in (ranked.query, *ranked.matches)]
    assert len(sources) == len(given) == 22
    for source, image_HWC in zip(sources, given, strict=True):
        decoded = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        difference = np.asarray(decoded).astype(float) - image_HWC
        assert np.abs(difference).mean() < 8


def test_right_and_wrong_are_told_by_sign_and_word_not_only_by_color(report: Report) -> None:
    ranked = example_lists(1, 0.5)[0]
    page = Page(render(report, [ranked], []))
    right = sum(match.correct is True for match in ranked.matches)
    figures = page.attributes("figure", "class")
    assert (figures.count("query"), figures.count("right"), figures.count("wrong")) == (1, right, 10 - right)
    legend = 1
    assert page.words.count("✓") == right + legend
    assert page.words.count("✗") == 10 - right + legend
    assert sum(alt.startswith("same person") for alt in page.attributes("img", "alt")) == right
    assert f"{right} of 10 found in the first 10" in page.words


def test_no_match_is_marked_wrong_after_the_last_hit(report: Report) -> None:
    ranked = example_lists(1, 1.0)[0]
    strangers = tuple(replace(match, correct=False) for match in ranked.matches[4:])
    ranked = replace(ranked, matches=ranked.matches[:4] + strangers, num_hits=4)
    page = Page(render(report, [ranked], []))
    figures = page.attributes("figure", "class")
    assert (figures.count("right"), figures.count("wrong"), figures.count("rest")) == (4, 0, 2)
    assert "4 of 4 found in the first 10" in page.words


def test_ties_at_the_top_show_few_queries_of_different_people(report: Report) -> None:
    perfect = example_lists(9, 1.0)
    of_three_people = [replace(ranked, query=replace(ranked.query, pid=1 + i // 3)) for i, ranked in enumerate(perfect)]
    assert render(report, of_three_people, []).count('class="list"') == 3
    assert render(report, perfect, []).count('class="list"') == 5
    assert render(report, [*of_three_people, *example_lists(1, 0.5)], []).count('class="list"') == 10


def test_nothing_in_names_warnings_or_config_becomes_markup(report: Report) -> None:
    report["title"] = EVIL
    report["config"] = {EVIL: EVIL}
    report["data"].update(title=EVIL, root=EVIL, warnings=[EVIL], skipped_images=[{"name": EVIL, "reason": EVIL}])
    report["retrieval"][0].update(stamp=EVIL, split=EVIL)
    assert report["model"] is not None
    report["model"]["backbone"] = EVIL
    picture = example_lists(1, 1.0)[0].query.image_HWC
    query = Shown(picture, EVIL, 1, 1, None, None)
    page = Page(render(report, [RankList(query, (Shown(picture, EVIL, 1, 2, 0.5, True),), 1.0, 1)], []))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words.count(EVIL) >= 8
    assert any(EVIL in title for title in page.attributes("figure", "title"))
    assert page.open == []


def test_warnings_skipped_images_and_queries_left_out_are_shown(report: Report) -> None:
    report["data"]["warnings"] = ["2 queries have no other picture"]
    report["retrieval"][0]["num_left_out"] = 2
    page = Page(render(report, [], []))
    assert "2 queries have no other picture" in page.words
    assert "2 queries without a match left out" in page.words
    assert BAD_IMAGE in page.words


def test_a_report_without_training_attributes_or_junk_is_still_a_page(report: Report, tmp_path: Path) -> None:
    report.update(training=None, attributes=None, junk=None, model=None, retrieval=[], config={})
    write_html(tmp_path / "report.html", report, [], [])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert report["title"] in page.words
    assert "svg" not in {tag for tag, _ in page.tags}


def curve_classes(page: Page) -> list[str]:
    return [attributes["class"] or "" for tag, attributes in page.tags if tag in ("polyline", "line", "circle")]


@pytest.mark.parametrize("parts", [0, 1, 2, 9])
def test_every_curve_has_a_style_of_its_own_with_a_stroke(parts: int) -> None:
    curves = [Curve(f"part {number}", ((1, 1.0 + number), (2, 2.0))) for number in range(parts + 1)]
    drawn = chart("Loss", "loss", curves)
    assert drawn is not None
    text = TEMPLATES.get_template("macros.html").module.chart(drawn)
    css = TEMPLATES.get_template("style.css").render(num_styles=len(curves))
    styles = {name: re.search(rf"\.{name} {{ (stroke: [^}}]+) }}", css) for name in curve_classes(Page(str(text)))}
    styles.pop("grid")
    assert len(styles) == len(curves)
    assert all(styles.values())
    assert len({style.group(1) for style in styles.values() if style}) == len(curves)


def test_every_curve_of_the_run_is_visible(report: Report) -> None:
    text = render(report, [], [])
    used = set(curve_classes(Page(text))) - {"grid"}
    assert len(used) == 5  # the total and the four losses of this run
    assert all(re.search(rf"\.{name} {{ stroke: ", text) for name in used)


def test_losses_add_up_and_those_that_are_off_are_not_drawn(report: Report) -> None:
    assert report["training"] is not None
    history = report["training"]["history"]
    for line in history:
        assert line["loss"] == pytest.approx(sum(line["losses"].values()))
    names = [curve.name for curve in training_charts(report["training"])[0].curves]
    assert names == ["total", "identity", "attributes", "triplet", "circle"]
    for line in history:
        del line["losses"]["attributes"]
        line.update(attribute_accuracy=None, validation_attribute_accuracy=None)
    drawn = [curve.name for chart in training_charts(report["training"]) for curve in chart.curves]
    assert not [name for name in drawn if "attributes" in name]


def test_the_validation_map_is_named_with_its_protocol(page: Page) -> None:
    assert page.words.count("validation mAP (market1501)") == 2  # the curve, and what the best epoch was chosen by


def test_curves_go_down_where_values_fall_and_skip_what_is_not_a_number() -> None:
    values = [6.0, 4.0, float("nan"), 2.0, None]
    history = [{"epoch": epoch, "learning_rate": value} for epoch, value in enumerate(values, start=1)]
    drawn = chart("Learning rate", "rate", [Curve("rate", series(history, "learning_rate"))])
    assert drawn is not None
    points = [tuple(map(float, pair.split(","))) for pair in drawn.path(drawn.curves[0]).split()]
    assert len(points) == 3
    assert points[0][1] < points[-1][1]  # SVG counts from the top
    assert np.isfinite(points).all()


def test_one_epoch_is_drawn_as_a_dot(report: Report) -> None:
    assert report["training"] is not None
    report["training"]["history"] = report["training"]["history"][:1]
    assert "circle" in {tag for tag, _ in Page(render(report, [], [])).tags}


@pytest.mark.parametrize("shape", [(128, 64), (256, 128, 3), (1, 1, 3), (64, 128, 4)])
def test_pictures_of_any_size_and_kind_are_embedded(report: Report, shape: tuple[int, ...]) -> None:
    query = Shown(np.zeros(shape, np.uint8), "a.jpg", 1, 1, None, None)
    sources = Page(render(report, [RankList(query, (), 0.0, 1)], [])).attributes("img", "src")
    assert Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))).height <= 192


def test_a_percentage_of_nothing_is_a_dash() -> None:
    assert percent(None) == "–"
