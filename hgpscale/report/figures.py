"""Figures of a cube: PNG files, made without a display, in colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hgpscale.catalog import FAMILIES
from hgpscale.cohort import read_image, read_mask
from hgpscale.errors import CubeError, ManifestError
from hgpscale.volume import Volume

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from hgpscale.cohort import Cohort
    from hgpscale.cohort.manifest import LesionRow

PATTERNS = {"desmoplastic": "#56B4E9", "replacement": "#D55E00", "pushing": "#009E73"}
"""Colours of the growth patterns, from Okabe and Ito's palette."""

_MARKERS = "osD^vP*X"
_WINDOW = (-40.0, 200.0)  # HU: the usual abdominal window, a little narrowed on the liver
_MARGIN_MM = 12.0  # around the lesions that are shown enlarged
_SCANS_TO_TRY = 8
_MAX_NAMES = 40  # rows of a heat map that still have room for their names


def overview(
    cube: xr.Dataset, cohort: Cohort, out: str | Path, feature: tuple[str, str] = ("gldm", "SmallDependenceEmphasis")
) -> Path:
    """Draw one page on a cohort: a scan with its lesions, all features, and one feature against replacement growth.

    Parameters
    ----------
    cube
        As `open_cube` returns it. Of several segmentations the first is shown.
    cohort
        The manifest, with the columns ``hgp_desmoplastic``, ``hgp_replacement`` and ``hgp_pushing``.
    out
        PNG file to write, 1600 x 1000 pixels.
    feature
        Family and name of the feature in the last panel.

    Raises
    ------
    ManifestError
        The manifest has no growth patterns.
    CubeError
        The cube does not hold `feature`, or no lesion has values.
    ImageError
        The scan that is shown cannot be read.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    growth = _growth(cohort)
    values = _values(cube, growth.index)
    growth = growth.loc[values.index]
    if feature not in values.columns:
        raise CubeError(f"the cube has no {' '.join(feature)}; choose one of its features for the figure")
    figure = Figure(figsize=(16, 10), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=(7, 9), wspace=0.03).ravel()  # type: ignore[union-attr]
    rows = [row for row in cohort.rows if row.segmentation == cohort.segmentations[0] and row.lesion in values.index]
    above, below = left.subfigures(2, 1, height_ratios=(68, 32), hspace=0.02)
    _draw_scan(above, rows, growth)
    _draw_examples(below, rows, growth, values.get(("shape", "MeshVolume"), pd.Series(dtype=float)))
    top, bottom = right.subfigures(2, 1, height_ratios=(6, 4), hspace=0.03)
    _draw_heat_map(top, values, growth)
    _draw_relation(bottom, values[feature], feature, growth, cohort)
    figure.savefig(out)
    return Path(out)


def _growth(cohort: Cohort) -> pd.DataFrame:
    """Return percentages by lesion; columns are the patterns; lesions without a score are left out."""
    columns = {f"hgp_{pattern}": pattern for pattern in PATTERNS}
    missing = [column for column in columns if column not in cohort.columns]
    if missing:
        raise ManifestError(f"{cohort.source}: the figure needs the columns {', '.join(missing)}")
    growth = cohort.columns[list(columns)].rename(columns=columns).astype(float).dropna()
    if growth.empty:
        raise ManifestError(f"{cohort.source}: no lesion has a growth pattern, the figure needs some")
    dominant = growth.to_numpy().argmax(axis=1)
    share = growth.to_numpy().max(axis=1)
    # Ordered by dominant pattern, its purest lesions first.
    ordered: pd.DataFrame = growth.iloc[np.lexsort((-share, dominant))]
    return ordered


def _values(cube: xr.Dataset, lesions: pd.Index[str]) -> pd.DataFrame:
    """Return features by lesion, in the order of `lesions`; columns are pairs of family and feature."""
    parts = {}
    for family in FAMILIES:
        if family not in cube:
            continue
        array = cube[family].isel(segmentation=0).sel(region="lesion")
        if "image_type" in array.dims:
            array = array.sel(image_type="original")
        table = array.transpose("lesion", f"{family}_feature").to_pandas()
        parts[family] = pd.DataFrame(table).dropna(axis="columns", how="all")
    values = pd.concat(parts, axis="columns").reindex(lesions).dropna(how="all")
    if values.empty:
        raise CubeError("no lesion with a growth pattern has values yet; extract the cohort first")
    return values


def _colours(growth: pd.DataFrame) -> list[str]:
    return [PATTERNS[str(pattern)] for pattern in growth.idxmax(axis="columns")]


class _Lesion(NamedTuple):
    """A lesion to be drawn: its scan and its outline, in axial order."""

    name: str
    image: Volume
    mask: NDArray[np.bool_]


def _read(rows: Sequence[LesionRow]) -> list[_Lesion]:
    """Read lesions of one scan, in the order that radiologists look at: right on the left, front on top."""
    import SimpleITK as sitk

    axial = sitk.DICOMOrient(read_image(rows[0].image)[0].to_sitk(), "LPS")
    image = Volume.of(axial)
    lesions = []
    for row in rows:
        mask = read_mask(row.mask)[0].to_sitk()
        labels = Volume.of(sitk.Resample(mask, axial, sitk.Transform(), sitk.sitkNearestNeighbor)).array
        lesions.append(_Lesion(row.lesion, image, labels == row.label if row.label is not None else labels > 0))
    return lesions


def _draw_scan(figure: Any, rows: Iterable[LesionRow], growth: pd.DataFrame) -> None:
    """Show one axial slice, where it cuts most lesions; scans with many lesions are looked at first."""
    scans: dict[Path, list[LesionRow]] = {}
    for row in rows:
        scans.setdefault(row.image, []).append(row)
    candidates = []
    for of_scan in sorted(scans.values(), key=len, reverse=True)[:_SCANS_TO_TRY]:
        lesions = _read(of_scan)
        areas = np.array([lesion.mask.sum(axis=(1, 2)) for lesion in lesions])
        cut, smallest = (areas > 0).sum(axis=0), np.where(areas > 0, areas, np.inf).min(axis=0)
        index = int(np.lexsort((smallest, cut))[-1])
        candidates.append((int(cut[index]), float(smallest[index]), index, of_scan[0].patient, lesions))
    _, _, index, patient, lesions = max(candidates, key=lambda candidate: candidate[:2])

    axes: Axes = figure.subplots()
    shown = _show(axes, lesions[0].image, index)
    for lesion in lesions:
        _outline(axes, lesion, index, growth)
    image = lesions[0].image
    height, width = image.array.shape[1:]
    axes.text(width * 0.03, height / 2, "R", va="center", **_text_style())
    bar, x, y = 50 / image.geometry.spacing[2], width * 0.96, height * 0.96
    axes.plot([x - bar, x], [y, y], color="white", linewidth=3, solid_capstyle="butt")
    axes.text(x - bar / 2, y - height * 0.01, "50 mm", ha="center", va="bottom", **_text_style())
    axes.set_title(f"Patient {patient}, axial slice {index + 1} of {len(image.array)}", fontsize=13)
    figure.colorbar(shown, ax=axes, shrink=0.6, pad=0.02, label="HU")


def _draw_examples(figure: Any, rows: Iterable[LesionRow], growth: pd.DataFrame, volume: pd.Series[float]) -> None:
    """Show the purest lesion of each pattern, the largest of equals, all at one scale."""
    from matplotlib.lines import Line2D

    by_lesion = {row.lesion: row for row in rows}
    dominant = growth.idxmax(axis="columns")
    chosen = []
    for pattern in PATTERNS:
        shares = growth.loc[dominant == pattern, pattern]
        if len(shares):
            largest = volume.reindex(shares.index[shares == shares.max()]).fillna(0).idxmax()
            lesion = _read([by_lesion[str(largest)]])[0]
            chosen.append((lesion, _middle(lesion), f"{lesion.name}: {shares.max():.0f} % {pattern}"))
    field = max(extent for _, (_, _, _, extent), _ in chosen) + 2 * _MARGIN_MM
    panels = np.atleast_1d(figure.subplots(1, len(chosen)))
    for axes, (lesion, (index, y, x, _), title) in zip(panels, chosen, strict=True):
        _show(axes, lesion.image, index)
        _outline(axes, lesion, index, growth, named=False)
        _, dy, dx = lesion.image.geometry.spacing
        axes.set(xlim=(x - field / dx / 2, x + field / dx / 2), ylim=(y + field / dy / 2, y - field / dy / 2))
        axes.set_title(title, fontsize=10)
    handles = [Line2D([], [], color=colour, linewidth=3, label=name) for name, colour in PATTERNS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, title="Dominant growth pattern", frameon=False)


def _middle(lesion: _Lesion) -> tuple[int, float, float, float]:
    """Return the slice with most of the lesion, the lesion's middle ``y, x`` there and its extent in mm."""
    index = int(lesion.mask.sum(axis=(1, 2)).argmax())
    at = np.argwhere(lesion.mask[index])
    extent = (np.ptp(at, axis=0) + 1) * lesion.image.geometry.spacing[1:]
    y, x = (at.min(axis=0) + at.max(axis=0)) / 2
    return index, float(y), float(x), float(extent.max())


