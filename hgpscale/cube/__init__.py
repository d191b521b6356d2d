"""Results: one zarr store a cohort, written by one writer, read by anyone with xarray."""

from hgpscale.cube.attach import Put, put_family
from hgpscale.cube.export import export
from hgpscale.cube.head import LAYOUT_VERSION
from hgpscale.cube.import_table import Imported, import_table
from hgpscale.cube.packing import Packed, pack
from hgpscale.cube.reader import open_cube
from hgpscale.cube.status import CubeStatus, status
from hgpscale.cube.tables import Tables
from hgpscale.cube.verifying import Finding, Verification, verify
from hgpscale.cube.writer import CubeWriter

__all__ = [
    "LAYOUT_VERSION",
    "CubeStatus",
    "CubeWriter",
    "Finding",
    "Imported",
    "Packed",
    "Put",
    "Tables",
    "Verification",
    "export",
    "import_table",
    "open_cube",
    "pack",
    "put_family",
    "status",
    "verify",
]
