"""3D Slicer's ``.seg.nrrd``: layers of labels, with names in the header's own keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hgpscale.cohort.masks import read_labels
from hgpscale.cohort.nrrd import own_keys
from hgpscale.cohort.place import onto, trimmed
from hgpscale.cohort.segments import Segment
from hgpscale.errors import ImageError
from hgpscale.volume import Geometry, Volume

ENDING = ".seg.nrrd"


@dataclass(frozen=True)
class SlicerFile:
    """A ``.seg.nrrd`` file.

    Attributes
    ----------
    path
        The file.
    segments
        What it holds, numbered from 1.
    places
        Layer and value of each, in that order.
    image
        Grid of the scan: segments are put onto it where their voxels lie on it.
    layers
        Those that were read.

    """

    path: Path
    segments: tuple[Segment, ...]
    places: tuple[tuple[int, int], ...]
    image: Geometry
    layers: dict[int, Volume] = field(default_factory=dict)

    def draw(self, segment: Segment) -> Volume:
        """Return a segment as a boolean box; errors as of `read_labels`."""
        layer, value = self.places[segment.number - 1]
        if layer not in self.layers:
            self.layers[layer] = read_labels(self.path, layer, hashed=False)[0]
        labels = self.layers[layer]
        hit = Volume(labels.array == value, labels.geometry, labels.start)
        return onto(trimmed(hit) or hit, self.image)


def slicer_segments(path: Path) -> tuple[tuple[Segment, ...], tuple[tuple[int, int], ...]]:
    """Return the segments that a ``.seg.nrrd`` header names, and layer and value of each; none where it names none.

    Raises
    ------
    ImageError
        The header is damaged. The message does not name the file.

    """
    keys = own_keys(path)
    numbers = sorted({int(m[1]) for key in keys if (m := re.match(r"Segment(\d{1,6})_", key))})
    found, places = [], []
    for place, number in enumerate(numbers, start=1):
        name = keys.get(f"Segment{number}_Name", keys.get(f"Segment{number}_ID", ""))
        layer, value = keys.get(f"Segment{number}_Layer", "0"), keys.get(f"Segment{number}_LabelValue", "")
        # Files of Slicer 4 have neither: a layer a segment, whose value is 1.
        if not value:
            layer, value = str(place - 1), "1"
        if not (layer.isdecimal() and value.isdecimal()):
            raise ImageError(f"its Segment{number}_Layer or Segment{number}_LabelValue is no whole number")
        found.append(Segment(place, name))
        places.append((int(layer), int(value)))
    return tuple(found), tuple(places)


def count(file: SlicerFile) -> tuple[Segment, ...]:
    """Return the segments with their numbers of voxels."""
    return tuple(
        Segment(segment.number, segment.name, int(np.count_nonzero(file.draw(segment).array)))
        for segment in file.segments
    )