def _show(axes: Axes, image: Volume, index: int) -> Any:
    _, dy, dx = image.geometry.spacing
    axes.set_axis_off()
    low, high = _WINDOW
    return axes.imshow(image.array[index], cmap="gray", vmin=low, vmax=high, aspect=dy / dx)


def _outline(axes: Axes, lesion: _Lesion, index: int, growth: pd.DataFrame, *, named: bool = True) -> None:
    mask = lesion.mask[index]
    if not mask.any():
        return
    scores = growth.loc[lesion.name]
    # Enlarged lesions get a thin line: the interface itself is what they are shown for.
    axes.contour(mask, levels=[0.5], colors="black", linewidths=3.5 if named else 2)
    axes.contour(mask, levels=[0.5], colors=PATTERNS[str(scores.idxmax())], linewidths=2 if named else 1.2)
    if named:
        ys, xs = np.nonzero(mask)
        text = f"{lesion.name}\n" + ", ".join(
            f"{value:.0f} % {str(name)[0]}" for name, value in scores.items() if value
        )
        place = float(xs.mean()), float(ys.max())
        axes.annotate(text, place, (0, -8), textcoords="offset points", ha="center", va="top", **_text_style())


def _text_style() -> dict[str, Any]:
    from matplotlib.patheffects import withStroke

    return {"color": "white", "fontsize": 11, "path_effects": [withStroke(linewidth=3, foreground="black")]}


