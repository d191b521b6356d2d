"""hgpscale: radiomics of colorectal liver metastases, from CT scans to a feature cube, at any scale.

The public names are loaded when first used, so that importing the package stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hgpscale._version import __version__

if TYPE_CHECKING:
    from hgpscale.cohort import check_cohort, read_manifest
    from hgpscale.cube import export, import_table, open_cube, pack, status, verify
    from hgpscale.engine import extract
    from hgpscale.learn import Plan, evaluate, fit, predict, update
    from hgpscale.settings import Settings
    from hgpscale.single import extract_lesion

_HOME = {
    "Plan": "hgpscale.learn",
    "Settings": "hgpscale.settings",
    "check_cohort": "hgpscale.cohort",
    "evaluate": "hgpscale.learn",
    "export": "hgpscale.cube",
    "extract": "hgpscale.engine",
    "extract_lesion": "hgpscale.single",
    "fit": "hgpscale.learn",
    "import_table": "hgpscale.cube",
    "open_cube": "hgpscale.cube",
    "pack": "hgpscale.cube",
    "predict": "hgpscale.learn",
    "read_manifest": "hgpscale.cohort",
    "status": "hgpscale.cube",
    "update": "hgpscale.learn",
    "verify": "hgpscale.cube",
}

__all__ = [
    "Plan",
    "Settings",
    "__version__",
    "check_cohort",
    "evaluate",
    "export",
    "extract",
    "extract_lesion",
    "fit",
    "import_table",
    "open_cube",
    "pack",
    "predict",
    "read_manifest",
    "status",
    "update",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'hgpscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
