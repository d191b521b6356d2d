"""Liver CT phantoms: lesions of exactly known shape whose interface with the liver follows a growth pattern.

The scene is a targeted reconstruction of the right upper abdomen in the portal venous phase. Everything is
analytic in mm, so that a mask's volume can be checked against a formula; noise, parenchyma and infiltration are
smoothed random fields, so that texture is not white. All randomness comes from the caller's generator.

What each pattern does at the interface is a sketch of how radiology describes it, not a fit to data:

desmoplastic
    a smooth fibrous rim of 2.5 mm that enhances a little more than the liver;
replacement
    tumour cells grow along the liver's plates: the border is displaced by some mm at random and blurred;
pushing
    a sharp smooth border, and liver that is compressed, so denser, for a few mm outside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING

import numpy as np

from hgpscale.testing.models import (
    AIR,
    AORTA,
    BONE,
    BOWEL,
    CORE,
    FAT,
    LIVER,
    MUSCLE,
    VESSEL,
    GrowthPattern,
    LesionModel,
    Scanner,
)
from hgpscale.volume import Geometry, Index, Vector, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk
    from numpy.typing import NDArray

LIVER_CENTRE: Vector = (66.0, 100.0, 96.0)
LIVER_RADII: Vector = (62.0, 70.0, 78.0)
"""Centre and semi-axes ``(z, y, x)`` in mm of the liver; positions are relative to the box's corner."""

_FWHM = 2.3548  # full width at half maximum of a Gaussian of standard deviation 1


@dataclass(frozen=True)
class LiverPhantom:
    """A scan and its outlines, all on one grid.

    Attributes
    ----------
    image
        int16 HU.
    labels
        uint8; voxels whose centre lies in ``lesions[i]`` are ``i + 1``.
    liver
        uint8; 1 inside the liver, lesions included.
    lesions
        What the outlines were made from.

    """

    image: Volume
    labels: Volume
    liver: Volume
    lesions: tuple[LesionModel, ...]


def place_lesions(
    diameters: Sequence[float], patterns: Sequence[GrowthPattern], rng: np.random.Generator
) -> tuple[LesionModel, ...]:
    """Put lesions at random places in the liver, apart from each other.

    Parameters
    ----------
    diameters
        Diameters in mm of the balls of the same volume; the semi-axes vary by about 10 %.
    patterns
        One for each diameter.
    rng
        Source of all randomness.

    Raises
    ------
    ValueError
        No room was found: the lesions are too many or too large for the liver.

    """
    placed: list[LesionModel] = []
    for diameter, pattern in zip(diameters, patterns, strict=True):
        stretch = np.exp(rng.normal(0, 0.1, 3))
        radii = diameter / 2 * stretch / np.cbrt(stretch.prod())
        room = np.array(LIVER_RADII) - radii.max() - 6
        if room.min() <= 0:
            raise ValueError(f"a lesion of {diameter:g} mm does not fit into the liver")
        for _ in range(1000):
            offset = rng.uniform(-1, 1, 3)
            centre = np.array(LIVER_CENTRE) + offset * room
            gaps = [np.linalg.norm(centre - other.centre) - max(other.radii) for other in placed]
            if np.linalg.norm(offset) <= 1 and all(gap > radii.max() + 8 for gap in gaps):
                break
        else:
            raise ValueError(f"no room for a lesion of {diameter:g} mm beside {len(placed)} others")
        placed.append(LesionModel(_vector(centre), _vector(radii), pattern))
    return tuple(placed)


def liver_phantom(lesions: Sequence[LesionModel], scanner: Scanner, rng: np.random.Generator) -> LiverPhantom:
    """Scan a liver with lesions.

    Parameters
    ----------
    lesions
        At most 255, inside the liver, not touching each other; `place_lesions` makes such.
    scanner
        Grid, noise and blur.
    rng
        Source of all randomness: equal generators give equal voxels.

    Raises
    ------
    ValueError
        A lesion leaves the liver or overlaps another.

    """
    grid = _grid(scanner.geometry)
    liver = _depth(grid, LIVER_CENTRE, LIVER_RADII) <= 0
    return _scan(_abdomen(grid, liver, scanner, rng), liver, scanner.geometry, lesions, scanner, rng)


def liver_block(
    lesions: Sequence[LesionModel], scanner: Scanner, edges: Vector, rng: np.random.Generator, liver: float = LIVER
) -> LiverPhantom:
    """Scan a box of nothing but liver with lesions: what surrounds a lesion, in a hundredth of an abdomen's time.

    Parameters
    ----------
    lesions
        At most 255, inside the box, not touching each other.
    scanner
        Grid, noise and blur.
    edges
        ``(z, y, x)`` in mm of the box.
    rng
        Source of all randomness: equal generators give equal voxels.
    liver
        Its mean HU.

    Raises
    ------
    ValueError
        A lesion leaves the box or overlaps another.

    """
    geometry = scanner.grid(edges)
    for number, lesion in enumerate(lesions, start=1):
        if any(not r <= c <= edge - r for c, r, edge in zip(lesion.centre, lesion.radii, edges, strict=True)):
            raise ValueError(f"lesion {number} leaves the liver")
    hu = _parenchyma(geometry.size, scanner.spacing, rng) + (liver - LIVER)
    return _scan(hu, np.ones(geometry.size, np.bool_), geometry, lesions, scanner, rng)


