"""The report of an evaluation: what it says of results that are known, what it refuses, and the page in a browser."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import studies
from bad_inputs import box, ct, write
from sklearn.metrics import roc_auc_score

from hgpscale.cohort import read_manifest
from hgpscale.cube import CubeWriter
from hgpscale.errors import ReportError
from hgpscale.report.study import MARK, write_report
from hgpscale.report.study_curves import calibration, decisions, roc, wilson
from hgpscale.report.study_figures import labels_by_centre
from hgpscale.report.study_items import checklists
from hgpscale.report.study_limits import limits, undefined_notes
from hgpscale.report.study_read import Difference, Metrics, read_study
from hgpscale.report.study_tables import (
    confusion_table,
    feature_shares,
    first_table,
    labels_table,
    read_name,
    results_table,
)
from hgpscale.report.study_words import between, number, p_value, summary, verdict
from hgpscale.settings import Settings

KINDS = ("binary", "class", "number", "composition", "multitask")
EVIL = "<script>alert(1)</script>"


def metrics(kind: str = "binary", **changes: Any) -> Metrics:
    return Metrics.model_validate({**studies.metrics(kind, 90, 10, "repeated"), **changes})


def with_difference(mean: float, low: float, high: float) -> Metrics:
    data = studies.metrics("binary", 90, 10, "repeated")
    data["baselines"]["lesion region"]["difference"]["auc"] = {"mean": mean, "low": low, "high": high, "p": 0.04}
    return Metrics.model_validate(data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scheme", "splits"), [("repeated", 6), ("external", 1), ("leave-centre-out", 3)])
def test_every_kind_of_study_has_a_page_in_order(kind: str, scheme: str, splits: int, tmp_path: Path) -> None:
    page = write_report(studies.write(tmp_path, kind, splits=splits, scheme=scheme, lesions=60)).read_text("utf-8")
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)
    # Every drawing has words for those who do not see it, and every figure a caption.
    assert page.count("<svg viewBox") == page.count('role="img" aria-label="')
    assert page.count("<figure") == page.count("<figcaption>")
    assert not re.search(r"\b(nan|None|Undefined)\b", re.sub(r"<style>.*?</style>", "", page, flags=re.S))
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"|url\(|@import', page)


def test_the_summary_says_no_more_than_the_interval() -> None:
    first, second = summary(with_difference(0.05, -0.02, 0.12), "auc")
    assert first.startswith(
        "Over 10 random 80 % / 20 % splits by patient, the model “search” reached a mean AUC of 0.7"
    )
    assert "the best baseline, lesion region only, reached 0.6" in first
    assert second == (
        "The difference of 0.05 (95 % interval −0.02 to 0.12, p = 0.040) is not clear of zero: "  # noqa: RUF001
        "the model is not shown to be better than lesion region only."
    )
    assert (
        "is clear of zero: in these data the model predicts better"
        in summary(with_difference(0.05, 0.01, 0.09), "auc")[1]
    )
    assert "the model is worse than" in summary(with_difference(-0.05, -0.09, -0.01), "auc")[1]
    assert "No baseline" in summary(metrics(baselines={}), "auc")[1]
    names = ("mae", "rmse", "r2", "spearman", "interval_coverage", "interval_width")
    nothing = {name: {"mean": None, "low": None, "high": None, "per_split": [None]} for name in names}
    assert "is not defined" in summary(metrics("number", **nothing), "mae")[0]


def test_less_error_is_better() -> None:
    assert verdict("mae", Difference(mean=-1, low=-2, high=-0.1)) == "better"
    assert verdict("auc", Difference(mean=-1, low=-2, high=-0.1)) == "worse"
    assert verdict("auc", Difference(mean=1, low=0, high=2)) == "not shown"
    assert verdict("auc", None) == "unknown"


def test_numbers_are_rounded_for_people() -> None:
    assert [number(x) for x in (0.70612, -0.049, -0.001, 123.4, None, float("nan"))] == [
        "0.71", "−0.05", "0.00", "123", "not defined", "not defined",  # noqa: RUF001
    ]  # fmt: skip
    assert (number(0.223, percent=True), number(0.05, signed=True)) == ("22.3", "+0.05")
    assert (between(0.58, 0.83), between(-0.1, 0.2)) == ("0.58–0.83", "−0.10 to 0.20")  # noqa: RUF001
    assert [p_value(p) for p in (0.00049, 0.012, 0.16, None)] == ["< 0.001", "0.012", "0.16", "not defined"]


def test_curves_of_one_test_set_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 80), rng.random(80).round(1)
    events = pd.DataFrame({"split": "0", "lesion": [f"L{i}" for i in range(80)], "y": y, "p": p})
    curve = roc(events)
    assert curve is not None
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc_score(y, p))
    decided = decisions(events)
    assert decided is not None
    # At odds of 1 a false alarm costs what a hit gains.
    assert decided.model[49] == pytest.approx((y[p >= 0.5] * 2 - 1).sum() / 80)
    assert sum(one.lesions for one in calibration(events)) == 80


def test_a_split_with_one_class_is_left_out_and_the_mean_is_of_the_others() -> None:
    events = pd.DataFrame(
        {
            "split": list("aabbcc"),
            "lesion": list("uvwxyz"),
            "y": [0, 1, 0, 1, 1, 1],
            "p": [0.1, 0.9, 0.9, 0.1, 0.5, 0.5],
        }
    )
    curve = roc(events)
    assert curve is not None
    assert (curve.used, curve.skipped) == (2, 1)
    # One perfect ranking, one the wrong way round: half the way up until the last false alarm.
    assert curve.y[1:-1].tolist() == [0.5] * 100
    assert roc(events[events["split"] == "c"]) is None
    assert decisions(events[events["split"] == "c"]) is None


def test_a_lesion_counts_once_in_a_group_of_the_calibration() -> None:
    events = pd.DataFrame({"split": range(30), "lesion": ["A", "B", "C"] * 10, "y": [1.0, 0, 0] * 10, "p": [0.3] * 30})
    (one,) = calibration(events)
    assert one.lesions == 3
    assert one.observed == pytest.approx(1 / 3)
    # Wilson's interval of 1 in 10, from the tables of Newcombe 1998 (doi:10.1002/(SICI)1097-0258).
    assert wilson(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-4)


def test_names_of_features_are_taken_apart() -> None:
    assert read_name("RAD__rim__original_glcm_Contrast") == ("rim", "original", "glcm", "Contrast")
    assert read_name("log-sigma-3-0-mm-3D_glszm_ZoneEntropy")[:3] == ("lesion", "log-sigma-3-0-mm-3D", "glszm")
    assert read_name("age_at_scan")[2:] == ("covariate", "age_at_scan")
    assert read_name("deep_Embedding07") == ("lesion", "", "deep", "Embedding07")
    shares = dict(feature_shares(metrics().features, "region"))
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda key: shares[key]) == "rim"


def test_what_networks_add_is_told_beside_the_other_baselines(tmp_path: Path) -> None:
    data = studies.metrics("binary", 60, 6, "repeated")
    halves = {"radiomics": data["baselines"]["volume"], "deep": data["baselines"]["covariates"]}
    data["baselines"] |= halves
    data["settings"]["fusion"] = "stack"
    found = Metrics.model_validate(data)
    for table in (first_table(found, "auc"), results_table(found)):
        told = " ".join(cell.text for row in table.rows for cell in row) + " ".join(name for name, _ in table.heads)
        assert "radiomics only" in told
        assert "networks only" in told
    changes = {name: data[name] for name in ("baselines", "settings")}
    page = write_report(studies.write(tmp_path, "binary", lesions=60, splits=6, **changes)).read_text("utf-8")
    assert page.count("networks only") >= 3  # two tables and the figure of all splits
    assert "one of radiomics and one of networks, weighed by training patients" in page


def test_what_is_undefined_is_told_with_its_reason() -> None:
    (note,) = undefined_notes(metrics())
    assert note.startswith("Calibration slope is not defined for mean predictor: predictions are constant")


def test_limits_follow_from_the_run() -> None:
    told = " ".join(limits(metrics()))
    for words in (
        "Few patients: 63",
        "No external test set",
        "3 centres are mixed",
        "not harmonised",
        "Not a medical device",
    ):
        assert words in told
    alone = " ".join(limits(metrics(cohort={**studies.metrics("binary", 90, 1, "external")["cohort"], "centres": {}})))
    assert "One centre, or none named" in alone
    external = Metrics.model_validate(studies.metrics("binary", 900, 1, "external"))
    assert "No external" not in " ".join(limits(external))
    assert "Few patients" not in " ".join(limits(external))


def test_labels_of_all_are_not_counted_twice() -> None:
    told = " ".join(limits(metrics()))
    assert "22 of 90 lesions are “desmoplastic”" in told
    assert "22 of 90 lesions are “pure desmoplastic”" in " ".join(limits(metrics("multitask")))
    figure, table = labels_by_centre(metrics("multitask")), labels_table(metrics("multitask"))
    assert figure is not None
    assert table is not None
    # Only centres and only parts are drawn; the table has all rows and the count of pure lesions.
    assert [words for _, words in figure.legend] == ["desmoplastic", "replacement", "pushing"]
    assert "all" not in figure.drawings[0]
    assert [title for title, _ in table.heads] == [
        "centre", "lesions", "desmoplastic", "replacement", "pushing", "pure desmoplastic",
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[0]] == ["all", "90", "35 %", "50 %", "15 %", "22"]
    assert "not harmonised" not in " ".join(limits(metrics(settings={"harmonise": "combat"})))


def test_checklists_have_every_item_once() -> None:
    lists = {entry.name: entry for entry in checklists(metrics())}
    assert {name: len(entry.items) for name, entry in lists.items()} == {"TRIPOD+AI": 52, "CLEAR": 58, "METRICS": 30}
    for name in ("CLEAR", "METRICS"):
        assert [item.number for item in lists[name].items] == [str(i + 1) for i in range(len(lists[name].items))]
    heads = {re.sub(r"\D", "", item.number) for item in lists["TRIPOD+AI"].items}
    assert heads == {str(i) for i in range(1, 28)}
    by_number = {item.number: item for item in lists["METRICS"].items}
    assert (by_number["26"].status, by_number["27"].status) == ("answered", "open")
    external = checklists(Metrics.model_validate(studies.metrics("binary", 90, 1, "external")))[2]
    assert {item.number for item in external.open} >= {"26"}


def test_classes_are_counted_by_hand(tmp_path: Path) -> None:
    studies.write(tmp_path, "class", splits=1, scheme="external", lesions=9)
    path = tmp_path / "predictions.csv"
    head = "level,split,patient,lesion,centre,target,prediction\n"
    rows = ["a,a", "a,b", "a,a", "a,a", "b,b"]
    path.write_text(head + "".join(f"lesion,0,P{i},L{i},C,{row}\n" for i, row in enumerate(rows)))
    data = json.loads((tmp_path / "metrics.json").read_text())
    (tmp_path / "metrics.json").write_text(json.dumps(data | {"classes": ["a", "b"]}))
    table = confusion_table(read_study(tmp_path))
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["a", "75 %", "25 %", "4"],
        ["b", "0 %", "100 %", "1"],
    ]


def damage(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def changed(folder: Path, **changes: Any) -> None:
    path = folder / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_wrong_inputs_are_told_in_one_line(tmp_path: Path) -> None:
    folder = studies.write(tmp_path / "run", "binary")
    whole = {name: (folder / name).read_text() for name in ("metrics.json", "predictions.csv")}
    rows = whole["predictions.csv"].splitlines()

    def refusal() -> str:
        with pytest.raises(ReportError) as error:
            write_report(folder)
        for name, text in whole.items():
            (folder / name).write_text(text)
        message = str(error.value)
        assert "\n" not in message
        return message.removeprefix(f"{folder}/")

    (folder / "metrics.json").unlink()
    assert refusal().startswith(
        "metrics.json: expected what hgpscale evaluate writes, found no such file; run hgpscale"
    )
    damage(folder / "metrics.json", '{"schema": ')
    assert refusal().startswith("metrics.json: expected JSON, found an error at line 1")
    changed(folder, schema="hgpscale-metrics-9")
    assert "expected schema 'hgpscale-metrics-1', found schema 'hgpscale-metrics-9'" in refusal()
    damage(folder / "metrics.json", "[]")
    assert "found no schema" in refusal()
    changed(folder, cohort={"patients": "many", "lesions": 3})
    assert refusal().startswith("metrics.json: cohort.patients: ")
    changed(folder, auc={"mean": "high"})
    assert "metrics.auc.mean" in refusal()
    (folder / "predictions.csv").unlink()
    assert refusal().startswith("predictions.csv: expected what")
    damage(folder / "predictions.csv", "")
    assert "found an empty file" in refusal()
    damage(folder / "predictions.csv", "level,split,patient,lesion\n")
    assert "expected the columns target, probability for the target pure (binary)" in refusal()
    damage(folder / "predictions.csv", rows[0] + "\n")
    assert "expected rows of level lesion, found none" in refusal()
    damage(folder / "predictions.csv", "\n".join([*rows[:3], rows[3] + ",1"]))
    assert refusal().startswith("predictions.csv: row 4: expected")
    at = rows[0].split(",").index("probability")
    for cell, said in (("high", "'high'"), ("1.5", "'1.5'"), ("inf", "'inf'")):
        cells = rows[1].split(",")
        damage(folder / "predictions.csv", "\n".join([rows[0], ",".join([*cells[:at], cell, *cells[at + 1 :]])]))
        assert f"row 2: probability: expected a number from 0 to 1, found {said}" in refusal()
    with pytest.raises(ReportError, match="expected the folder that hgpscale evaluate wrote"):
        write_report(tmp_path / "nowhere")


def test_only_an_older_report_is_replaced(tmp_path: Path) -> None:
    folder = studies.write(tmp_path / "run", "binary")
    output = tmp_path / "mine.html"
    output.write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        write_report(folder, output)
    output.write_text(MARK)
    assert write_report(folder, output) == output
    assert write_report(folder).name == "report.html"
    with pytest.raises(ReportError, match="found a folder"):
        write_report(folder, tmp_path)


def evil(folder: Path) -> Path:
    """Write a study with names from hell."""
    studies.write(
        folder,
        "binary",
        lesions=40,
        model=EVIL,
        classes=[EVIL, "b"],
        positive=EVIL,
        cube=EVIL,
        strata={EVIL: {EVIL: {"lesions": 3}}},
        raters={EVIL: {"lesions": 2}},
        features=[{"name": f"{EVIL}__original_glcm_{EVIL}", "frequency": 1.0}],
        cohort={
            "patients": 9, "lesions": 40, "segmentations": [EVIL, "b"], "centres": {EVIL: 40},
            "excluded": [{"reason": EVIL, "lesions": 1}], "labels": {EVIL: {EVIL: 3, "b": 4}},
        },
        settings={EVIL: EVIL, "bell": "\x07"},
    )  # fmt: skip
    path = folder / "predictions.csv"
    path.write_text(re.sub(r"\bL0(\d\d)", rf'"{EVIL}\1"', path.read_text()).replace("P0", EVIL))
    return write_report(folder)


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    page = evil(tmp_path).read_text("utf-8")
    assert EVIL not in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert page.count("&lt;script&gt;") > 20
    assert r"\x07" in page


def test_lesions_have_pictures_where_the_scans_are(tmp_path: Path) -> None:
    cohort_folder = tmp_path / "cohort"
    cohort_folder.mkdir()
    write(cohort_folder / "ct.nii", ct())
    write(cohort_folder / "mask.nii", box())
    manifest = cohort_folder / "cohort.csv"
    manifest.write_text("patient,image,mask\nP1,ct.nii,mask.nii\nP2,ct.nii,mask.nii\n")
    cohort = read_manifest(manifest)
    CubeWriter.open(tmp_path / "cube.zarr", cohort, Settings(features={"firstorder": ("Mean",)})).close()
    folder = studies.write(tmp_path / "run", "composition", splits=1, scheme="external", lesions=len(cohort.lesions))
    path = folder / "predictions.csv"
    text = path.read_text()
    for i, lesion in enumerate(cohort.lesions):
        text = text.replace(f",L{i:03d},", f",{lesion},")
    path.write_text(text)
    cube = tmp_path / "cube.zarr"
    page = write_report(folder, cube=cube, inputs=cohort_folder).read_text("utf-8")
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 2
    assert all(base64.b64decode(picture).startswith(b"\xff\xd8") for picture in pictures)
    # Elsewhere the reason stands there instead.
    page = write_report(folder, cube=cube, inputs=tmp_path / "run").read_text("utf-8")
    assert "--inputs names the folder that the scans lie in" in page
    assert "data:image/jpeg" not in page
    changed(folder, cube=str(tmp_path / "gone.zarr"))
    assert "--cube says where the cube is" in write_report(folder).read_text("utf-8")


def test_the_page_in_a_browser(browser: Any, tmp_path: Path) -> None:
    urls = [evil(tmp_path / "evil").as_uri()]
    urls += [write_report(studies.write(tmp_path / kind, kind, lesions=60)).as_uri() for kind in ("class", "multitask")]
    for url in urls:
        browser.get(url)
        for width in (1280, 360):
            screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in fetched if not name.startswith("data:")] == []
        assert len(browser.find_elements("tag name", "script")) == 1
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF")

    def column(number: int) -> list[str]:
        rows = "[...document.querySelectorAll('#table-first-mae_desmoplastic tbody tr')]"
        script = f"return {rows}.map(row => row.cells[arguments[0]].textContent)"
        found: list[str] = browser.execute_script(script, number)
        return found

    def press(number: int, *, keyboard: bool = False) -> str:
        head = browser.find_elements("css selector", "#table-first-mae_desmoplastic thead th")[number]
        button = head.find_element("css selector", "button")
        if keyboard:
            button.send_keys("\n")
        else:
            button.click()
        said: str = head.get_attribute("aria-sort")
        return said

    before = column(0)
    assert press(1) == "ascending"
    values = [float(text.split()[0]) for text in column(1)]
    assert values == sorted(values)
    assert press(1, keyboard=True) == "descending"
    assert [float(text.split()[0]) for text in column(1)] == sorted(values, reverse=True)
    # What has no value stands last either way.
    assert (press(3), column(3)[-1]) == ("ascending", "")
    assert (press(3), column(3)[-1]) == ("descending", "")
    assert press(0) == "ascending"
    assert column(0) == sorted(before)
    sorted_heads = browser.find_elements("css selector", "#table-first-mae_desmoplastic th[aria-sort=ascending]")
    assert len(sorted_heads) == 1
    assert [entry["message"] for entry in browser.get_log("browser")] == []
