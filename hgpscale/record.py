"""What one lesion's extraction returns: small, picklable, and complete on its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hgpscale.catalog import IMAGE_TYPES, ORIGINAL, REGIONS, SHAPE_FAMILIES
from hgpscale.errors import Failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hgpscale.settings import Settings

Key = tuple[str, str, str]
"""``(region, image_type, family)``: the smallest part of a record that is done or failed."""


@dataclass(frozen=True)
class Record:
    """The features of one lesion as one segmentation outlines it.

    Attributes
    ----------
    lesion, segmentation
        Which row of the manifest this is.
    image_digest, mask_digest
        Digests of the files' bytes; empty where a file could not be read.
    label
        The mask value that was used; 0 where that could not be told.
    values
        Feature vectors, float64, in the settings' order of features, by key.
    failures
        Why a key has no vector, or why single features in its vector are NaN. Every key of `expected_keys` is in
        `values`, in `failures` or in both.

    """

    lesion: str
    segmentation: str
    image_digest: str = ""
    mask_digest: str = ""
    label: int = 0
    values: dict[Key, NDArray[np.float64]] = field(default_factory=dict)
    failures: dict[Key, Failure] = field(default_factory=dict)

    @property
    def failure(self) -> Failure | None:
        """The reason why this lesion has no values at all, or None where it has some."""
        return None if self.values or not self.failures else next(iter(self.failures.values()))


def expected_keys(settings: Settings) -> Iterator[Key]:
    """Yield the keys that a record made with `settings` has: shape first, then image by image, as pyradiomics."""
    shapes = [family for family in settings.features if family in SHAPE_FAMILIES]
    textures = [family for family in settings.features if family not in SHAPE_FAMILIES]
    for family in shapes:
        yield REGIONS[0], ORIGINAL, family
    for image in image_names(settings):
        for family in textures:
            yield REGIONS[0], image, family


def image_names(settings: Settings) -> list[str]:
    """Return the names of all images that features are computed on, in pyradiomics' order."""
    return [
        image
        for image_type in settings.image_types
        for image in IMAGE_TYPES[image_type].names(settings.of_image_type(image_type))
    ]


def failed_record(
    lesion: str,
    segmentation: str,
    failure: Failure,
    settings: Settings,
    *,
    image_digest: str = "",
    mask_digest: str = "",
) -> Record:
    """Return the record of a lesion that failed as a whole."""
    failures = dict.fromkeys(expected_keys(settings), failure)
    return Record(lesion, segmentation, image_digest, mask_digest, 0, {}, failures)
