"""Every image type, feature family and feature: the tables that settings, formulas, cube and docs agree on.

From it follow the names that a manifest's own columns cannot have (`column_problems`).

Names are pyradiomics', in the order that pyradiomics returns them. IBSI ids are those of the Image Biomarker
Standardisation Initiative's reference manual (arXiv:1612.07003). `ibsi_note` says where pyradiomics' definition
differs from IBSI's; an empty id means that IBSI does not define the feature. Texture values agree with IBSI's for
the same grey levels; pyradiomics' bins are not IBSI's (see `hgpscale.prepare.discretise`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hgpscale.settings import Settings

LESION = "lesion"
"""The region that is the mask as it is."""
ORIGINAL = "original"
"""Name of the unfiltered image; shape, which no filter changes, stands under it."""

_IBSI = "IBSI reference manual, arXiv:1612.07003, id "
_PYRADIOMICS = "pyradiomics documentation, van Griethuysen et al. 2017, doi:10.1158/0008-5472.CAN-17-0339"


@dataclass(frozen=True)
class Feature:
    """One number that is computed of a region of interest.

    Attributes
    ----------
    name
        pyradiomics' name, as in ``original_glcm_Contrast``.
    unit
        Unit of the value for a CT in HU; empty for a pure number.
    ibsi_id
        Four-letter id in the IBSI manual, empty where IBSI does not define it.
    ibsi_note
        How the definition differs from IBSI's; empty where it does not.
    enabled
        Whether a family that is enabled as a whole includes it. pyradiomics calls the others deprecated.

    """

    name: str
    unit: str = ""
    ibsi_id: str = ""
    ibsi_note: str = ""
    enabled: bool = True

    @property
    def source(self) -> str:
        """Where the formula is defined."""
        return f"{_IBSI}{self.ibsi_id}" if self.ibsi_id and not self.ibsi_note else _PYRADIOMICS


@dataclass(frozen=True)
class Family:
    """A feature class of pyradiomics.

    Attributes
    ----------
    name
        pyradiomics' name of the class.
    long_name
        Name for a person.
    features
        Its features, in pyradiomics' order.
    version
        Numeric version: raised when a change makes any of its numbers different.
    removed
        Names that pyradiomics still knows but computes no more, each with the feature that says the same.

    """

    name: str
    long_name: str
    features: tuple[Feature, ...]
    version: int = 1
    removed: tuple[tuple[str, str], ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all its features."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def default_names(self) -> tuple[str, ...]:
        """Names of the features that are on unless the settings choose some."""
        return tuple(feature.name for feature in self.features if feature.enabled)


_EXCESS = "IBSI's is excess kurtosis: 3 less"
_POPULATION = "pyradiomics divides the covariance by N, IBSI by N - 1"

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "firstorder",
            "First-order statistics",
            (
                Feature("10Percentile", "HU", "QG58"),
                Feature("90Percentile", "HU", "8DWT"),
                Feature("Energy", "HU2", "N8CA"),
                Feature("Entropy", "bit", "TLU2"),
                Feature("InterquartileRange", "HU", "SALO"),
                Feature("Kurtosis", "", "IPH6", _EXCESS),
                Feature("Maximum", "HU", "84IY"),
                Feature("MeanAbsoluteDeviation", "HU", "4FUA"),
                Feature("Mean", "HU", "Q4LE"),
                Feature("Median", "HU", "Y12H"),
                Feature("Minimum", "HU", "1GSF"),
                Feature("Range", "HU", "2OJQ"),
                Feature("RobustMeanAbsoluteDeviation", "HU", "1128"),
                Feature("RootMeanSquared", "HU", "5ZWQ"),
                Feature("Skewness", "", "KE2A"),
                Feature("StandardDeviation", "HU", enabled=False),
                Feature("TotalEnergy", "HU2 mm3"),
                Feature("Uniformity", "", "BJ5W"),
                Feature("Variance", "HU2", "ECT3"),
            ),
            version=2,
        ),
        Family(
            "shape",
            "Shape (3D)",
            (
                Feature("Compactness1", "", "SKGS", enabled=False),
                Feature("Compactness2", "", "BQWJ", enabled=False),
                Feature("Elongation", "", "Q3CK"),
                Feature("Flatness", "", "N17B"),
                Feature("LeastAxisLength", "mm", "7J51", _POPULATION),
                Feature("MajorAxisLength", "mm", "TDIC", _POPULATION),
                Feature("Maximum2DDiameterColumn", "mm"),
                Feature("Maximum2DDiameterRow", "mm"),
                Feature("Maximum2DDiameterSlice", "mm"),
                Feature("Maximum3DDiameter", "mm", "L0JK"),
                Feature("MeshVolume", "mm3", "RNU0"),
                Feature("MinorAxisLength", "mm", "P9VJ", _POPULATION),
                Feature("SphericalDisproportion", "", "KRCK", enabled=False),
                Feature("Sphericity", "", "QCFX"),
                Feature("SurfaceArea", "mm2", "C0JK"),
                Feature("SurfaceVolumeRatio", "1/mm", "2PR5"),
                Feature("VoxelVolume", "mm3", "YEKZ"),
            ),
        ),
        Family(
            "shape2D",
            "Shape (2D)",
            (
                Feature("Elongation"),
                Feature("MajorAxisLength", "mm"),
                Feature("MaximumDiameter", "mm"),
                Feature("MeshSurface", "mm2"),
                Feature("MinorAxisLength", "mm"),
                Feature("Perimeter", "mm"),
                Feature("PerimeterSurfaceRatio", "1/mm"),
                Feature("PixelSurface", "mm2"),
                Feature("SphericalDisproportion", enabled=False),
                Feature("Sphericity"),
            ),
        ),
        Family(
            "glcm",
            "Grey level co-occurrence matrix",
            (
                Feature("Autocorrelation", "", "QWB0"),
                Feature("ClusterProminence", "", "AE86"),
                Feature("ClusterShade", "", "7NFM"),
                Feature("ClusterTendency", "", "DG8W"),
                Feature("Contrast", "", "ACUI"),
                Feature("Correlation", "", "NI2N"),
                Feature("DifferenceAverage", "", "TF7R"),
                Feature("DifferenceEntropy", "bit", "NTRS"),
                Feature("DifferenceVariance", "", "D3YU"),
                Feature("Id", "", "IB1Z"),
                Feature("Idm", "", "WF0Z"),
                Feature("Idmn", "", "1QCO"),
                Feature("Idn", "", "NDRX"),
                Feature("Imc1", "", "R8DG"),
                Feature("Imc2", "", "JN9H"),
                Feature("InverseVariance", "", "E8JP"),
                Feature("JointAverage", "", "60VM"),
                Feature("JointEnergy", "", "8ZQL"),
                Feature("JointEntropy", "bit", "TU9B"),
                Feature("MCC"),
                Feature("MaximumProbability", "", "GYBY"),
                Feature("SumAverage", "", "ZGXS"),
                Feature("SumEntropy", "bit", "P6QZ"),
                Feature("SumSquares", "", "UR99"),
            ),
            removed=(
                ("Dissimilarity", "DifferenceAverage"),
                ("Homogeneity1", "Id"),
                ("Homogeneity2", "Idm"),
                ("SumVariance", "ClusterTendency"),
            ),
        ),
        Family(
            "glrlm",
            "Grey level run length matrix",
            (
                Feature("GrayLevelNonUniformity", "", "R5YN"),
                Feature("GrayLevelNonUniformityNormalized", "", "OVBL"),
                Feature("GrayLevelVariance", "", "8CE5"),
                Feature("HighGrayLevelRunEmphasis", "", "G3QZ"),
                Feature("LongRunEmphasis", "", "W4KF"),
                Feature("LongRunHighGrayLevelEmphasis", "", "3KUM"),
                Feature("LongRunLowGrayLevelEmphasis", "", "IVPO"),
                Feature("LowGrayLevelRunEmphasis", "", "V3SW"),
                Feature("RunEntropy", "bit", "HJ9O"),
                Feature("RunLengthNonUniformity", "", "W92Y"),
                Feature("RunLengthNonUniformityNormalized", "", "IC23"),
                Feature("RunPercentage", "", "9ZK5"),
                Feature("RunVariance", "", "SXLW"),
                Feature("ShortRunEmphasis", "", "22OV"),
                Feature("ShortRunHighGrayLevelEmphasis", "", "GD3A"),
                Feature("ShortRunLowGrayLevelEmphasis", "", "HTZT"),
            ),
        ),
        Family(
            "glszm",
            "Grey level size zone matrix",
            (
                Feature("GrayLevelNonUniformity", "", "JNSA"),
                Feature("GrayLevelNonUniformityNormalized", "", "Y1RO"),
                Feature("GrayLevelVariance", "", "BYLV"),
                Feature("HighGrayLevelZoneEmphasis", "", "5GN9"),
                Feature("LargeAreaEmphasis", "", "48P8"),
                Feature("LargeAreaHighGrayLevelEmphasis", "", "J17V"),
                Feature("LargeAreaLowGrayLevelEmphasis", "", "YH51"),
                Feature("LowGrayLevelZoneEmphasis", "", "XMSY"),
                Feature("SizeZoneNonUniformity", "", "4JP3"),
                Feature("SizeZoneNonUniformityNormalized", "", "VB3A"),
                Feature("SmallAreaEmphasis", "", "5QRC"),
                Feature("SmallAreaHighGrayLevelEmphasis", "", "HW1V"),
                Feature("SmallAreaLowGrayLevelEmphasis", "", "5RAI"),
                Feature("ZoneEntropy", "bit", "GU8N"),
                Feature("ZonePercentage", "", "P30P"),
                Feature("ZoneVariance", "", "3NSA"),
            ),
        ),
        Family(
            "gldm",
            "Grey level dependence matrix",
            (
                Feature("DependenceEntropy", "bit", "FCBV"),
                Feature("DependenceNonUniformity", "", "Z87G"),
                Feature("DependenceNonUniformityNormalized", "", "OKJI"),
                Feature("DependenceVariance", "", "DNX2"),
                Feature("GrayLevelNonUniformity", "", "FP8K"),
                Feature("GrayLevelVariance", "", "1PFV"),
                Feature("HighGrayLevelEmphasis", "", "OAE7"),
                Feature("LargeDependenceEmphasis", "", "IMOQ"),
                Feature("LargeDependenceHighGrayLevelEmphasis", "", "9QMG"),
                Feature("LargeDependenceLowGrayLevelEmphasis", "", "NBZI"),
                Feature("LowGrayLevelEmphasis", "", "TL9H"),
                Feature("SmallDependenceEmphasis", "", "SODN"),
                Feature("SmallDependenceHighGrayLevelEmphasis", "", "JA6D"),
                Feature("SmallDependenceLowGrayLevelEmphasis", "", "EQ3F"),
            ),
            removed=(
                ("DependencePercentage", "none: it is always 1"),
                ("GrayLevelNonUniformityNormalized", "firstorder Uniformity"),
            ),
        ),
        Family(
            "ngtdm",
            "Neighbouring grey tone difference matrix",
            (
                Feature("Busyness", "", "NQ30"),
                Feature("Coarseness", "", "QCDE"),
                Feature("Complexity", "", "HDEZ"),
                Feature("Contrast", "", "65HE"),
                Feature("Strength", "", "1X9X"),
            ),
        ),
    )
}

SHAPE_FAMILIES = ("shape", "shape2D")
"""Measured on the mask alone, so once for all image types."""

TABLE = "table"
"""Family of the columns of an imported table that no pyradiomics name explains."""

DEEP = "deep"
"""Family of the numbers that networks make of a lesion, such as embeddings."""

OWN_FAMILIES = (TABLE, DEEP)
"""Families that no settings ask for: whoever brings their numbers names the features. One vector a lesion."""


def is_of_region(family: str) -> bool:
    """Whether there is one vector a region, the same for every image type; it stands under `ORIGINAL`."""
    return family in SHAPE_FAMILIES or family in OWN_FAMILIES


DEFAULT_FAMILIES = tuple(name for name in FAMILIES if name != "shape2D")
"""What is computed where nothing is chosen; shape2D needs a region of one slice and `force2D`."""


@dataclass(frozen=True)
class ImageType:
    """A filter of pyradiomics, by the name that parameter files use.

    Attributes
    ----------
    name
        pyradiomics' name, such as ``LoG``.
    names
        The names of its images for given settings, in pyradiomics' order, such as ``log-sigma-3-0-mm-3D``.
    settings
        The settings that only this filter reads.

    """

    name: str
    names: Callable[[Settings], tuple[str, ...]]
    settings: tuple[str, ...] = ()


def _wavelet_names(settings: Settings) -> tuple[str, ...]:
    """Letters are x, y, z; the approximation comes last and of the last level only."""
    n_axes = 2 if settings.force2D else 3
    bands = ["".join(letters) for letters in product("LH", repeat=n_axes)]
    levels = ["wavelet" if level == 1 else f"wavelet{level}" for level in range(1, settings.level + 1)]
    details = [f"{level}-{band}" for level in levels for band in bands[1:]]
    return (*details, f"{levels[-1]}-{bands[0]}")


def _log_names(settings: Settings) -> tuple[str, ...]:
    return tuple(f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D" for sigma in settings.sigma)


def _lbp3d_names(settings: Settings) -> tuple[str, ...]:
    return (*(f"lbp-3D-m{level}" for level in range(1, settings.lbp3DLevels + 1)), "lbp-3D-k")


def _always(name: str) -> Callable[[Settings], tuple[str, ...]]:
    return lambda _: (name,)


IMAGE_TYPES: dict[str, ImageType] = {
    image_type.name: image_type
    for image_type in (
        ImageType("Original", _always(ORIGINAL)),
        ImageType("Wavelet", _wavelet_names, ("wavelet", "start_level", "level")),
        ImageType("LoG", _log_names, ("sigma",)),
        ImageType("Square", _always("square")),
        ImageType("SquareRoot", _always("squareroot")),
        ImageType("Logarithm", _always("logarithm")),
        ImageType("Exponential", _always("exponential")),
        ImageType("Gradient", _always("gradient"), ("gradientUseSpacing",)),
        ImageType("LBP2D", _always("lbp-2D"), ("lbp2DRadius", "lbp2DSamples", "lbp2DMethod")),
        ImageType("LBP3D", _lbp3d_names, ("lbp3DLevels", "lbp3DIcosphereRadius", "lbp3DIcosphereSubdivision")),
    )
}


def flat_name(image_type: str, family: str, feature: str) -> str:
    """Return pyradiomics' name of a column, as in ``original_glcm_Contrast``; an imported column keeps its own.

    What networks made is ``deep_<feature>``.
    """
    if family in OWN_FAMILIES:
        return feature if family == TABLE else f"{family}_{feature}"
    return f"{image_type}_{family}_{feature}"


CUBE_NAMES = (
    *("lesion", "segmentation", "region", "image_type", "family"),
    *("image", "image_path", "mask", "label", "requested_label", "roi"),
    *("image_digest", "mask_digest", "surroundings_digest", "state", "error", "zarr.json"),
    *(name for family in OWN_FAMILIES for name in (family, f"{family}_feature")),
)
"""What a cube's folder, or a table exported from it, holds besides the families and the manifest's own columns."""

_NAME_BYTES = 255
"""Longest name of a folder on the common file systems."""


def reserved_names() -> frozenset[str]:
    """Return the names that the cube, or a table exported from it, needs itself."""
    return frozenset([*CUBE_NAMES, *(name for family in FAMILIES for name in (family, f"{family}_feature"))])


_IMAGE_NAME = re.compile(
    "original|square|squareroot|logarithm|exponential|gradient|lbp-2D|lbp-3D-(m[0-9]+|k)"
    "|wavelet[0-9]*-[LH]{2,3}|log-sigma-[0-9a-z-]+-mm-3D"
)
_IMAGE_NAME_OF_ANY_CASE = re.compile(_IMAGE_NAME.pattern, re.IGNORECASE)


_DEEP_FEATURE = re.compile("[A-Z][A-Za-z0-9]*")


def is_deep_feature(name: str) -> bool:
    """Whether a feature of the family `DEEP` can have this name: a word as pyradiomics writes its own.

    Without an underscore, so that ``deep_<feature>`` never reads as one of pyradiomics' names with something before it.
    """
    return _DEEP_FEATURE.fullmatch(name) is not None


def deep_feature(column: str) -> str | None:
    """Return the feature of the family `DEEP` that a flat table's column is; None where it is none."""
    family, _, feature = column.partition("_")
    return feature if family == DEEP and is_deep_feature(feature) else None


