"""One lesion in three planes: the CT in a liver window and outlines along the borders of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, permutations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hgpscale.volume import Geometry, Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

LEVEL, WIDTH = 60, 300
"""Liver window in HU."""
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")
"""Okabe and Ito's palette, without black: grey scans are dark."""
_OBLIQUE = 0.98
"""Cosine below which axes are called oblique (some 11 degrees)."""


@dataclass(frozen=True)
class Outline:
    """Something to draw over a scan.

    Attributes
    ----------
    label
        Name in the legend.
    role
        ``rater``: a solid line; ``region``: a dashed line over a translucent fill.
    mask
        Boolean box ``(z, y, x)`` on the scan's grid.

    """

    label: str
    role: Literal["rater", "region"]
    mask: Volume


class Axes3(NamedTuple):
    """How an array is turned so that its axes go to the head, the back and the patient's left.

    Attributes
    ----------
    order
        Axis of the scan's array for each axis of the turned one.
    flipped
        Which axes of the turned array run the other way.
    oblique
        Whether the scan's axes are only near those of the patient.

    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    oblique: bool


def patient_axes(geometry: Geometry) -> Axes3:
    """Return how a scan's arrays ``(z, y, x)`` are turned; the nearest axes are taken where it is oblique."""
    cosines = np.reshape(geometry.direction, (3, 3))
    best = max(permutations(range(3)), key=lambda p: sum(abs(cosines[i, p[i]]) for i in range(3)))
    along = [float(cosines[i, best[i]]) for i in range(3)]  # x, y, z of the patient
    order = (2 - best[2], 2 - best[1], 2 - best[0])
    return Axes3(order, (along[2] < 0, along[1] < 0, along[0] < 0), min(map(abs, along)) < _OBLIQUE)


def turned(array: NDArray[Any], axes: Axes3) -> NDArray[Any]:
    """Return an array ``(z, y, x)`` turned: feet to head, front to back, patient's right to left. A view."""
    flips = tuple(slice(None, None, -1 if flip else 1) for flip in axes.flipped)
    return array.transpose(axes.order)[flips]


