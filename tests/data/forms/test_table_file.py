"""Own pictures listed in a table."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from helpers.relaid import as_table, content_fingerprint

from reid_accel.attributes.vocabulary import MARKET_GROUPS, AttributeGroup
from reid_accel.config.schema import DataConfig
from reid_accel.data.forms.table_file import TableFile
from reid_accel.data.listing import UNSPLIT, ImageFile, Listing
from reid_accel.data.reading import check_dataset, read_dataset
from reid_accel.errors import InputError

NAMES = ("a.jpg", "b.jpg", "c/d.jpg", "c/e.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "set"


def read(path: Path, **settings: object) -> Listing:
    config = DataConfig(name="table", root=str(path), **settings)  # type: ignore[arg-type]
    check_dataset(config)
    return read_dataset(config)


def written(folder: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def unsplit(path: Path) -> tuple[ImageFile, ...]:
    return TableFile().read(path).splits[UNSPLIT]


PEOPLE = ("x", "y", "x", "z")
ROWS = [{"path": name, "person": PEOPLE[place], "camera": 1 + place % 2} for place, name in enumerate(NAMES)]


def as_csv(path: Path, separator: str = ",", end: str = "\n", encoding: str = "utf-8", start: str = "") -> None:
    lines = [separator.join(map(str, line)) for line in (ROWS[0], *(row.values() for row in ROWS))]
    path.write_bytes((start + end.join(lines) + end).encode(encoding))


FORMATS: dict[str, Callable[[Path], object]] = {
    "plain.csv": as_csv,
    "tab.tsv": lambda path: as_csv(path, "\t"),
    "german.csv": lambda path: as_csv(path, ";"),
    "bom.csv": lambda path: as_csv(path, encoding="utf-8-sig"),
    "windows.csv": lambda path: as_csv(path, end="\r\n"),
    "old_mac.csv": lambda path: as_csv(path, end="\r"),
    "utf16.txt": lambda path: as_csv(path, "\t", "\r\n", "utf-16"),
    "excel.csv": lambda path: as_csv(path, "|", start="sep=|\n"),
    "lines.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n"),
    "columns.parquet": lambda path: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_images(folder: Path, name: str) -> None:
    FORMATS[name](folder / name)
    images = unsplit(folder / name)
    assert [(image.name, image.pid, image.camera) for image in images] == [
        ("a.jpg", 1, 1),
        ("d.jpg", 1, 1),
        ("b.jpg", 2, 2),
        ("e.jpg", 3, 2),
    ]
    assert {image.path for image in images} == {folder / each for each in NAMES}
    assert TableFile().read(folder / name).people == {1: "x", 2: "y", 3: "z"}


def test_columns_can_have_other_names_and_any_order(folder: Path) -> None:
    table = written(folder, "id,Cam,file,x\n7,3,a.jpg,u\n8,4,b.jpg,v\n9,3,c/d.jpg,u\n")
    listing = TableFile({"path": "file", "person": "id", "camera": "cam"}).read(table)
    assert [(image.pid, image.camera) for image in listing.splits[UNSPLIT]] == [(7, 3), (8, 4), (9, 3)]
    assert listing.groups == (AttributeGroup("x", ("u", "v")),)
    assert TableFile({"path": "file", "person": "id"}, ("none",)).read(table).groups == ()
    assert [group.name for group in TableFile({"path": "file", "person": "id"}, ("x",)).read(table).groups] == ["x"]


def test_other_columns_are_attributes(folder: Path) -> None:
    table = written(
        folder,
        "path,person,hat,bag: none | small | large,note,same,age,size\n"
        "a.jpg,1,yes,large,,1,old,10\nb.jpg,2,no,,,1,young,9\nc/d.jpg,3,,none,,1,,\nc/e.jpg,4,yes,none,,1,old,2.0\n",
    )
    listing = TableFile().read(table)
    hat, age = (next(group for group in MARKET_GROUPS if group.name == name) for name in ("hat", "age"))
    bag, size = AttributeGroup("bag", ("none", "small", "large")), AttributeGroup("size", ("2", "9", "10"))
    assert listing.groups == (hat, bag, age, size)
    values = [image.attributes for image in listing.splits[UNSPLIT]]
    assert values == [(1, 2, 3, 2), (0, -1, 0, 1), (-1, 0, -1, -1), (1, 0, 3, 0)]
    assert listing.warnings == (
        "t.csv: the column note is no attribute: it is empty",
        "t.csv: the column same is no attribute: all its values are the same",
    )


def test_a_column_of_many_values_is_no_attribute_unless_it_is_chosen(tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / f"{number}.jpg").touch()
    table = written(tmp_path, "path,person,note\n" + "".join(f"{n}.jpg,{n % 5 + 1},n{n}\n" for n in range(120)))
    listing = TableFile().read(table)
    assert listing.groups == ()
    assert listing.warnings[0].startswith("t.csv: the column note is no attribute: it has 120 values; name the columns")
    assert len(TableFile(attributes=("note",)).read(table).groups[0].values) == 120


def test_tracklets_of_each_person_become_tracklets_of_the_set(folder: Path) -> None:
    table = written(folder, "path,person,tracklet\na.jpg,1,1\nb.jpg,1,2\nc/d.jpg,2,1\nc/e.jpg,2,\n")
    assert [image.tracklet for image in unsplit(table)] == [1, 2, 3, -1]
    table = written(folder, "path,person,tracklet\na.jpg,1,10\nb.jpg,1,20\nc/d.jpg,2,30\nc/e.jpg,2,30\n")
    assert [image.tracklet for image in unsplit(table)] == [10, 20, 30, 30]
    table = written(folder, "path,person,tracklet\na.jpg,1,T10\nb.jpg,1,T9\nc/d.jpg,2,T11\nc/e.jpg,2,T11\n")
    assert [image.tracklet for image in unsplit(table)] == [2, 1, 3, 3]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (("7", "", "9.0", "12"), [7, -1, 9, 12]),
        (("0.5", "2", "", "3.25"), [500_000, 2_000_000, -1, 3_250_000]),
        (("1970-01-01", "1970-01-01T00:00:02Z", "1970-01-01 00:00:01.5", ""), [0, 2_000_000, 1_500_000, -1]),
    ],
)
def test_times_are_numbers_seconds_or_dates(folder: Path, times: tuple[str, ...], expected: list[int]) -> None:
    rows = [f"{name},{number + 1},{time}" for number, (name, time) in enumerate(zip(NAMES, times, strict=True))]
    assert [image.time for image in unsplit(written(folder, "path,person,time\n" + "\n".join(rows)))] == expected


def test_names_are_file_names_if_they_are_unique_in_their_split(folder: Path) -> None:
    for name in ("train/x/1.jpg", "train/y/1.jpg", "test/1.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    rows = "train/x/1.jpg,1,train\ntrain/y/1.jpg,2,train\ntest/1.jpg,3,test\na.jpg,3,test\n"
    splits = TableFile().read(written(folder, "path,person,split\n" + rows)).splits
    assert {split: [image.name for image in images] for split, images in splits.items()} == {
        "train": ["x/1.jpg", "y/1.jpg"],
        "test": ["1.jpg", "a.jpg"],
    }


def test_the_order_of_rows_is_kept_where_people_are_together(folder: Path) -> None:
    kept = written(folder, "path,person\nc/e.jpg,1\na.jpg,1\nb.jpg,2\nc/d.jpg,3\n")
    assert [image.name for image in unsplit(kept)] == ["e.jpg", "a.jpg", "b.jpg", "d.jpg"]
    mixed = written(folder, "path,person\nc/e.jpg,1\nb.jpg,2\na.jpg,1\nc/d.jpg,3\n")
    assert [image.name for image in unsplit(mixed)] == ["a.jpg", "e.jpg", "b.jpg", "d.jpg"]


def test_images_elsewhere_need_data_root(folder: Path, tmp_path: Path) -> None:
    inside, outside = "path,person\na.jpg,1\nb.jpg,2\n", "path,person\n../set/a.jpg,1\n../set/b.jpg,2\n"
    absolute = f"path,person\n{folder / 'a.jpg'},1\n{folder / 'b.jpg'},2\n"
    (tmp_path / "lists").mkdir()
    for text in (outside, absolute):
        table = written(tmp_path / "lists", text)
        with pytest.raises(InputError, match=r"t.csv, line 2: the path .* leads out of .*lists: .*--data.root FOLDER"):
            TableFile().read(table)
        for root in (folder, tmp_path):
            config = DataConfig(name="table", table=str(table), root=str(root))
            check_dataset(config)
        with pytest.raises(InputError, match=r"leads out of"):
            check_dataset(DataConfig(name="table", table=str(table), root=str(folder / "c")))
        assert len(unsplit(written(folder, text))) == 2  # they lead back into the table's own folder
    table = written(tmp_path / "lists", inside)
    check_dataset(DataConfig(name="table", table=str(table), root=str(folder)))
    with pytest.raises(InputError, match=r"leads out of"):
        TableFile().read(written(folder, "path,person\nc/../../set2/a.jpg,1\n"))


def test_paths_from_windows_are_read(folder: Path) -> None:
    assert [image.path.name for image in unsplit(written(folder, "path,person\nc\\d.jpg,1\nc\\e.jpg,2\n"))] == [
        "d.jpg",
        "e.jpg",
    ]


def test_an_image_may_be_query_and_gallery_if_the_camera_rule_removes_it(folder: Path) -> None:
    rows = "a.jpg,1,1,train\nb.jpg,2,1,query\nb.jpg,2,1,gallery\nc/d.jpg,2,2,gallery\n"
    assert len(read(written(folder, "path,person,camera,split\n" + rows)).splits["gallery"]) == 2
    for wrong in (rows.replace("2,1,gallery", "2,3,gallery"), rows.replace("2,1,gallery", "3,1,gallery")):
        with pytest.raises(InputError, match=r"line 4: the image b.jpg is also in line 3"):
            read(written(folder, "path,person,camera,split\n" + wrong))


HEAD = "path,person,camera,split\n"
FULL = "a.jpg,1,1,train\nb.jpg,2,1,query\nc/d.jpg,2,2,gallery\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "t.csv is empty"),
        ("path,person\n", "t.csv has no rows"),
        ("file,id,cam\na.jpg,1,1\n", "lacks the columns path, person; it has file, id, cam.*--data.columns"),
        (
            "path,person\nx.jpg,1\na.jpg,1\ny.jpg,2\n",
            r"2 of 3 images do not exist in .*: x.jpg \(line 2\), y",
        ),
        ("path,person\n" + "".join(f"{n}.png,1\n" for n in range(9)), r"9 of 9 images .*4.png \(line 6\) and 4 more"),
        ("path,person\na.jpg,1,2\n", "t.csv, line 2: expected 2 fields as in the header, got 3"),
        ("path,person\na.jpg\n", "t.csv, line 2: expected 2 fields as in the header, got 1"),
        ("path,person,person\na.jpg,1,2\n", "line 1: the column person is there twice"),
        ('path,person\na.jpg,"1\n', "t.csv, line 2: unexpected end of data"),
        ("path,person\na.jpg,1\nb.jpg,\n", "t.csv, line 3: person is empty: fill it"),
        ("path,person\n,1\n", "t.csv, line 2: path is empty"),
        ("path,person\na.jpg,1\n\nb.jpg,Anna\n", r"line 4: person is 'Anna', but the whole number '1' in line 2"),
        (
            "path,person,camera\na.jpg,1,1\nb.jpg,2,hall\n",
            "line 3: camera is 'hall', but the whole number '1'",
        ),
        (
            "path,person\na.jpg,Anna\nb.jpg,anna \n",
            r"two spellings, 'Anna' \(.*line 2\) and 'anna ' \(.*line 3\)",
        ),
        ("path,person\na.jpg,1\nb.jpg,01\n", r"two spellings, '1' \(.*t.csv, line 2\) and '01' \(.*line 3\)"),
        ("path,person\na.jpg,1\nb.jpg,2\na.jpg,1\n", "t.csv, line 4: the image a.jpg is also in line 2: remove one"),
        ("path,person\na.jpg,1\nb.jpg,2\n./c/../a.jpg,3\n", "line 4: the image a.jpg is also in line 2"),
        (
            "path,person,camera\na.jpg,1,2024-01-05\nb.jpg,2,2024-01-06\n",
            "line 2: the cameras look like dates",
        ),
        ("path,person,camera\na.jpg,1,-7\n", "line 2: the camera -7 is below 0"),
        ("path,person,tracklet\na.jpg,1,-7\n", "line 2: the tracklet -7 is below 0"),
        ("path,person,time\na.jpg,1,noon\n", "line 2: the time 'noon' is neither a number"),
        (
            "path,person,hat\na.jpg,1,yes\nb.jpg,2,Yes\n",
            r"hat has one value in two spellings, 'Yes' \(.*line 3\)",
        ),
        ("path,person,hat: no | yes\na.jpg,1,maybe\n", "line 2: hat is 'maybe', which the heading lacks"),
        (HEAD + FULL.replace("train", "val"), "line 2: there is no split 'val': use train, query and gallery"),
        (
            HEAD + FULL.replace("gallery", "query"),
            "the column split has query, train, but needs train, query",
        ),
        (HEAD + FULL.replace(",train", ","), "t.csv, line 2: split is empty"),
        ("path,person\na.jpg,9\nb.jpg,9\n", "the images show 1 person, but a split"),
        ("path,person\na.jpg," + "9" * 25 + "\n", "person: the number 9+ is too large"),
        ("path,person\na.jp\0g,1\n", "t.csv, line 2 has a NUL character"),
        (",".join(f"c{n}" for n in range(1_000_000)) + "\n", "t.csv, line 1: 1,000,000 columns are too many"),
        ("path,person\na.jpg,1" + "x" * 2**24, "line 2 has more than 16,777,216 characters"),
        ("path,person\na.jpg," + "x" * 200_000 + "\n", "t.csv, line 2: field larger than field limit"),
        ("path,person\n/etc/passwd,1\n", "t.csv, line 2: the path /etc/passwd leads out of"),
        ("path,person\n../t.csv,1\n", r"t.csv, line 2: the path ../t.csv leads out of"),
    ],
)
def test_a_bad_table_is_a_sentence_with_file_and_line(folder: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read(written(folder, text))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", "path,person\nä.jpg,1\n".encode("latin-1"), "t.csv is not UTF-8 text"),
        ("t.csv", "path,person\na.jpg,1\n".encode("utf-16-le"), "t.csv, line 1 has a NUL character"),
        ("t.csv", b"\xff\xfea", "is not UTF-8 text"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "person": 1}\n{"path": "b.jpg", "person": "2"}\n',
            "line 2: person is text, but a number in line 1",
        ),
        ("t.jsonl", b'{"path": "a.jpg", "person": [1]}\n', r"line 1: person must be text or a number, got \[1\]"),
        ("t.jsonl", b'{"path": "a.jpg", "person": 1, "person": 2}\n', "line 1: it has the name 'person' twice"),
        ("t.jsonl", b'{"path": "a.jpg"\n', "t.jsonl, line 1: it is not JSON"),
        ("t.json", b'[{"path": "a.jpg"}]\n', "t.json, line 1: expected an object"),
        ("t.jsonl", b"[" * 100_000, "line 1: it is nested too deeply"),
        ("t.jsonl", b'{"path": "a.jpg", "other": 1}\n', "lacks the columns person; it has path, other"),
        ("t.parquet", b"PAR1 but not really", "t.parquet cannot be read as a Parquet file"),
        ("t.parquet", b"", "t.parquet cannot be read as a Parquet file"),
        ("t.xlsx", b"", r"a table is a file that ends in .csv"),
    ],
)
def test_a_file_that_is_no_table_is_a_sentence(folder: Path, name: str, content: bytes, sentence: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read(folder / name)


def test_a_folder_and_a_missing_table_are_sentences(folder: Path) -> None:
    with pytest.raises(InputError, match=r"set is a folder: name the table in it"):
        read(folder)
    with pytest.raises(InputError, match=r"none.csv: No such file"):
        read(folder / "none.csv")
    with pytest.raises(InputError, match=r"data.root must name the table"):
        check_dataset(DataConfig(name="table"))
    for columns in (("file",), ("path=",), ("hat=Hat",)):
        with pytest.raises(InputError, match=r"data.columns must be LABEL=COLUMN"):
            DataConfig(name="table", columns=columns)


def test_cuhk03_in_a_table_has_the_same_content(shared_data: Path, tmp_path: Path) -> None:
    market = read_dataset(DataConfig(name="market-layout", root=str(shared_data / "cuhk03-np" / "detected")))
    table = as_table(market.splits, tmp_path)
    relaid = read_dataset(DataConfig(name="table", table=str(table), root=str(shared_data)))
    assert content_fingerprint(relaid) == content_fingerprint(market)
    shuffled = as_table(
        {split: images[::-1][1::2] + images[::-1][::2] for split, images in market.splits.items()}, tmp_path
    )
    relaid = read_dataset(DataConfig(name="table", table=str(shuffled), root=str(shared_data)))
    assert content_fingerprint(relaid) == content_fingerprint(market)
