"""Small cubes to learn from: a table of two regions, and lesions that several raters have outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cube_cases
import numpy as np
import pandas as pd

from hgpscale import import_table
from hgpscale.cohort.manifest import Cohort
from hgpscale.contents import Contents, Key
from hgpscale.errors import Failure
from hgpscale.learn.samples import Samples
from hgpscale.record import Record
from hgpscale.settings import Settings

TARGETS = (
    *("centre", "split", "hgp_desmoplastic", "hgp_replacement", "hgp_pushing"),
    *("chemotherapy", "sex", "grade", "age"),
)
"""Columns of `growth_table` that are no features."""

FEATURES = ("firstorder_Mean", "firstorder_Entropy", "glcm_Contrast", "glcm_Idm")


def growth_table(patients: int = 60, seed: int = 0) -> pd.DataFrame:
    """Return a row a lesion: d shows in the rim's first two features, and in nothing else."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for p in range(patients):
        for number in range(1 + p % 2):
            draw = rng.random()
            d = 100 if draw < 0.35 else 0 if draw < 0.7 else int(rng.integers(1, 20) * 5)
            r = int(rng.integers(0, (100 - d) // 5 + 1)) * 5
            row: dict[str, Any] = {"ID": f"L{p:03d}.{number}", "patient": f"P{p:03d}", "centre": "ABC"[p % 3]}
            row |= {"split": "external" if p % 3 == 2 else "train"}
            row |= {"hgp_desmoplastic": d, "hgp_replacement": r, "hgp_pushing": 100 - d - r}
            row |= {"chemotherapy": int(rng.random() < 0.3 + 0.004 * d), "sex": "fm"[p % 2]}
            row |= {"grade": ("low", "mid", "high")[min(d // 34, 2)], "age": float(rng.integers(40, 80))}
            for region in ("", "rim_"):
                for k, name in enumerate(FEATURES):
                    shift = (d / 100 - 0.5) * 1.4 if region and k < 2 else 0.0
                    row[f"{region}original_{name}"] = shift + rng.normal()
            row |= {"original_shape_MeshVolume": np.exp(rng.normal()), "original_shape_SurfaceArea": 10 + p}
            rows.append(row)
    return pd.DataFrame(rows)


def cube_of(table: pd.DataFrame, folder: Path, name: str = "cube", targets: Sequence[str] = TARGETS) -> Path:
    """Import a table."""
    table.to_csv(folder / f"{name}.csv", index=False)
    path = folder / f"{name}.zarr"
    there = [column for column in targets if column in table]
    import_table(folder / f"{name}.csv", path, id_column="ID", patient="patient", targets=there)
    return path


def settings_of(**setting: Any) -> Settings:
    """Return settings of a lesion and its rim, which `rim` makes as wide as it says."""
    rim = setting.pop("rim", 3.0)
    images = setting.pop("images", ("Original",))
    regions = setting.pop("regions", ("rim",))
    parameters = {
        "imageType": {name: {} for name in images},
        "featureClass": {"firstorder": ["Mean", "Energy"], "shape": ["MeshVolume", "SurfaceArea"]},
        "setting": setting,
    }
    wide = {"lesion": None, **dict.fromkeys(regions, rim)}
    return Settings.from_parameters(parameters).model_copy(update={"regions": wide})


SETTINGS = settings_of()
RATERS = ("RAD", "PhD", "STUD")


def rated(
    path: Path,
    *,
    patients: int = 30,
    first: int = 0,
    settings: Settings = SETTINGS,
    failed: Mapping[str, str] | None = None,
    pending: Sequence[str] = (),
    spread: float = 0.1,
) -> Path:
    """Make a cube of lesions `first` and on: every third patient has three raters, the others ``RAD`` alone.

    Parameters
    ----------
    path
        Where.
    patients, first
        How many, and the number of the first one: two cubes with other numbers share no lesion.
    settings
        What the features were made with.
    failed
        Lesions of which families failed: ``all``, or the name of one.
    pending
        Lesions that nothing is known of.
    spread
        How far raters are from each other.

    """
    ids, rows, columns = [], [], []
    for p in range(first, first + patients):
        for number in range(1 + p % 2):
            lesion = f"secret{p:03d}.{number}"
            d = (100, 0, 60)[(p + number) % 3]
            ids.append(lesion)
            columns.append([f"Q{p:03d}", d, 100 - d, 0, "XY"[p % 4 // 2], "train" if p % 4 else "external"])
            rows += [(lesion, rater) for rater in (RATERS if p % 3 == 0 else RATERS[:1])]
    names = ("patient", "hgp_desmoplastic", "hgp_replacement", "hgp_pushing", "centre", "split")
    made = cube_cases.cohort(*rows)
    table = pd.DataFrame(columns, index=pd.Index(ids, name="lesion"), columns=names)
    named = tuple(replace(row, patient=str(table["patient"][row.lesion])) for row in made.rows)
    cohort = Cohort(source=made.source, rows=named, columns=table)
    records = [
        _record(
            lesion, rater, float(table["hgp_desmoplastic"][lesion]) / 100, settings, (failed or {}).get(lesion), spread
        )
        for lesion, rater in rows
        if lesion not in pending
    ]
    return cube_cases.write(path, cohort, records, settings)


def _record(lesion: str, rater: str, d: float, settings: Settings, failed: str | None, spread: float) -> Record:
    values: dict[Key, Any] = {}
    failures: dict[Key, Failure] = {}
    for key in Contents.of(settings).keys:
        if failed in ("all", key[2]):
            failures[key] = cube_cases.FLAT
            continue
        shared = np.random.default_rng([ord(c) for c in "/".join((lesion, *key))])
        own = np.random.default_rng([ord(c) for c in "/".join((lesion, rater, *key))])
        size = len(settings.features[key[2]])
        values[key] = 20 + shared.normal(size=size) + spread * own.normal(size=size) + 3 * d * (key[0] == "rim")
    return Record(lesion, rater, f"image {lesion}", f"mask {lesion} {rater}", 1, values, failures)


def samples_of(values: Any = None, features: Sequence[str] = ("a",), **columns: list[Any]) -> Samples:
    """Return samples of one row a lesion with columns of the manifest."""
    n = len(next(iter(columns.values())))
    table = pd.DataFrame(columns)
    ids = np.array([f"l{i}" for i in range(n)], object)
    known = np.zeros((n, len(features))) if values is None else np.asarray(values, float)
    rater, unknown = np.array(["R"] * n, object), np.full(n, np.nan)
    patient = table["patient"].to_numpy(object) if "patient" in table else ids
    return Samples(known, tuple(features), ids, rater, patient, table, unknown, unknown)