def outline(
    lesion: LesionModel, geometry: Geometry, rng: np.random.Generator, *, grown: float, shifted: float, uneven: float
) -> NDArray[np.bool_]:
    """Return a lesion's voxels as a rater would draw them.

    Parameters
    ----------
    lesion
        Its ellipsoid is the truth.
    geometry
        Grid to draw on.
    rng
        Source of all randomness.
    grown
        mm by which the rater draws too large; negative: too small.
    shifted
        Standard deviation in mm, along each axis, by which the outline is displaced.
    uneven
        Standard deviation in mm of bumps and dents, correlated over 8 mm.

    """
    centre = _vector(np.array(lesion.centre) + shifted * rng.standard_normal(3))
    bumps = uneven * correlated_noise(geometry.size, geometry.spacing, 8.0, rng)
    return _depth(_grid(geometry), centre, lesion.radii) <= grown + bumps


def _scan(
    hu: NDArray[np.float64],
    liver: NDArray[np.bool_],
    geometry: Geometry,
    lesions: Sequence[LesionModel],
    scanner: Scanner,
    rng: np.random.Generator,
) -> LiverPhantom:
    """Grow the lesions into the scene `hu` and scan it."""
    grid = _grid(geometry)
    labels = np.zeros(geometry.size, np.uint8)
    for number, lesion in enumerate(lesions, start=1):
        depth = _depth(grid, lesion.centre, lesion.radii)
        inside = depth <= 0
        if (inside & ~liver).any():
            raise ValueError(f"lesion {number} leaves the liver")
        if labels[inside].any():
            raise ValueError(f"lesion {number} overlaps lesion {labels[inside].max()}")
        labels[inside] = number
        hu = _grow(hu, lesion, depth, _sectors(grid, lesion, rng), scanner.spacing, rng)
    hu = _blur(hu, scanner.kernel, scanner.spacing)
    hu += scanner.noise * correlated_noise(geometry.size, scanner.spacing, scanner.kernel, rng)
    image = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return LiverPhantom(
        Volume(image, geometry),
        Volume(labels, geometry),
        Volume(liver.astype(np.uint8), geometry),
        tuple(lesions),
    )


def sphere(
    diameter: float = 45.0,
    spacing: Vector = (1.0, 0.8, 0.8),
    shape: Index | None = None,
    noise: float = 15.0,
    seed: int = 0,
) -> tuple[sitk.Image, sitk.Image]:
    """Return a hypodense ball in plain liver, for tests and benchmarks.

    Parameters
    ----------
    diameter
        In mm; the centre is the middle of the grid.
    spacing
        ``(z, y, x)`` in mm.
    shape
        Voxels ``(z, y, x)``; default: the ball and 20 mm around it.
    noise
        Standard deviation in HU of noise that is correlated over 2 mm.
    seed
        Equal seeds give equal voxels.

    Returns
    -------
    image, mask
        SimpleITK images, int16 HU and uint8 (1 inside).

    Raises
    ------
    ValueError
        The ball does not fit into `shape`.

    """
    if shape is None:
        z, y, x = (int(np.ceil((diameter + 40) / step)) for step in spacing)
        shape = (z, y, x)
    if any(n * step < diameter for n, step in zip(shape, spacing, strict=True)):
        raise ValueError(f"a ball of {diameter:g} mm does not fit into {shape} voxels of {spacing} mm")
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry(shape, spacing, (0.0, 0.0, 0.0), identity)
    middle = _vector([(n - 1) / 2 * step for n, step in zip(shape, spacing, strict=True)])
    radius = diameter / 2
    inside = _depth(_grid(geometry), middle, (radius, radius, radius)) <= 0
    rng = np.random.default_rng(seed)
    hu = np.where(inside, CORE, LIVER) + noise * correlated_noise(shape, spacing, 2.0, rng)
    image = Volume(np.rint(hu).astype(np.int16), geometry)
    return image.to_sitk(), Volume(inside.astype(np.uint8), geometry).to_sitk()