def is_feature_name(name: str) -> bool:
    """Whether a column of a flat table could have this name; of pyradiomics' names whatever its case."""
    if deep_feature(name) is not None:
        return True
    image, _, feature = name.partition("_")
    known = {f"{family.name}_{feature}".casefold() for family in FAMILIES.values() for feature in family.names}
    return feature.casefold() in known and _IMAGE_NAME_OF_ANY_CASE.fullmatch(image) is not None


def parts_of_name(column: str) -> tuple[str, str, str, str] | None:
    """Split the name of a flat table's column, written as pyradiomics does, with anything before it.

    Returns what stands before (with the underscores that part it), image type, family and feature; None where the
    cube has no place for it: another case, an unknown or removed feature, shape of a filtered image.
    """
    image, family, feature = ("", "", *column.rsplit("_", 3))[-3:]
    known = family in FAMILIES and feature in FAMILIES[family].names and _IMAGE_NAME.fullmatch(image) is not None
    if not known or (is_of_region(family) and image != ORIGINAL):
        return None
    return column.removesuffix(flat_name(image, family, feature)), image, family, feature


def column_problems(names: Iterable[str]) -> list[str]:
    """Say which of a manifest's own columns a cube cannot hold by their names, and why; empty where all is well.

    Each column becomes a folder of the cube and a column of its export. Names that differ by case alone are one
    name: not every file system tells them apart.
    """
    reserved = {name.casefold(): name for name in reserved_names()}
    seen: dict[str, str] = {}
    problems = []
    for name in names:
        folded = name.casefold()
        if folded in reserved:
            alike = "" if name == reserved[folded] else f", where it is written {reserved[folded]!r}"
            problems.append(f"column {name!r}: the name is reserved for the cube{alike}")
        elif is_feature_name(name):
            problems.append(f"column {name!r}: a feature has that name in the cube's tables")
        elif "__" in name:
            problems.append(f"column {name!r}: '__' is reserved for the cube")
        elif folded in seen:
            problems.append(f"column {name!r}: it differs from column {seen[folded]!r} by case alone")
        elif wrong := _folder_problem(name):
            problems.append(f"column {name!r}: {wrong}, so the cube cannot store it")
        seen.setdefault(folded, name)
    return problems


def _folder_problem(name: str) -> str:
    """Say why zarr or a file system has no folder of this name; empty where they do."""
    if "/" in name or "\\" in name:
        return "the name holds a slash"
    if not name.isprintable():
        return "the name holds a character that cannot be printed"
    if not name.strip("."):
        return "the name has no character but dots"
    if name.endswith(".partial"):  # how zarr names a file that is not whole yet: an aborted write leaves it
        return "the name ends in '.partial'"
    size = len(name.encode())
    return f"the name takes {size} bytes, at most {_NAME_BYTES} are possible" if size > _NAME_BYTES else ""
