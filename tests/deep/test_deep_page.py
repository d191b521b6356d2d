"""The page of a prediction: pictures decoded again, curves read off their drawings, names escaped."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import COMPARED
from found import answer, growth
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from numpy.typing import NDArray

from hgpscale.deep.answers import FoundLesion, Saliency, ScanAnswer
from hgpscale.deep.detection import RATES, Compared, compare, detection_summary, froc, sensitivity_at
from hgpscale.errors import ReportError
from hgpscale.report.deep_figures import froc_figure, training_curves
from hgpscale.report.deep_page import MARK, PredictionRun, detection_table, page, write_page
from hgpscale.report.deep_pictures import AGAINST, FOR, picture
from hgpscale.volume import Geometry

EVIL = "<script>alert('1')</script>\"&"
SHAPE = (4, 30, 40)
GRID = Geometry(SHAPE, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
RUN = PredictionRun("cohort.csv", 3, (("device", "cpu"),))


class Tags(HTMLParser):
    """What elements a page has, with their attributes, and the text of all but script and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def values(self, attribute: str) -> list[str]:
        return [str(found[attribute]) for _, found in self.tags if attribute in found]


def scan(patient: str, case: str, number: int, *, typed: bool = True) -> ScanAnswer:
    """Return a scan with some lesions in a row."""
    labels = np.zeros(SHAPE, np.uint16)
    for lesion in range(number):
        labels[1:3, 4 + 5 * (lesion // 6) : 7 + 5 * (lesion // 6), 2 + 6 * (lesion % 6) : 5 + 6 * (lesion % 6)] = (
            lesion + 1
        )
    grown = growth(0.5, 0.25, low=0.3, high=0.7, spread=0.1) if typed else None
    return answer(patient, case, Path(f"{case}.nii.gz"), labels, GRID, [grown] * number)


def saliency(*, typed: bool = True) -> Saliency:
    rng = np.random.default_rng(0)
    shape = (3, 40, 50)
    lesion, rim = np.zeros(shape, bool), np.zeros(shape, bool)
    lesion[1, 15:25, 20:32] = lesion[0, 18:20, 22:25] = True
    rim[:, 12:28, 17:35] = True
    rim[:, 18:22, 23:29] = False
    maps = rng.normal(size=(3, *shape)).astype(np.float32)
    image = rng.uniform(-200, 400, shape).astype(np.float32)
    return Saliency(image, (3.0, 0.5, 0.75), lesion, rim, maps if typed else maps[:0])


def images(svg: str) -> list[NDArray[np.uint8]]:
    found = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    return [np.rint(255 * imread(io.BytesIO(base64.b64decode(one)))).astype(np.uint8) for one in found]


def test_pictures_have_the_scan_in_its_window_and_shares_in_the_rim() -> None:
    one = saliency()
    made = picture(one, "L", "k")
    assert [part for _, part in made.panels] == ["", "desmoplastic", "replacement", "pushing"]
    # Shown is a square of 40 mm, which the box of 20 x 37.5 mm lies in whole.
    ((grey,), *overlays) = [images(svg) for svg, _ in made.panels]
    assert grey.shape == (40, 50)
    expected = np.clip((one.image[1] - -15) / 250, 0, 1) * 255
    assert np.abs(grey.astype(float) - expected).max() <= 1
    inside = np.abs(one.maps[:, 1][:, one.rim[1]])
    assert made.scale == pytest.approx(np.percentile(inside, 99))
    for (colours,), shares in zip(overlays, one.maps[:, 1], strict=True):
        assert colours.shape == (40, 50, 4)
        np.testing.assert_array_equal(colours[~one.rim[1], 3], 0)
        alpha = 235 * np.clip(np.abs(shares) / made.scale, 0, 1)
        assert np.abs(colours[..., 3].astype(float) - alpha)[one.rim[1]].max() <= 1
        for colour, where in ((FOR, shares > 0), (AGAINST, shares < 0)):
            assert {tuple(rgb) for rgb in colours[where & one.rim[1]][:, :3].tolist()} == {
                tuple(bytes.fromhex(colour[1:]))
            }


def test_the_outline_runs_around_the_lesion() -> None:
    (svg, _), *_ = picture(saliency(), "L", "k").panels
    rim, lesion = re.findall(r'<path d="(M[^"]+L[^"]+)"', svg)
    # 10 x 12 voxels of 0.5 x 0.75 mm; the rim has a hole of 4 x 6.
    for path, length in ((lesion, 2 * (5 + 9)), (rim, 2 * (8 + 13.5) + 2 * (2 + 4.5))):
        ends = np.array(re.findall(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", path), float)
        assert np.abs(ends[:, :2] - ends[:, 2:]).sum() == pytest.approx(length)


def test_one_slice_is_enough() -> None:
    one = saliency()
    assert one.shown().image.shape == (1, 40, 50)
    assert one.shown().maps.shape == (3, 1, 40, 50)
    assert picture(one.shown(), "L", "k") == picture(one, "L", "k")
    assert not np.shares_memory(one.shown().image, one.image)


def test_a_lesion_without_growth_has_one_panel_and_zeros_have_no_colour() -> None:
    assert [part for _, part in picture(saliency(typed=False), "L", "k").panels] == [""]
    none = picture(replace(saliency(), maps=np.zeros_like(saliency().maps)), "L", "k")
    assert none.scale == 0
    assert not any(colours[..., 3].any() for svg, _ in none.panels[1:] for colours in images(svg))


@pytest.mark.parametrize("numbers", [(), (0,), (0, 0), (1,), (30, 0, 30)])
def test_every_patient_and_lesion_is_on_the_page(numbers: Sequence[int]) -> None:
    answers = [scan(f"P{n}", f"P{n}", count) for n, count in enumerate(numbers)]
    lesions = [lesion.lesion for one in answers for lesion in one.lesions]
    html = page(answers, RUN, pictures=dict.fromkeys(lesions, saliency().shown()))
    tags = Tags(html)
    ids = Counter(tags.values("id"))
    assert max(ids.values()) == 1
    assert {link[1:] for link in tags.values("href") if link.startswith("#")} <= set(ids)
    for lesion in lesions:
        assert len(re.findall(rf"<h3>{lesion}</h3>", html)) == 1
    assert html.count('class="found"') == len(lesions)
    assert sum(tag == "use" for tag, _ in tags.tags) == 6 * len(lesions)
    for one in answers:
        assert f'data-value="{one.patient}">{one.patient}</th>' in html
    assert "For research only" in html
    assert ("What they do not mean" in html) == bool(lesions)
    assert not re.search(r"(src|href)=\"(?!#|data:)", html)


def test_bars_are_the_composition() -> None:
    grown = growth(0.625, 0.25, low=0.4, high=0.85)
    one = scan("P", "P", 1)
    html = page([replace(one, lesions=(replace(one.lesions[0], growth=grown),))], RUN)
    bars = re.findall(r'class="growth".*?aria-label="([^"]+)">(.+?)</span></span>', html)
    assert len(bars) == 2  # of the patient and of its lesion
    for words, bar in bars:
        assert words == "desmoplastic 62 %, replacement 25 %, pushing 12 %"
        assert re.findall(r"width:([\d.]+)%", bar) == ["62.5", "25.0", "12.5"]
    assert "40\N{EN DASH}85" in html


def test_the_network_s_answer_on_a_patient_is_shown() -> None:
    own = growth(0.125, 0.75, pure=0.0625)
    html = page([replace(scan("P", "P", 2), growth=own)], RUN)
    (row,) = re.findall(r'<tr><th scope="row" class="text" data-value="P">P</th>(.+?)</tr>', html, re.DOTALL)
    assert re.findall(r"width:([\d.]+)%", row) == ["12.5", "75.0", "12.5"]
    assert 'data-value="0.0625"' in row


def test_names_are_escaped() -> None:
    one = scan(EVIL, "P", 1)
    lesion = replace(one.lesions[0], lesion=EVIL)
    run = PredictionRun(EVIL, 1, ((EVIL, EVIL),), (EVIL,), ((EVIL, EVIL),), EVIL)
    html = page([replace(one, lesions=(lesion,))], run, pictures={EVIL: saliency()})
    tags = Tags(html)
    assert sum(tag == "script" for tag, _ in tags.tags) == 1
    assert "<script>alert" not in html
    # Title twice, three settings and notes, two of a problem, date; in tables and on top of the picture.
    assert tags.text.count(EVIL) >= 12
    assert any(EVIL in label for label in tags.values("aria-label"))
    assert set(tags.values("data-value")) >= {EVIL}
    assert sum(EVIL in str(value) for _, found in tags.tags for value in found) == 0


def test_a_page_of_something_else_is_kept(tmp_path: Path) -> None:
    path = write_page(tmp_path / "new" / "predictions.html", [scan("P", "P", 1)], RUN)
    assert MARK in path.read_text()
    write_page(path, [], RUN)
    assert "No scan has an answer" in path.read_text()
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="is a file of something else"):
        write_page(path, [], RUN)
    assert path.read_text() == "mine"
    with pytest.raises(ReportError, match="found a folder"):
        write_page(tmp_path, [], RUN)


def heights(svg: str) -> list[tuple[float, float]]:
    """Return false positives and sensitivities that the line of a FROC figure goes through."""
    (points,) = re.findall(r'<polyline points="([^"]+)"', svg.partition('stroke-width="2.5"')[0] + '"')[-1:]
    pairs = [tuple(map(float, pair.split(","))) for pair in points.split()]
    width, height, left, right, top, bottom = 440, 340, 52, 14, 12, 46
    return [
        (2 ** (6 * (x - left) / (width - left - right) - 3), (height - bottom - y) / (height - top - bottom))
        for x, y in pairs
    ]


@given(COMPARED)
def test_the_drawn_froc_is_the_curve(compared: list[Compared]) -> None:
    detection = detection_summary(compared[:1], ["A"], 0)
    figure = froc_figure(detection)
    curve = froc(compared[:1])
    assert figure is not None
    line = heights(str(figure.drawings[0]))
    assert line[0][0] == pytest.approx(1 / 8, rel=0.01)
    assert line[-1][0] == pytest.approx(8, rel=0.01)
    for rate in RATES:
        drawn = max(sensitivity for false, sensitivity in line if false <= rate * 1.02)
        assert drawn == pytest.approx(sensitivity_at(curve, rate), abs=0.01)


def test_detection_is_told_where_lesions_are_drawn() -> None:
    nothing = compare(np.ones((1, 1, 1), int), np.array([0.9]), np.zeros((1, 1, 1), int))
    detection = detection_summary([nothing], ["A"], 0)
    assert froc_figure(detection) is None
    html = page([scan("P", "P", 1)], RUN, detection=detection)
    assert "No lesion is drawn in these scans" in html
    found = {row[0].text: row[1].text for row in detection_table(detection).rows}
    assert found["False positives a scan, score 0.5 or more"].startswith("1.00")
    assert found["Average sensitivity"] == "not defined"
    assert 'id="detection"' not in page([scan("P", "P", 1)], RUN)


def test_without_growth_there_is_no_column_of_it() -> None:
    html = page([scan("P", "P", 2, typed=False)], RUN)
    assert 'class="growth"' not in html
    assert "P(d" not in html
    assert "An interval holds" not in html


def records() -> list[dict[str, Any]]:
    train = [{"kind": "train", "step": n, "loss": 1 / n, "losses": {"lesion": 2 / n, "growth": 3.0}, "seconds": n}
             for n in range(1, 1001)]  # fmt: skip
    return [*train, *({"kind": "validation", "step": n, "loss": 2 / n, "dice": n / 2000} for n in (500, 1000))]


def test_training_curves_are_those_of_the_records() -> None:
    figures = {figure.name: figure for figure in training_curves(records())}
    assert list(figures) == ["training-loss", "training-losses", "training-dice"]
    assert [words for _, words in figures["training-loss"].legend] == ["train", "validation"]
    assert [words for _, words in figures["training-losses"].legend] == ["lesion, train", "growth, train"]
    assert figures["training-dice"].caption.endswith("at the end validation 0.5.")
    # 1000 steps in 334 groups of three: the last is the last step alone.
    (line, *_) = re.findall(r'<polyline points="([^"]+)"', str(figures["training-loss"].drawings[0]))
    assert len(line.split()) == 334
    assert figures["training-loss"].caption.endswith("at the end train 0.001; validation 0.002.")
    assert training_curves([]) == []
    assert training_curves([{"kind": "train", "step": 1, "loss": float("nan")}]) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_any_numbers_can_be_drawn(values: list[float]) -> None:
    (figure,) = training_curves({"kind": "train", "step": n, "loss": value} for n, value in enumerate(values))
    assert "nan" not in str(figure.drawings[0])


def test_a_lesion_without_a_picture_is_listed() -> None:
    one = scan("P", "P", 2)
    first: FoundLesion = one.lesions[0]
    html = page([one], RUN, pictures={first.lesion: saliency()})
    assert html.count("No picture was made of it") == 1
    assert html.count('class="panels"') == 1
