"""What one lesion's extraction returns: small, picklable, and complete on its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hgpscale.errors import Failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hgpscale.contents import Key


@dataclass(frozen=True)
class Record:
    """The features of one lesion as one segmentation outlines it.

    Attributes
    ----------
    lesion, segmentation
        Which row of the manifest this is.
    image_digest, mask_digest
        Digests of the files' bytes; empty where a file could not be read.
    surroundings_digest
        Digest of what bounds the regions outside of the lesion; empty where there are none, or it could not be read.
    label
        The mask value that was used; 0 where that could not be told.
    values
        Feature vectors, float64, in the settings' order of features, by key.
    failures
        Why a key has no vector, or why single features in its vector are NaN. Every key that was asked for is in
        `values`, in `failures` or in both.

    """

    lesion: str
    segmentation: str
    image_digest: str = ""
    mask_digest: str = ""
    label: int = 0
    values: dict[Key, NDArray[np.float64]] = field(default_factory=dict)
    failures: dict[Key, Failure] = field(default_factory=dict)
    surroundings_digest: str = ""

    @property
    def failure(self) -> Failure | None:
        """The reason why this lesion has no values at all, or None where it has some."""
        return None if self.values or not self.failures else next(iter(self.failures.values()))


def failed_record(
    lesion: str,
    segmentation: str,
    failure: Failure,
    keys: Iterable[Key],
    *,
    image_digest: str = "",
    mask_digest: str = "",
) -> Record:
    """Return the record of a lesion of which nothing that was asked for could be computed."""
    failures = dict.fromkeys(keys, failure)
    return Record(lesion, segmentation, image_digest, mask_digest, 0, {}, failures)
