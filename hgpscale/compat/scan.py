"""A whole scan in memory, and the lesion in it: what diagnostics are made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hgpscale.cohort import open_image, read_parts
from hgpscale.engine.tasks import naming
from hgpscale.prepare.cut import Cut, plan, take
from hgpscale.prepare.scan import scan_statistics
from hgpscale.single import keep_freed_memory, name_of, outlines_from, view_of
from hgpscale.volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

    from hgpscale.settings import Settings


class Scan(NamedTuple):
    """A whole scan and the lesion in it.

    Attributes
    ----------
    image
        All voxels.
    mask
        The part of the label map that holds labels; 0 elsewhere.
    cut
        What was cut out of them.

    """

    image: Volume
    mask: Volume
    cut: Cut


def read_whole(image: str | Path | sitk.Image, mask: str | Path | sitk.Image, settings: Settings) -> Scan:
    """Read a scan and its mask to their ends, and cut the lesion out; parameters and errors as `single.cut_lesion`."""
    keep_freed_memory()
    voxels = _voxels(image)
    outlines = outlines_from(mask, voxels.geometry, settings.label_channel)
    with naming(name_of(mask, "mask")):
        labels, label = outlines.region("", settings.label)
        wanted = plan(voxels.geometry, labels, label, settings)
    with naming(name_of(image, "image")):
        statistics = scan_statistics(voxels.array, settings)
    return Scan(voxels, labels, take(voxels, wanted, statistics))


def _voxels(source: str | Path | sitk.Image) -> Volume:
    if not isinstance(source, (str, Path)):
        return view_of(source)
    file = open_image(source)
    (whole,), _ = read_parts(file, [((0, 0, 0), file.geometry.size)], entire=False)
    return whole
