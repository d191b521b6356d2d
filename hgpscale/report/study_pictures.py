"""The most and the least typical lesions, with their pictures where the scans can be read."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.cohort import LesionRow, Outlines, open_image, read_parts
from hgpscale.errors import HgpscaleError
from hgpscale.report.study_read import PARTS, Metrics, Study
from hgpscale.volume import Volume

if TYPE_CHECKING:
    import xarray as xr

SHOWN = 3
"""Lesions at either end."""


@dataclass(frozen=True)
class Picture:
    """A lesion at one end of typicality.

    Attributes
    ----------
    lesion, patient, centre
        Its ids.
    typicality
        Share of training lesions at least as far from the middle.
    unusual
        Whether it was flagged as unlike the training data.
    told
        Truth and prediction in words.
    image
        ``data:`` address of a JPEG; empty where there is none.
    reason
        Why there is no picture.

    """

    lesion: str
    patient: str
    centre: str
    typicality: float
    unusual: bool
    told: str
    image: str = ""
    reason: str = ""


def typical(study: Study, cube: Path | None, inputs: Path | None) -> tuple[list[Picture], list[Picture]]:
    """Return the most and the least typical lesions; a scan that cannot be read is a reason, not an error."""
    table = study.lesions
    if "typicality" not in table or table["typicality"].notna().sum() == 0:
        return [], []
    ranked = table["typicality"].dropna().sort_values(ascending=False, kind="stable")
    count = min(SHOWN, len(ranked) // 2) or 1
    most, least = list(ranked.index[:count]), list(ranked.index[::-1][:count])
    images = _images([*most, *least], study, cube, inputs)

    def pictures(lesions: list[str]) -> list[Picture]:
        found = []
        for lesion in dict.fromkeys(lesions):
            row, (image, reason) = table.loc[lesion], images[lesion]
            found.append(
                Picture(
                    lesion,
                    str(row["patient"]),
                    str(row.get("centre", "")),
                    float(ranked[lesion]),
                    bool(row.get("unusual", 0) >= 0.5),
                    told(study.metrics, row),
                    image,
                    reason,
                )
            )
        return found

    return pictures(most), pictures([lesion for lesion in least if lesion not in most])


def told(metrics: Metrics, row: Any) -> str:
    """Return truth and prediction of one lesion in words."""
    if metrics.has_composition:
        sides = [
            ", ".join(f"{part} {100 * row[prefix + part]:.0f} %" for part in PARTS)
            for prefix in ("true_", "")
            if np.isfinite([row[prefix + part] for part in PARTS]).all()
        ]
        return "; ".join(f"{side}: {words}" for side, words in zip(("True", "predicted"), sides, strict=False))
    if metrics.kind == "binary":
        other, label = metrics.events
        truth = "" if not np.isfinite(row["target"]) else (label if row["target"] > 0.5 else other)
        return f"True: {truth or 'not known'}; P({label}) = {row['probability']:.2f}"
    if metrics.kind == "number":
        return f"True: {row['target']:.3g}; predicted: {row['prediction']:.3g}"
    return ""


def _images(lesions: list[str], study: Study, cube: Path | None, inputs: Path | None) -> Mapping[str, tuple[str, str]]:
    """Return for each lesion its picture, or why there is none."""
    try:
        dataset, folder = _opened(study, cube)
    except HgpscaleError as error:
        return dict.fromkeys(lesions, ("", f"{error}; --cube says where the cube is"))
    found = {}
    for lesion in lesions:
        try:
            found[lesion] = (_image(dataset, lesion, inputs or folder), "")
        except HgpscaleError as error:
            found[lesion] = ("", f"{error}; --inputs names the folder that the scans lie in")
    return found


def _opened(study: Study, cube: Path | None) -> tuple[xr.Dataset, Path]:
    from hgpscale.cube import open_cube

    said = Path(study.metrics.cube)
    places = [cube] if cube is not None else [said, study.folder / said, study.folder.parent / said.name]
    place = next((place for place in places if place.exists()), places[0])
    return open_cube(place), place.absolute().parent


def _image(dataset: xr.Dataset, lesion: str, folder: Path) -> str:
    from hgpscale.cube.head import Head
    from hgpscale.report.looking import around, read_lesion
    from hgpscale.report.montage import Outline, montage
    from hgpscale.settings import Settings

    if lesion not in dataset["lesion"].to_numpy().tolist():
        raise HgpscaleError(f"the cube has no lesion {lesion!r}")
    settings = Head.of(dataset.attrs).settings or Settings()
    one = dataset[["image_path", "mask", "label", "requested_label", "roi"]].sel(lesion=lesion).load()
    image_text = str(one["image_path"].item())
    outlined = [
        (name, one.sel(segmentation=name)) for name in map(str, one["segmentation"].to_numpy())
        if str(one["mask"].sel(segmentation=name).item())
    ]  # fmt: skip
    if not image_text or not outlined:
        raise HgpscaleError("the cube names no scan and mask of it (it was made of a table)")
    image = open_image(folder / image_text)
    files: dict[Path, Outlines | HgpscaleError] = {}
    masks: dict[str, Volume] = {}
    for name, row in outlined:
        mask = str(row["mask"].item())
        used, asked = (np.nan_to_num(float(row[key].item())) for key in ("label", "requested_label"))
        manifest_row = LesionRow(
            0, lesion, name, "", folder / image_text, folder / mask, image_text, mask,
            int(used or asked) or None, str(row["roi"].item()),
        )  # fmt: skip
        masks[name] = read_lesion(manifest_row, image.geometry, files, settings).mask
    boxes = [around(mask) for mask in masks.values()]
    lower, upper = np.min([a for a, _ in boxes], axis=0), np.max([b for _, b in boxes], axis=0)
    box = ((int(lower[0]), int(lower[1]), int(lower[2])), (int(upper[0]), int(upper[1]), int(upper[2])))
    (part,), _ = read_parts(image, [box], entire=False)
    figure = montage(part, [Outline(name, "rater", mask) for name, mask in masks.items()], lesion)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=72, pil_kwargs={"quality": 85, "optimize": True})
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
