"""Slices to a grid: sorted along their normal, and refused where they do not make one."""

from __future__ import annotations

import numpy as np

from hgpscale.cohort.dicom.frames import Frame, SliceFile, axes_of
from hgpscale.errors import ImageError
from hgpscale.volume import Geometry

_SHIFT = 1e-3
"""Of the distance between slices: how far they may lie beside each other, as of `skewed_axes`; a tenth of a degree."""
_COSINE = 1e-4
_UNEVEN = 0.05
"""Of the distance between slices: how far each may lie from where an even grid has it. Headers round positions."""
_SAME = 0.02


def stack(files: list[SliceFile]) -> tuple[tuple[Frame, ...], Geometry]:
    """Return the slices in order of position along their normal, and their grid as ITK's series reader has it.

    Raises
    ------
    ImageError
        Sizes, spacings or orientations differ, slices are missing, there twice, unevenly spaced or shifted sideways.

    """
    frames = [frame for file in files for frame in file.frames]
    first, pixels = frames[0], files[0].pixels
    for file in files:
        if (file.pixels.rows, file.pixels.columns) != (pixels.rows, pixels.columns):
            raise ImageError(
                f"its slices differ in size: {pixels.rows}x{pixels.columns} in {files[0].path.name}, "
                f"{file.pixels.rows}x{file.pixels.columns} in {file.path.name}; expected one size: take out what is no "
                "slice of the volume"
            )
    for frame in frames:
        if np.abs(np.subtract(frame.orientation, first.orientation)).max() > _COSINE:
            raise ImageError(
                f"its slices differ in orientation: {_shown(first.orientation)} in {_name(first)}, "
                f"{_shown(frame.orientation)} in {_name(frame)}; expected one orientation: is it a localizer?"
            )
        if not np.allclose(frame.spacing, first.spacing, rtol=1e-4, atol=0):
            raise ImageError(
                f"its slices differ in PixelSpacing: {_shown(first.spacing)} mm in {_name(first)}, "
                f"{_shown(frame.spacing)} mm in {_name(frame)}; expected one spacing"
            )
    direction = axes_of(first.orientation)
    normal = direction[:, 2]
    frames.sort(key=lambda frame: float(normal @ frame.position))
    spacing = _spacing(frames, normal, files[0].thickness)
    y, x = first.spacing
    size = (len(frames), pixels.rows, pixels.columns)
    ox, oy, oz = frames[0].position
    references = (files[0].reference, files[0].series) if files[0].reference else ()
    geometry = Geometry(size, (spacing, y, x), (ox, oy, oz), tuple(float(c) for c in direction.ravel()), references)
    return tuple(frames), geometry


def _spacing(frames: list[Frame], normal: np.ndarray[tuple[int], np.dtype[np.float64]], thickness: float) -> float:
    points = np.array([frame.position for frame in frames])
    if len(frames) == 1:
        if not thickness:
            raise ImageError("it is one slice that has neither SpacingBetweenSlices nor SliceThickness")
        return thickness
    along = (points - points[0]) @ normal
    steps = np.diff(along)
    usual = float(np.median(steps))
    same = np.flatnonzero(steps < max(_SAME * usual, 1e-3))
    if same.size:
        a, b = frames[same[0]], frames[same[0] + 1]
        raise ImageError(
            f"{same.size} of its {len(frames)} slices lie where another one does, such as {_name(b)} and {_name(a)} at "
            f"{along[same[0]]:.5g} mm; expected one each: are there several series, phases or copies?"
        )
    sideways = points - points[0] - along[:, None] * normal
    farthest = float(np.linalg.norm(sideways, axis=1).max())
    if farthest > max(_SHIFT * along[-1], 0.01):
        raise ImageError(
            f"its slices are shifted sideways by up to {farthest:.3g} mm (a tilted gantry?): resample it to a straight "
            "grid first"
        )
    gaps = np.flatnonzero(steps > 1.5 * usual)
    if gaps.size:
        lost = int(sum(round(float(step) / usual) - 1 for step in steps[gaps]))
        a, b = frames[gaps[0]], frames[gaps[0] + 1]
        raise ImageError(
            f"{lost} slice(s) are missing: between {_name(a)} and {_name(b)} are {steps[gaps[0]]:.5g} mm, expected "
            f"{usual:.5g}; copy the whole series"
        )
    even = np.linspace(0, along[-1], len(along))
    mean = float(along[-1]) / (len(along) - 1)
    off = np.abs(along - even)
    if off.max() > _UNEVEN * mean:
        worst = _name(frames[int(off.argmax())])
        raise ImageError(
            f"its slices are spaced unevenly, by {steps.min():.5g} to {steps.max():.5g} mm ({worst} "
            f"lies {off.max():.3g} mm off an even grid); expected one distance: resample it first"
        )
    return mean


def _name(frame: Frame) -> str:
    return frame.path.name if frame.number is None else f"{frame.path.name} (frame {frame.number + 1})"


def _shown(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value + 0:.6g}" for value in values) + ")"
