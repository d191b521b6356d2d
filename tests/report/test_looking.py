"""Pictures and the page of lesions: orientation, borders, warnings, failures, and the page in a real browser."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hgpscale.cohort import read_manifest
from hgpscale.cohort.raters import rater_agreement
from hgpscale.report.concerns import Outlined, concerns
from hgpscale.report.looking import LesionLook, picture_name, write_figures
from hgpscale.report.montage import Outline, montage, patient_axes, turned, voxel_borders
from hgpscale.report.page import page
from hgpscale.testing import make_cohort
from hgpscale.volume import Geometry, Volume

STRAIGHT = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)


def grid(direction: tuple[float, ...] = STRAIGHT, spacing: tuple[float, float, float] = (2, 1, 1)) -> Geometry:
    return Geometry((20, 20, 20), spacing, (0, 0, 0), direction)


@pytest.mark.parametrize("direction", [STRAIGHT, (-1, 0, 0, 0, -1, 0, 0, 0, -1), (0, 0, 1, 1, 0, 0, 0, -1, 0)])
def test_turned_arrays_go_to_the_head_back_and_left(direction: tuple[float, ...]) -> None:
    geometry = grid(direction)
    axes = patient_axes(geometry)
    assert not axes.oblique
    points = np.array([geometry.point((z, y, x)) for z in range(2) for y in range(2) for x in range(2)])
    for i, along in enumerate((2, 1, 0)):  # the array's axes go along z, y and x of the patient
        values = turned(points[:, along].reshape(2, 2, 2), axes)
        assert (np.diff(values, axis=i) > 0).all()


def test_an_oblique_scan_is_known() -> None:
    c, s = np.cos(0.4), np.sin(0.4)
    assert patient_axes(grid((c, -s, 0, s, c, 0, 0, 0, 1))).oblique


def test_borders_run_between_voxels() -> None:
    mask = np.zeros((3, 3), np.bool_)
    mask[1, 1:] = True
    segments = {tuple(map(tuple, segment)) for segment in voxel_borders(mask, 2.0, 1.0).tolist()}
    assert segments == {
        ((1, 2), (2, 2)), ((2, 2), (3, 2)), ((1, 4), (2, 4)), ((2, 4), (3, 4)), ((1, 2), (1, 4)), ((3, 2), (3, 4)),
    }  # fmt: skip


def test_a_montage_of_raters_and_a_region() -> None:
    image = Volume(np.zeros((20, 20, 20), np.int16), grid())
    mask = Volume(np.ones((4, 4, 4), np.bool_), grid(), (5, 5, 5))
    figure = montage(image, [Outline("_a$", "rater", mask), Outline("rim", "region", mask)], "t")
    assert [panel.get_title() for panel in figure.axes] == ["axial", "coronal", "sagittal"]
    figure.canvas.draw()
    with pytest.raises(ValueError, match="at least one outline"):
        montage(image, [], "t")


def outlined(mask: Volume, **changes: Any) -> list[str]:
    values = {"median": 60.0, "lowest": -1000.0, "liver": None, "others": {}, **changes}
    return concerns(Outlined(mask, agreement=values.pop("agreement", rater_agreement({"a": mask})), **values))


def test_warnings() -> None:
    good = Volume(np.ones((5, 5, 5), np.bool_), grid(), (4, 4, 4))
    half = Volume(np.ones((5, 5, 5), np.bool_), grid(), (4, 4, 8))
    assert outlined(good) == []
    assert outlined(Volume(np.ones((2, 2, 2), np.bool_), grid(), (4, 4, 4))) == ["tiny: 8 voxels in 2 slices"]
    pieces = good.array.copy()
    pieces[:, :, 3] = False
    assert outlined(Volume(pieces, grid(), (4, 4, 4))) == ["2 separate pieces, the largest holds 75.0 %"]
    assert outlined(Volume(good.array, grid(), (4, 15, 4))) == ["touches the border of the scan"]
    assert outlined(good, median=400.0) == ["median 400 HU is not soft tissue's"]
    assert outlined(good, lowest=0.0) == ["no air: lowest voxel 0, are these HU?"]
    assert outlined(Volume(good.array, grid(spacing=(6, 1, 1)), (4, 4, 4))) == ["coarse: voxels are 6 mm long"]
    assert outlined(Volume(good.array, grid(spacing=(5, 0.5, 1)), (4, 4, 4)))[0].startswith("anisotropic")
    apart = rater_agreement({"a": good, "b": half})
    assert outlined(good, agreement=apart) == ["raters disagree: lowest Dice 0.20"]
    assert outlined(good, liver=half) == ["80.0 % lies outside the liver mask"]
    assert outlined(good, others={"L2": half}) == ["overlaps L2"]
    assert outlined(good, grid="size")[0].endswith(": size")


def test_names_of_pictures_are_safe_and_unique() -> None:
    assert picture_name(1, "../a b") == "00001-.._a_b.png"
    assert picture_name(1, "x" * 300) != picture_name(2, "x" * 300)


def test_one_bad_lesion_is_listed_and_the_others_are_drawn(tmp_path: Path) -> None:
    manifest = make_cohort(tmp_path, 2)
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    rows[-1]["label"] = "9"
    # A second rater outlines the first lesion as the first did.
    rows = [{**row, "segmentation": "A"} for row in rows] + [{**rows[0], "segmentation": "B"}]
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    seen: list[tuple[int, int]] = []
    index, looks = write_figures(
        read_manifest(manifest), tmp_path / "look", on_progress=lambda *counts: seen.append(counts)
    )
    assert seen == [(1, 2), (2, 2)]
    assert (looks[0].dice, looks[0].spread) == (1.0, 1.0)
    assert [len(look.failures) for look in looks] == [0, 0, 1]
    assert "label 9 is not in the mask" in looks[-1].failures[0]
    assert sorted(file.name for file in (index.parent / "lesions").iterdir()) == [
        "00001-P01_L1.png",
        "00002-P02_L1.png",
    ]
    write_figures(read_manifest(manifest), tmp_path / "look")
    index.write_text("mine")
    with pytest.raises(FileExistsError, match="another folder"):
        write_figures(read_manifest(manifest), tmp_path / "look")


EVIL = '<b>x</b>&"'
LOOKS = [
    LesionLook(f"L{i}", "P", "C", {"A": volume * 1000.0}, hu=(1, 2, 3), spacing=(1, 1, 1), size=(1, 1, 1), slices=3)
    for i, volume in enumerate((10, 9, 100))
] + [LesionLook(EVIL, "P", "C", failures=("A: <script>alert(1)</script>",))]


def test_the_page_sorts_and_filters_in_a_browser(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(page("cohort.csv", LOOKS), "utf-8")
    url = (tmp_path / "index.html").as_uri()

    def shown() -> list[str]:
        script = "return [...document.querySelectorAll('tbody tr:not([hidden]) td[data-key=lesion]')]"
        names: list[str] = browser.execute_script(script + ".map(cell => cell.textContent)")
        return names

    def head(key: str) -> Any:
        return browser.find_element("css selector", f"th[data-key={key}]")

    browser.get(url)
    assert shown() == ["L0", "L1", "L2", EVIL]
    head("volume").find_element("css selector", "button").click()
    assert (shown(), head("volume").get_attribute("aria-sort")) == (["L1", "L0", "L2", EVIL], "ascending")
    head("volume").find_element("css selector", "button").send_keys("\n")
    assert (shown(), head("volume").get_attribute("aria-sort")) == (["L2", "L0", "L1", EVIL], "descending")
    browser.find_element("id", "filter").send_keys("<B>X")
    assert shown() == [EVIL]
    assert browser.current_url.endswith("#sort=volume&dir=desc&q=%3CB%3EX")
    browser.get("about:blank")
    browser.get(f"{url}#sort=volume&dir=desc")
    assert shown() == ["L2", "L0", "L1", EVIL]
    assert not browser.find_elements("css selector", "td b, #failed script")
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in fetched if not name.startswith(("file:", "data:"))] == []
    assert [entry["message"] for entry in browser.get_log("browser")] == []
