"""Results: one zarr store a cohort, written by one writer, read by anyone with xarray."""

from hgpscale.cube.export import export
from hgpscale.cube.reader import Tables, open_cube
from hgpscale.cube.schema import LAYOUT_VERSION
from hgpscale.cube.status import CubeStatus, status
from hgpscale.cube.writer import CubeWriter

__all__ = [
    "LAYOUT_VERSION",
    "CubeStatus",
    "CubeWriter",
    "Tables",
    "export",
    "open_cube",
    "status",
]
