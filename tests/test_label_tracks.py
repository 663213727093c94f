"""Labels of recordings: Audacity label tracks, TextGrids and tables are read and written; faults are reported."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from wavenet.data import segments
from wavenet.data.label_archive import label_archive
from wavenet.data.label_tracks import (
    LabelledFolder,
    Recording,
    Segment,
    check_label_file,
    read_labels,
    read_track,
    write_csv,
    write_labels,
)
from wavenet.extras import Unavailable

CLIP = Path("clip.wav")
TURNS = [Segment(0.0, 1.25, "ann"), Segment(1.25, 1.5, "pause"), Segment(1.5, 3.0, "bob")]
TURN_LINES = b"0\t1.25\tann\n1.25\t1.5\tpause\n1.5\t3\tbob\n"
TEXT_GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 3
        points: size = 1
        points [1]:
            number = 0.5
            mark = "click"
    item [2]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 3
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "say ""ah"""
        intervals [2]:
            xmin = 1.5
            xmax = 3
            text = ""
'''


def read(folder: Path, content: bytes, seconds: float = 3.0, name: str = "clip.txt") -> LabelledFolder:
    """Labels of clip.wav, `seconds` long, from one file."""
    (folder / name).write_bytes(content)
    return read_labels(folder, [Recording(CLIP, seconds)])


def test_audacity_label_track(tmp_path: Path) -> None:
    labelled = read(tmp_path, b"0,0\t1,25\tann\r\n\\\t100.0\t2000.0\r\n1.25\t1.5\tpause\r\n\r\n1.5\t3.0\tbob\r\n")
    assert labelled.segments == {CLIP: TURNS} and labelled.problems == []
    assert labelled.classes == ("ann", "bob", "pause")


def test_absolute_paths(tmp_path: Path) -> None:
    (tmp_path / "clip.txt").write_bytes(TURN_LINES)
    labelled = read_labels(tmp_path, [Recording(tmp_path / CLIP, 3.0)])
    assert labelled.segments == {tmp_path / CLIP: TURNS}


@pytest.mark.parametrize(
    ("lines", "expected", "problem"),
    [
        (
            "1.25\t1.5\tpause\n0\t1.25\tann\n1.5\t3\tbob\n",
            TURNS,
            "clip.txt: not in order of time: sorted",
        ),
        (
            "0\t2\tann\n1.5\t3\tbob\n",
            [Segment(0, 1.5, "ann"), Segment(1.5, 3, "bob")],
            "clip.txt: 1 overlap, the first at 1.50 s: the label that starts later counts",
        ),
        (  # the longer one continues
            "0\t3\tann\n1\t2\tbob\n",
            [Segment(0, 1, "ann"), Segment(1, 2, "bob"), Segment(2, 3, "ann")],
            "clip.txt: 1 overlap, the first at 1.00 s: the label that starts later counts",
        ),
        (
            "0\t2\tann\n2\t3.5\tbob\n3.5\t4\tann\n",
            [Segment(0, 2, "ann"), Segment(2, 3, "bob")],
            "clip.txt: 2 labels beyond the recording (0 to 3.00 s): cut off there",
        ),
        (
            "0\t1\tann\n1.5\t3\tbob\n",
            [Segment(0, 1, "ann"), Segment(1.5, 3, "bob")],
            "1 gap between labels, 0.50 s in 1 recording: a class of their own (the first: clip.wav, 1.00 to 1.50 s)",
        ),
        (
            "0\t1.5\tann\nsome words\n1.5\t3\tbob\n2\tnan\tx\n2\t1\tx\n3\t0\tx\n",
            [Segment(0, 1.5, "ann"), Segment(1.5, 3, "bob")],
            "clip.txt: 1 line not start, end, label with tabs between them: left out (the first: some words)\n"
            "clip.txt: 1 line with a time that is not a finite number: left out (the first: 2\\tnan\\tx)\n"
            "clip.txt: 2 lines with the end before the start: left out (the first: 2\\t1\\tx)",
        ),
        (
            "0\t3\tann\n1\t1\tclick\n2\t3\t\n2\t3\n",
            [Segment(0, 3, "ann")],
            "clip.txt: 2 labels without text: left out\n"
            "clip.txt: 1 label without duration (start = end): left out; label a stretch of time",
        ),
        (
            "-1\t3\tann\n-2\t-1\tbob\n",
            [Segment(0, 3, "ann")],
            "clip.txt: not in order of time: sorted\nclip.txt: 2 labels with a negative time: cut off at 0 s",
        ),
        ("0\t1.0002\tann\n1\t3.0009\tbob\n", [Segment(0, 1, "ann"), Segment(1, 3, "bob")], None),  # rounding
    ],
)
def test_faults_are_reported_in_one_line_and_the_rest_is_used(
    tmp_path: Path, lines: str, expected: list[Segment], problem: str | None
) -> None:
    labelled = read(tmp_path, lines.encode())
    assert labelled.segments == {CLIP: expected}
    assert [line.removeprefix(f"{tmp_path}/") for line in labelled.problems] == (problem or "").splitlines()


@pytest.mark.parametrize(
    ("content", "label", "problem"),
    [
        ("0\t3\tbö".encode("utf-8-sig"), "bö", ""),
        ("0\t3\tbö".encode("utf-16"), "bö", ""),
        ("0\t3\tbö".encode("cp1252"), "bö", "unknown encoding, not UTF-8: read as Windows-1252"),
        ("0\t3\tbö".encode("utf-16-le"), None, "unknown encoding, not UTF-8: not used; save it as UTF-8"),
    ],
)
def test_encodings(tmp_path: Path, content: bytes, label: str | None, problem: str) -> None:
    labelled = read(tmp_path, content)
    assert labelled.segments == ({CLIP: [Segment(0, 3, label)]} if label else {})
    assert [line for line in labelled.problems if "encoding" in line] == [f"{tmp_path}/clip.txt: {problem}"] * bool(
        problem
    )


def test_recordings_without_labels_are_reported_once(tmp_path: Path) -> None:
    recordings = [Recording(Path(name), 1.0) for name in ("a.wav", "b.wav")]
    labelled = read_labels(tmp_path, recordings)
    assert labelled.segments == {}
    assert labelled.problems == ["2 of 2 recordings without labels: not used (the first: a.wav)"]


def test_an_empty_label_track_says_that_nothing_happens(tmp_path: Path) -> None:
    recordings = [
        Recording(Path(f"{name}.wav"), 1.0) for name in ("labelled", "empty", "none", "wrong", "point", "both")
    ]
    (tmp_path / "labelled.txt").write_text("0\t1\tx\n")
    (tmp_path / "empty.txt").write_text(" \n\\\t100.0\t2000.0\n")
    (tmp_path / "wrong.txt").write_text("some words\n")
    (tmp_path / "point.txt").write_text("0.5\t0.5\tx\n")
    (tmp_path / "both.txt").touch()  # the table has labels
    write_csv(tmp_path / "labels.csv", {"both.wav": [Segment(0, 1, "y")]})
    labelled = read_labels(tmp_path, recordings)
    assert labelled.segments == {
        Path("labelled.wav"): [Segment(0, 1, "x")],
        Path("empty.wav"): [],
        Path("both.wav"): [Segment(0, 1, "y")],
    }
    assert labelled.problems[:2] == [
        "3 of 6 recordings without labels: not used (the first: none.wav)",
        "1 of 6 recordings with an empty label track: nothing happens there (the first: empty.wav)",
    ]


def test_an_empty_text_grid(tmp_path: Path) -> None:
    """One with a point in another tier has labels, but none that can be used."""
    pytest.importorskip("praatio")
    without = TEXT_GRID.replace('say ""ah""', "")
    assert read(tmp_path, without.encode(), name="clip.TextGrid").segments == {}
    point, next_tier = without.index("        points [1]"), without.index("    item [2]")
    empty = without[:point].replace("points: size = 1", "points: size = 0") + without[next_tier:]
    assert read(tmp_path, empty.encode(), name="clip.TextGrid").segments == {CLIP: []}


def test_table(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,start,end,label\n./clip.wav,0,1.25,ann\nclip.wav,1.25,1.5,pause\nsub/b.wav,0,1,x\n"
        "clip.wav,1.5,3,bob\nother.wav,0,1,x\nclip.wav,zero,one,x\n"
    )
    labelled = read_labels(tmp_path, [Recording(CLIP, 3.0), Recording(Path("sub/b.wav"), 1.0)])
    assert labelled.segments == {CLIP: TURNS, Path("sub/b.wav"): [Segment(0, 1, "x")]}
    assert labelled.problems == [
        "labels.csv: 1 line not path,start,end,label: left out (the first: clip.wav,zero,one,x)",
        "labels.csv: 1 path of no recording of the folder: not used (the first: other.wav)",
    ]


def test_a_file_beside_the_recording_counts_before_the_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "labels.csv", {"clip.wav": [Segment(0, 3, "x")]})
    labelled = read(tmp_path, TURN_LINES)
    assert labelled.segments == {CLIP: TURNS}
    assert labelled.problems == ["labels.csv: lines of clip.wav not used, because there is clip.txt"]
    (tmp_path / "clip.txt").write_text("what somebody said\n")  # a text without times: the table counts
    assert read_labels(tmp_path, [Recording(CLIP, 3.0)]).segments == {CLIP: [Segment(0, 3, "x")]}


def test_text_grid(tmp_path: Path) -> None:
    pytest.importorskip("praatio")
    labelled = read(tmp_path, TEXT_GRID.encode("utf-16"), name="clip.TextGrid")
    assert labelled.segments == {CLIP: [Segment(0, 1.5, 'say "ah"')]}
    assert labelled.problems[0].startswith("1 gap between labels, 1.50 s in 1 recording")
    assert labelled.problems[1] == (
        f"{tmp_path}/clip.TextGrid: 1 tier not used, only the first one of intervals, words"
    )


@pytest.mark.parametrize("content", [b"", b"File type = ", TEXT_GRID[:300].encode(), b'{"tiers": 1}', b"[1]"])
def test_damaged_text_grid(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("praatio")
    labelled = read(tmp_path, content, name="clip.TextGrid")
    assert labelled.segments == {} and labelled.problems[1].startswith(f"{tmp_path}/clip.TextGrid: no")


def test_text_grid_without_praatio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "praatio.utilities", None)
    with pytest.raises(Unavailable, match="reading a TextGrid needs praatio: pip install 'wavenet-toolkit.labels.'"):
        read(tmp_path, TEXT_GRID.encode(), name="clip.TextGrid")
    with pytest.raises(Unavailable, match="a TextGrid needs praatio"):
        check_label_file("out.TextGrid")


@pytest.mark.parametrize("name", ["clip.txt", "clip.TextGrid"])
@pytest.mark.parametrize("expected", [TURNS, [Segment(0.5, 1.01, 'a "b"'), Segment(2.0, 2.34, "ü")]])
def test_what_is_written_is_read_again(tmp_path: Path, name: str, expected: list[Segment]) -> None:
    pytest.importorskip("praatio")
    write_labels(tmp_path / name, expected, seconds=3.0)
    assert read_track(tmp_path / name, 3.0) == (expected, [])


def test_tables_are_read_again(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.csv", TURNS, recording=CLIP)
    assert read_labels(tmp_path, [Recording(CLIP, 3.0)]) == LabelledFolder({CLIP: TURNS}, [])


def test_no_labels(tmp_path: Path) -> None:
    pytest.importorskip("praatio")
    for name in ("clip.txt", "clip.TextGrid"):
        write_labels(tmp_path / name, [], seconds=3.0)
        assert read_track(tmp_path / name, 3.0) == ([], [])


def test_archive(tmp_path: Path) -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    written = [Segment(0, 0.01, "a"), Segment(0.01, 0.02, "b")]
    path = tmp_path / "out.npz"
    write_labels(path, written, probabilities=probabilities, classes=("a", "b"), frame_seconds=0.01)
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["probabilities"], probabilities)
        assert archive["classes"].tolist() == ["a", "b"] and archive["frame_seconds"] == 0.01
        rows = zip(archive["starts"], archive["ends"], archive["labels"], strict=True)
        assert [Segment(*row) for row in rows] == written


def test_an_archive_of_a_long_recording_takes_no_memory(tmp_path: Path) -> None:
    block = np.random.default_rng(0).random((1_000, 40), np.float32)  # 160 kB
    tracemalloc.start()
    with label_archive(tmp_path / "out.npz", [f"class {i}" for i in range(40)], 0.01) as archive:
        for i in range(200):
            archive.add([Segment(10 * i, 10 * i + 10, f"class {i % 40}")], block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6
    with np.load(tmp_path / "out.npz") as content:
        assert content["probabilities"].shape == (200_000, 40) and content["labels"][199] == "class 39"
        np.testing.assert_array_equal(content["probabilities"][-1_000:], block)
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_an_archive_that_is_not_completed_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "out.npz").write_text("old")
    with pytest.raises(RuntimeError), label_archive(tmp_path / "out.npz", ["", "a"], 0.01):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"] and (tmp_path / "out.npz").read_text() == "old"
    with (
        pytest.raises(FileNotFoundError, match="missing/out.npz"),
        label_archive(tmp_path / "missing/out.npz", [], 1.0),
    ):
        pass


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a label is not among the classes: c"):
        write_labels("out.npz", [Segment(0, 1, "c")], probabilities=np.ones((1, 1)), classes=("a",), frame_seconds=1.0)
    with pytest.raises(ValueError, match="out.json: labels are written as .txt, .TextGrid, .csv, .npz"):
        write_labels("out.json", TURNS)
    with pytest.raises(ValueError, match="out.npz: a .npz contains probabilities"):
        write_labels("out.npz", TURNS)


def test_frames_and_segments() -> None:
    """Frames of 10 ms: the one at 0.02 s, centred on 0.025 s, belongs to a label that ends at 0.026 s."""
    labels = [Segment(0.0, 0.026, "a"), Segment(0.03, 0.045, "b"), Segment(0.045, 0.05, "c"), Segment(0.06, 0.08, "b")]
    found = segments.frame_classes(labels, ("a", "b"), 7, 0.01)
    assert found.tolist() == [1, 1, 1, 2, 0, 0, 2]  # the centre of frame 4, 0.045 s, is where b ends and c starts
    again = segments.frame_segments(np.array([0, 1, 1, 0, 2, 2]), ("a", "b"), 0.01, 0.057)
    assert again == [Segment(0.01, 0.03, "a"), Segment(0.04, 0.057, "b")]