def voxel_borders(mask: NDArray[np.bool_], dy: float, dx: float) -> NDArray[np.float64]:
    """Return the line segments between voxels in and outside of a mask ``(y, x)``.

    Returns
    -------
    ndarray of floats with shape ``(n_segment, 2, 2)``
        Both ends ``(x, y)`` of each in mm from the outer corner of the first voxel.

    """
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    across = np.stack([np.stack([x * dx, y * dy], -1), np.stack([(x + 1) * dx, y * dy], -1)], 1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    down = np.stack([np.stack([x * dx, y * dy], -1), np.stack([x * dx, (y + 1) * dy], -1)], 1)
    return np.concatenate([across, down]).astype(np.float64)


def largest_slices(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return along each axis the slice of a mask ``(z, y, x)`` that holds most voxels."""
    z, y, x = (int(mask.sum(axis=axes).argmax()) for axes in ((1, 2), (0, 2), (0, 1)))
    return z, y, x


def montage(image: Volume, outlines: Sequence[Outline], title: str) -> Figure:
    """Draw axial, coronal and sagittal slices through the first outline where it is largest.

    Parameters
    ----------
    image
        Box of the scan ``(z, y, x)`` in HU that is shown whole.
    outlines
        What to draw over it; at least one. Parts outside of `image` are not shown.
    title
        Line on top.

    Raises
    ------
    ValueError
        There is no outline.

    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not outlines:
        raise ValueError("a montage needs at least one outline, found none")
    colours = _colours(outlines)
    axes = patient_axes(image.geometry)
    voxels = turned(image.array, axes)
    masks = [turned(within(image, outline.mask), axes) for outline in outlines]
    dz, dy, dx = (image.geometry.spacing[i] for i in axes.order)
    z, y, x = largest_slices(masks[0])
    planes: tuple[tuple[str, Any, float, float, bool, tuple[str, str]], ...] = (
        ("axial", np.s_[z], dy, dx, False, ("R", "L")),
        ("coronal", np.s_[:, y], dz, dx, True, ("R", "L")),
        ("sagittal", np.s_[:, :, x], dz, dy, True, ("A", "P")),
    )
    figure = Figure(figsize=(12, 5), dpi=100, layout="constrained", facecolor="black")
    figure.suptitle(title, color="white", fontsize=13, parse_math=False)
    for panel, (name, cut, down, across, feet_low, sides) in zip(figure.subplots(1, 3), planes, strict=True):
        _draw(panel, voxels[cut], down, across, feet_low=feet_low)
        drawn = zip(outlines, masks, colours, strict=True)
        # Regions first: the raters' lines lie on top.
        for outline, mask, colour in sorted(drawn, key=lambda item: item[0].role == "rater"):
            _outline(panel, mask[cut], down, across, colour, outline.role)
        panel.set_title(name, color="white", fontsize=11)
        for side, place in zip(sides, (0.02, 0.98), strict=True):
            panel.text(place, 0.5, side, transform=panel.transAxes, ha="left" if place < 0.5 else "right", **_text())
    handles = [
        Line2D([], [], color=colour, linestyle="-" if o.role == "rater" else "--", label=_plain(o))
        for o, colour in zip(outlines, colours, strict=True)
    ]
    note = f"window {LEVEL} / {WIDTH} HU" + ("; oblique scan: nearest axes" if axes.oblique else "")
    figure.legend(
        handles=handles, loc="outside lower center", ncols=6, title=note, frameon=False, labelcolor="white"
    ).get_title().set_color("white")
    return figure


def _colours(outlines: Sequence[Outline]) -> list[str]:
    """Return a colour each: raters from the palette's front, regions from its end, so that both stay the same."""
    used = {"rater": iter(cycle(COLOURS)), "region": iter(cycle(reversed(COLOURS)))}
    return [next(used[outline.role]) for outline in outlines]


def _plain(outline: Outline) -> str:
    # A leading underscore hides a label from a legend, dollars make it a formula.
    return outline.label.replace("$", r"\$").replace("_", "\u200b_", 1)


def within(image: Volume, mask: Volume) -> NDArray[np.bool_]:
    """Return a mask's voxels in a part of its scan, shape of that part."""
    whole = np.zeros(image.array.shape, np.bool_)
    part = mask.crop(*image.box)
    if part.array.size:
        place = tuple(
            slice(a - s, a - s + n) for a, s, n in zip(part.start, image.start, part.array.shape, strict=True)
        )
        whole[place] = part.array
    return whole


def _draw(panel: Any, plane: NDArray[Any], down: float, across: float, *, feet_low: bool) -> None:
    height, width = plane.shape[0] * down, plane.shape[1] * across
    panel.imshow(
        plane,
        cmap="gray",
        vmin=LEVEL - WIDTH / 2,
        vmax=LEVEL + WIDTH / 2,
        interpolation="nearest",
        origin="lower" if feet_low else "upper",
        extent=(0, width, 0, height) if feet_low else (0, width, height, 0),
    )
    panel.set_axis_off()
    bar = 0.04 * height if feet_low else 0.96 * height
    ends = [0.04 * width, 0.04 * width + 10]
    panel.plot(ends, [bar, bar], color="black", linewidth=5, solid_capstyle="butt")
    panel.plot(ends, [bar, bar], color="white", linewidth=3, solid_capstyle="butt")
    panel.text(0.04 * width + 5, bar, "10 mm\n", ha="center", va="bottom", **_text())


def _outline(panel: Any, mask: NDArray[np.bool_], down: float, across: float, colour: str, role: str) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    if role == "region":
        fill = np.zeros((*mask.shape, 4))
        fill[mask] = to_rgba(colour, 0.25)
        shown = panel.images[0]
        panel.imshow(fill, interpolation="nearest", origin=shown.origin, extent=shown.get_extent())
    lines = voxel_borders(mask, down, across)
    style = "-" if role == "rater" else "--"
    panel.add_collection(LineCollection(list(lines), colors=colour, linewidths=1.4, linestyles=style), autolim=False)


def _text() -> dict[str, Any]:
    from matplotlib.patheffects import withStroke

    return {"color": "white", "fontsize": 9, "path_effects": [withStroke(linewidth=2, foreground="black")]}