def _draw_heat_map(figure: Any, values: pd.DataFrame, growth: pd.DataFrame) -> None:
    spread = values.std()
    scores = ((values - values.mean()) / spread.where(spread > 0)).to_numpy()
    bars, axes = figure.subplots(1, 2, width_ratios=(1, 8), sharey=True)

    rows = np.arange(len(values))
    start = np.zeros(len(values))
    for pattern, colour in PATTERNS.items():
        bars.barh(rows, growth[pattern], left=start, color=colour, height=0.9)
        start += growth[pattern].to_numpy()
    bars.set(xlim=(0, 100), xticks=(0, 50, 100), xlabel="Interface (%)")
    bars.set_ylim(len(values) - 0.5, -0.5)
    named = len(values) <= _MAX_NAMES
    bars.set_yticks(rows if named else [], list(values.index) if named else None, fontsize=8)
    bars.set_ylabel("" if named else f"{len(values)} lesions")
    bars.tick_params(axis="y", length=0)
    bars.spines[["top", "right", "left"]].set_visible(False)

    shown = axes.imshow(scores, cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto", interpolation="nearest")
    families = values.columns.get_level_values(0)
    names = list(dict.fromkeys(families))
    edges = np.cumsum([0, *(int((families == name).sum()) for name in names)])
    axes.set_xticks((edges[:-1] + edges[1:] - 1) / 2, names, fontsize=10)
    axes.tick_params(axis="both", length=0, labelleft=False)
    axes.vlines(edges[1:-1] - 0.5, -0.5, len(values) - 0.5, color="black", linewidth=1)
    figure.colorbar(shown, ax=axes, pad=0.01, extend="both", label="z-score over lesions")
    figure.suptitle(f"{values.shape[1]} features of {len(values)} lesions, ordered by growth pattern", fontsize=13)


def _draw_relation(
    figure: Any, values: pd.Series[float], feature: tuple[str, str], growth: pd.DataFrame, cohort: Cohort
) -> None:
    from matplotlib.lines import Line2D

    axes: Axes = figure.subplots()
    centres = cohort.columns["centre"] if "centre" in cohort.columns else pd.Series("all", cohort.columns.index)
    handles = []
    for i, centre in enumerate(dict.fromkeys(centres)):
        marker = _MARKERS[i % len(_MARKERS)]
        here = (centres.loc[values.index] == centre).to_numpy()
        colours = np.array(_colours(growth))[here]
        axes.scatter(
            growth["replacement"][here],
            values[here],
            c=colours,
            marker=marker,
            s=70,
            edgecolors="black",
            linewidths=0.8,
        )
        label = f"{centre} (n = {here.sum()})"
        handles.append(Line2D([], [], color="white", markeredgecolor="black", marker=marker, markersize=9, label=label))
    unit = next(f.unit for f in FAMILIES[feature[0]].features if f.name == feature[1])
    rank = growth["replacement"].rank().corr(values.rank())
    axes.set(
        xlim=(-4, 104),
        xlabel="Replacement growth (% of the interface)",
        ylabel=f"{feature[0]} {feature[1]}" + (f" ({unit})" if unit else ""),
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"One feature against growth pattern (Spearman's rho {rank:+.2f}, n = {values.notna().sum()})")
    figure.legend(handles=handles, title="Centre", loc="outside right upper", frameon=False)
