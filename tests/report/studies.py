"""Folders as hgpscale evaluate leaves them, simulated: the report is tested on these."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

RATERS = ("RAD", "PHD", "STUDENT")
CENTRES = ("Rotterdam", "Leuven", "Milan")
FEATURES = (
    "rim__original_glcm_Contrast", "rim__log-sigma-3-0-mm-3D_firstorder_Mean",
    "rim__original_gldm_SmallDependenceEmphasis",
    "original_shape_Sphericity", "core__wavelet-LLH_glszm_ZoneEntropy", "margin-2mm__original_firstorder_90Percentile",
    "original_glrlm_RunEntropy", "rim__wavelet-HHL_ngtdm_Busyness", "chemotherapy",
)  # fmt: skip


def value(rng: np.random.Generator, mean: float, sd: float, half: float, splits: int, kind: str) -> dict[str, Any]:
    per = [mean] if splits == 1 else np.round(rng.normal(mean, sd, splits), 4).tolist()
    return {"mean": float(np.mean(per)), "low": mean - half, "high": mean + half, "per_split": per, "interval": kind}


def undefined(splits: int) -> dict[str, Any]:
    return {"mean": None, "low": None, "high": None, "per_split": [None] * splits, "interval": "none"}


def difference(mean: float, half: float, p: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "p": p}


def metrics(kind: str, lesions: int, splits: int, scheme: str, seed: int = 0) -> dict[str, Any]:
    """Return metrics.json; the numbers need not belong to the predictions."""
    rng = np.random.default_rng(seed)
    interval = "bootstrap" if scheme == "external" else "nadeau-bengio"
    binary = {"auc": (0.71, 0.06, 0.125), "balanced_accuracy": (0.65, 0.06, 0.11), "sensitivity": (0.62, 0.1, 0.2),
              "specificity": (0.69, 0.08, 0.15), "brier": (0.21, 0.02, 0.04), "calibration_slope": (0.78, 0.2, 0.4),
              "calibration_intercept": (-0.05, 0.1, 0.3)}  # fmt: skip
    composition = {"mae_desmoplastic": (0.22, 0.02, 0.03), "mae_replacement": (0.20, 0.02, 0.03),
                   "mae_pushing": (0.11, 0.02, 0.03), "cross_entropy": (0.72, 0.05, 0.09),
                   "spearman_desmoplastic": (0.48, 0.06, 0.11), "interval_coverage": (0.88, 0.03, 0.05),
                   "interval_width": (0.71, 0.03, 0.04)}  # fmt: skip
    of_class = {"balanced_accuracy": (0.55, 0.05, 0.1), "log_loss": (0.9, 0.05, 0.1), "auc": (0.7, 0.05, 0.1)}
    of_number = {"mae": (4.2, 0.4, 0.9), "rmse": (5.6, 0.5, 1.1), "r2": (0.3, 0.1, 0.15), "spearman": (0.5, 0.1, 0.15),
                 "interval_coverage": (0.9, 0.02, 0.04), "interval_width": (18.0, 1.0, 2.0)}  # fmt: skip
    wanted = {"binary": binary, "class": of_class, "number": of_number, "composition": composition,
              "multitask": {**composition, **binary}}[kind]  # fmt: skip
    first = {"binary": "auc", "class": "balanced_accuracy", "number": "mae"}.get(kind, "mae_desmoplastic")
    found = {name: value(rng, *numbers, splits, interval) for name, numbers in wanted.items()}
    lower = {"mae", "rmse", "brier", "log_loss", "cross_entropy", "interval_width"}
    baselines: dict[str, Any] = {}
    for baseline, loss, half, p in (
        ("mean", 0.21, 0.12, 0.0004), ("volume", 0.13, 0.1, 0.012), ("covariates", 0.09, 0.11, 0.11),
        ("lesion region", 0.05, 0.07, 0.16),
    ):  # fmt: skip
        entry: dict[str, Any] = {"difference": {}}
        for name, (mean, sd, wide) in wanted.items():
            if baseline == "mean" and name in ("spearman_desmoplastic", "spearman", "calibration_slope"):
                entry[name] = undefined(splits)
                entry["difference"][name] = {"mean": None, "low": None, "high": None, "p": None}
                continue
            worse = 1 if name in lower or name.startswith("mae") else -1
            scale = (
                mean
                if name in ("mae", "rmse", "interval_width", "mae_desmoplastic", "mae_replacement", "mae_pushing")
                else 1
            )
            entry[name] = value(rng, mean + worse * loss * scale, sd, wide, splits, interval)
            entry["difference"][name] = difference(-worse * loss * scale, half * scale, p)
        baselines[baseline] = entry
    parts = ("desmoplastic", "replacement", "pushing")
    is_composition = kind in ("composition", "multitask")
    centres = {centre: lesions // 3 + (i < lesions % 3) for i, centre in enumerate(CENTRES)}
    labels: dict[str, dict[str, float]] = {}
    for i, (centre, count) in enumerate({"all": lesions, **centres}.items()):
        if is_composition:
            shares = dict(zip(parts, (0.35 + 0.08 * i, 0.5 - 0.08 * i, 0.15), strict=True))
            labels[centre] = {**shares, "pure desmoplastic": count // 4, "lesions": count}
        elif kind == "number":
            labels[centre] = {"mean": 12.0 + i, "sd": 4.5, "lesions": count}
        elif kind == "class":
            labels[centre] = dict(zip(parts, (count // 2, count - count // 2 - count // 8, count // 8), strict=True))
        else:
            labels[centre] = {"non-desmoplastic": count - count // 4, "desmoplastic": count // 4}
    train, test = (
        (round(lesions * 0.8), lesions - round(lesions * 0.8))
        if scheme != "external"
        else (lesions * 2 // 3, lesions // 3)
    )
    group = {"lesions": lesions // 2, first: found[first]}
    return {
        "schema": "hgpscale-metrics-1",
        "target": {"binary": "pure", "composition": "composition", "multitask": "multitask"}.get(kind, kind),
        "kind": kind,
        "positive": "desmoplastic (100 %) against none (0 %)" if kind in ("binary", "multitask") else "",
        "classes": {"binary": ["non-desmoplastic", "desmoplastic"], "number": []}.get(kind, list(parts)),
        "model": "search", **found,
        "delong": {"auc": 0.71, "low": 0.62, "high": 0.8} if scheme == "external" and "auc" in found else None,
        "baselines": baselines,
        "permutation": {"metric": first, "p": 0.004, "permutations": 1000},
        "splits": {"scheme": scheme, "count": splits, "seed": 7, "test_fraction": 0.2 if scheme == "repeated" else None,
                   "names": [str(i) for i in range(splits)],
                   "sizes": [[train - i % 3, test + i % 3] for i in range(splits)]},
        "cohort": {"patients": round(lesions * 0.7), "lesions": lesions, "segmentations": list(RATERS),
                   "features": 1344, "centres": centres,
                   "excluded": [{"reason": "no growth pattern in the manifest", "lesions": 11},
                                {"reason": "extraction failed", "lesions": 3}], "labels": labels},
        "features": [{"name": name, "frequency": round(0.93 - 0.09 * i, 2)} for i, name in enumerate(FEATURES)],
        "strata": {"chemotherapy": {"0": group, "1": {**group, first: found[first] | {"low": None, "high": None}}}},
        "raters": {rater: {"lesions": lesions // 3, **dict(list(found.items())[:4])} for rater in RATERS},
        "rater_spread": {"mean": 0.07, "max": 0.31},
        "settings": {"features": [], "harmonise": "none", "covariates": ["chemotherapy"], "cutoff": "100 %",
                     "shuffle_labels": False},
        "cube": "cube.zarr", "settings_digest": "9f2c4e1ab77d", "seconds": 912.4,
        "created": "2026-11-27T09:12:33+00:00",
        "versions": {"hgpscale": "0.5.0", "python": "3.12.3", "scikit-learn": "1.9.1"},
    }  # fmt: skip


def predictions(kind: str, lesions: int, splits: int, scheme: str, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows of predictions.csv."""
    rng = np.random.default_rng(seed)
    pure = rng.random(lesions) < 0.55
    true = rng.dirichlet((1.2, 1.2, 0.5), lesions)
    true = np.round(true * 20) / 20
    true[:, 1] = 1 - true[:, 0] - true[:, 2]
    true[pure] = np.eye(3)[rng.choice(3, int(pure.sum()), p=(0.45, 0.45, 0.1))]
    signal = true[:, 0] + rng.normal(0, 0.6, lesions)
    other, typicality = rng.normal(size=lesions), rng.random(lesions)
    rows: list[dict[str, Any]] = []
    for split in range(splits):
        chosen = range(lesions) if splits == 1 else np.flatnonzero(rng.random(lesions) < 0.2)
        for i in chosen:
            noise = rng.normal(0, 0.15)
            d = float(1 / (1 + np.exp(-(1.8 * signal[i] + noise - 1.3))))
            r = (1 - d) * float(np.clip(0.7 - 0.3 * true[i, 2] + 0.1 * other[i], 0.05, 0.95))
            row: dict[str, Any] = {"level": "lesion", "split": "external" if scheme == "external" else split,
                                   "patient": f"P{i * 7 // 10:03d}", "lesion": f"L{i:03d}",
                                   "centre": CENTRES[i % 3]}  # fmt: skip
            p = float(1 / (1 + np.exp(-(1.6 * signal[i] + 2 * noise - 1.6))))
            if kind == "binary":
                row |= {"target": int(true[i, 0] == 1), "probability": p, "prediction": int(p >= 0.5)}
            elif kind == "class":
                names = ("desmoplastic", "replacement", "pushing")
                guess = names[int(rng.choice(3, p=0.6 * np.eye(3)[true[i].argmax()] + 0.4 / 3))]
                row |= {
                    "target": names[int(true[i].argmax())],
                    **{f"probability_{name}": 1 / 3 for name in names},
                    "prediction": guess,
                }
            elif kind == "number":
                t = 12 + 8 * (true[i, 0] - 0.5) + 2 * typicality[i]
                row |= {"target": t, "prediction": 12 + 4 * (signal[i] - 0.5), "low": 2.0, "high": 20.0}
            else:
                row |= {
                    f"true_{part}": x
                    for part, x in zip(("desmoplastic", "replacement", "pushing"), true[i], strict=True)
                }
                row |= {"desmoplastic": d, "replacement": r, "pushing": 1 - d - r, "p_pure_desmoplastic": p,
                        "p_majority_desmoplastic": d, "low": max(0.0, d - 0.45) if d > 0.3 else 0.0,
                        "high": min(1.0, d + 0.45) if d < 0.7 else 1.0}  # fmt: skip
            rows.append(row | {"unusual": int(typicality[i] < 0.02), "typicality": typicality[i],
                               "interface_area": 800 + i, "n_segmentations": 3})  # fmt: skip
    return rows


def write(
    folder: Path,
    kind: str,
    *,
    lesions: int = 90,
    splits: int = 10,
    scheme: str = "repeated",
    seed: int = 0,
    **changes: Any,
) -> Path:
    """Write both files; `changes` replace keys of metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(
        json.dumps({**metrics(kind, lesions, splits, scheme, seed), **changes}), "utf-8"
    )
    rows = predictions(kind, lesions, splits, scheme, seed)
    # A patient's row has no lesion and other columns.
    rows.append({"level": "patient", "split": rows[0]["split"], "patient": "P000", "lesion": ""})
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return folder
