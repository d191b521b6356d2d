"""Pictures of found lesions as SVG: an axial slice with the outline, and what the answer on growth goes back to."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from hgpscale.learn.targets import PARTS
from hgpscale.report.montage import voxel_borders
from hgpscale.report.tables import one_line

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from hgpscale.deep.answers import Saliency

LEVEL, WIDTH = 110, 250
"""Window in HU: the portal venous liver is in its middle."""
FOR, AGAINST = "#ff8c1a", "#3d9bff"
OUTLINE, RIM = "#ffffff", "#ffe14d"
_MARGIN_MM = 8.0
_LEAST_MM = 40.0
_HIGHEST = 99.0
"""Percentile of the shares of a slice that is drawn in full colour: single voxels shall not hide the others."""


@dataclass(frozen=True)
class Picture:
    """The panels of one lesion.

    Attributes
    ----------
    panels
        SVG, and the pattern that its colours are of, '' for the scan alone.
    scale
        Share that is drawn in full colour; None where no share was told, 0 where all are 0.

    """

    panels: tuple[tuple[Markup, str], ...]
    scale: float | None


def picture(saliency: Saliency, lesion: str, key: str) -> Picture:
    """Draw a lesion.

    Parameters
    ----------
    saliency
        What is drawn: the slice that holds most of the lesion.
    lesion
        Its id, for what a screen reader says.
    key
        By which its panels refer to what they share; no other picture of the page has it.

    """
    one = saliency.shown()
    _, dy, dx = one.spacing
    window, view = _window(one.lesion[0] | one.rim[0], dy, dx)
    hu = one.image[0][window]
    grey = np.clip((hu - (LEVEL - WIDTH / 2)) / WIDTH * 255, 0, 255).astype(np.uint8)
    height, width = grey.shape[0] * dy, grey.shape[1] * dx
    place = f'x="0" y="0" width="{width:.3f}" height="{height:.3f}" preserveAspectRatio="none"'
    line = view[2] / 130
    shared = (
        f'<g id="{key}"><rect x="{view[0]:.2f}" y="{view[1]:.2f}" width="{view[2]:.2f}" height="{view[2]:.2f}"/>'
        f'<image {place} href="{_address(grey)}"/></g>'
    )
    outline = (
        f'<g id="{key}-line" fill="none" stroke-linecap="square">'
        f'<path d="{_path(one.rim[0][window], dy, dx)}" stroke="{RIM}" stroke-width="{0.45 * line:.3f}" '
        f'stroke-opacity="0.75"/><path d="{_path(one.lesion[0][window], dy, dx)}" stroke="{OUTLINE}" '
        f'stroke-width="{line:.3f}"/>{_marks(view)}</g>'
    )
    first = _svg(view, f"Axial slice of lesion {lesion} with its outline and rim", shared + outline)
    if not len(one.maps):
        return Picture(((first, ""),), None)
    inside = np.abs(one.maps[:, one.rim])
    scale = float(np.percentile(inside, _HIGHEST)) if inside.size else 0.0
    again = f'<use href="#{key}"/>', f'<use href="#{key}-line"/>'
    panels = [(first, "")]
    for part, shares in zip(PARTS, one.maps, strict=True):
        colours = _coloured(np.where(one.rim[0], shares[0], 0)[window], scale)
        drawn = f'<image {place} href="{_address(colours)}"/>'
        words = f"The same slice; in the rim, what speaks for and against {part} growth"
        panels.append((_svg(view, words, again[0] + drawn + again[1]), part))
    return Picture(tuple(panels), scale)


def _window(mask: NDArray[np.bool_], dy: float, dx: float) -> tuple[Any, tuple[float, float, float]]:
    """Return the part of the slice that is shown, and left, top and side of the square in mm around it."""
    ys, xs = np.nonzero(mask)
    ny, nx = mask.shape
    y0, y1, x0, x1 = (ys.min(), ys.max() + 1, xs.min(), xs.max() + 1) if ys.size else (0, ny, 0, nx)
    side = max((y1 - y0) * dy + 2 * _MARGIN_MM, (x1 - x0) * dx + 2 * _MARGIN_MM, _LEAST_MM)
    top, left = (y0 + y1) / 2 * dy - side / 2, (x0 + x1) / 2 * dx - side / 2
    rows = slice(max(0, math.floor(top / dy)), min(ny, math.ceil((top + side) / dy)))
    columns = slice(max(0, math.floor(left / dx)), min(nx, math.ceil((left + side) / dx)))
    return (rows, columns), (left - columns.start * dx, top - rows.start * dy, side)


def _coloured(shares: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """Return RGBA ``(y, x, 4)``: the colour is the sign, how opaque it is the size."""
    part = np.clip(np.abs(np.nan_to_num(shares)) / scale, 0, 1) if scale > 0 else np.zeros(shares.shape)
    rgba = np.zeros((*shares.shape, 4), np.uint8)
    rgba[..., :3] = np.where((shares > 0)[..., None], _rgb(FOR), _rgb(AGAINST))
    rgba[..., 3] = np.rint(235 * part)
    return rgba


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _path(mask: NDArray[np.bool_], dy: float, dx: float) -> str:
    lines = voxel_borders(mask, dy, dx).tolist()
    return "".join(f"M{a:.2f} {b:.2f}L{c:.2f} {d:.2f}" for (a, b), (c, d) in lines)


def _marks(view: tuple[float, float, float]) -> str:
    """Return a bar of 10 mm, and the letters of the patient's sides."""
    left, top, side = view
    x, y, size = left + 0.04 * side, top + 0.96 * side, side / 20
    words = f'fill="#fff" font-size="{size:.2f}" stroke="#000" stroke-width="{size / 5:.2f}" paint-order="stroke"'
    middle = top + side / 2 + size / 3
    return (
        f'<path d="M{x:.2f} {y:.2f}h10" stroke="#000" stroke-width="{side / 60:.2f}"/>'
        f'<path d="M{x:.2f} {y:.2f}h10" stroke="#fff" stroke-width="{side / 110:.2f}"/>'
        f'<text x="{x:.2f}" y="{y - size / 2:.2f}" {words}>10 mm</text>'
        f'<text x="{x:.2f}" y="{middle:.2f}" {words}>R</text>'
        f'<text x="{left + 0.96 * side:.2f}" y="{middle:.2f}" text-anchor="end" {words}>L</text>'
    )


def _svg(view: tuple[float, float, float], alternative: str, content: str) -> Markup:
    left, top, side = view
    return Markup(  # noqa: S704 - all text in it went through escape
        f'<svg viewBox="{left:.2f} {top:.2f} {side:.2f} {side:.2f}" role="img" '
        f'aria-label="{escape(one_line(alternative))}">{content}</svg>'
    )


def _address(pixels: NDArray[np.uint8]) -> str:
    """Return pixels, grey ``(y, x)`` or RGBA ``(y, x, 4)``, as the ``data:`` address of a PNG."""
    height, width = pixels.shape[:2]
    kind = 0 if pixels.ndim == 2 else 6
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