def correlated_noise(shape: Index, spacing: Vector, fwhm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a Gaussian random field of mean 0 and standard deviation 1, smoothed over `fwhm` mm."""
    field = _blur(rng.standard_normal(shape), fwhm, spacing)
    field -= field.mean()
    field /= field.std()
    return field


def _vector(values: Sequence[float] | NDArray[np.float64]) -> Vector:
    z, y, x = (float(value) for value in values)
    return z, y, x


def _grid(geometry: Geometry) -> tuple[NDArray[np.float64], ...]:
    """Return open coordinate arrays ``z, y, x`` in mm of the voxel centres."""
    start = geometry.origin[::-1]
    axes = [o + np.arange(n) * d for o, n, d in zip(start, geometry.size, geometry.spacing, strict=True)]
    return np.ix_(*axes)


def _depth(grid: Sequence[NDArray[np.float64]], centre: Vector, radii: Vector) -> NDArray[np.float64]:
    """Return the signed distance in mm to an ellipsoid: negative inside, exact for a ball, first order otherwise.

    With ``f = |p / radii|`` the surface is ``f = 1`` and the distance to it is about ``(f - 1) / |grad f|``.
    """
    offsets = [axis - c for axis, c in zip(grid, centre, strict=True)]
    f = np.sqrt(sum((p / r) ** 2 for p, r in zip(offsets, radii, strict=True)))
    slope = np.sqrt(sum((p / r**2) ** 2 for p, r in zip(offsets, radii, strict=True)))
    return np.where(slope > 0, (f - 1) * f / np.where(slope > 0, slope, 1), -min(radii))


def _sectors(
    grid: Sequence[NDArray[np.float64]], lesion: LesionModel, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], ...]:
    """Cut space around the lesion's z axis into one wedge a pattern, as wide as the pattern's fraction."""
    angle = np.arctan2((grid[1] - lesion.centre[1]) / lesion.radii[1], (grid[2] - lesion.centre[2]) / lesion.radii[2])
    turn = (angle / (2 * pi) + rng.uniform()) % 1
    edges = np.cumsum(lesion.pattern.fractions)
    desmoplastic = turn < edges[0]
    replacement = ~desmoplastic & (turn < edges[1])
    return desmoplastic, replacement, ~desmoplastic & ~replacement


def _grow(
    hu: NDArray[np.float64],
    lesion: LesionModel,
    depth: NDArray[np.float64],
    sectors: Sequence[NDArray[np.bool_]],
    spacing: Vector,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return `hu` with the lesion in it; only voxels near the lesion change."""
    size = depth.shape
    look = lesion.appearance
    texture = look.texture * correlated_noise(size, spacing, 5.0, rng)
    tongues = look.infiltration_mm * correlated_noise(size, spacing, 5.0, rng)
    desmoplastic, replacement, pushing = sectors
    necrotic = np.clip((-depth - 6) / 8, 0, 1)  # larger lesions die in the middle
    core = look.core + (look.necrosis - look.core) * necrotic + texture
    border = np.where(replacement, depth + tongues, depth)
    width = np.where(replacement, look.blurred_mm, 0.3)
    tumour = 1 / (1 + np.exp(np.clip(border / width, -30, 30)))
    inside, outside = look.capsule_mm
    fading = np.exp(-depth.clip(0) / look.compressed_mm)
    around = hu + look.compression * np.where(pushing & (depth > 0), fading, 0)
    capsule = np.where(desmoplastic & (depth > -inside) & (depth <= outside), 1.0, 0.0)
    grown = tumour * core + (1 - tumour) * around
    return grown + capsule * (look.capsule - grown)


def _abdomen(
    grid: Sequence[NDArray[np.float64]], liver: NDArray[np.bool_], scanner: Scanner, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the HU of body, spine, aorta and a liver with vessels."""
    _, y, x = grid
    size, spacing = scanner.geometry.size, scanner.spacing
    bowel = BOWEL + 30 * correlated_noise(size, spacing, 20.0, rng)
    tubes: tuple[tuple[tuple[int, int], tuple[int, int], float | NDArray[np.float64]], ...] = (
        ((112, 160), (108, 158), FAT),
        ((112, 160), (96, 146), MUSCLE),
        ((112, 160), (86, 136), bowel),
        ((178, 162), (20, 24), BONE),
        ((144, 180), (10, 10), AORTA),
    )
    hu = np.full(size, AIR)
    for centre, radii, value in tubes:
        ellipse = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1
        hu = np.where(ellipse, value, hu)
    return np.where(liver, _parenchyma(size, spacing, rng), hu)


def _parenchyma(size: Index, spacing: Vector, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the HU of liver with vessels."""
    parenchyma = LIVER + 5 * correlated_noise(size, spacing, 6.0, rng)
    # The zero levels of two smooth fields meet in branching curves.
    first, second = (correlated_noise(size, spacing, 30.0, rng) for _ in range(2))
    return np.where(np.hypot(first, second) < 0.13, VESSEL, parenchyma)


def _blur(array: NDArray[np.float64], fwhm: float, spacing: Vector) -> NDArray[np.float64]:
    """Convolve with a Gaussian of `fwhm` mm, axis by axis; the border's voxels are repeated outside."""
    from scipy.ndimage import correlate1d

    if fwhm == 0:
        return array
    for axis, step in enumerate(spacing):
        sigma = fwhm / _FWHM / step
        reach = int(np.ceil(3 * sigma))
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        array = correlate1d(array, taps / taps.sum(), axis, mode="nearest")
    return array
