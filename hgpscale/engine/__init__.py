"""Many lesions: what is to be done, workers that do it, and what they report.

`extract` runs a cohort on Dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hgpscale.engine.run import Summary, extract

__all__ = ["Summary", "extract"]


def __getattr__(name: str) -> Any:
    # Dask is imported only by those who run it.
    if name in __all__:
        return getattr(import_module("hgpscale.engine.run"), name)
    raise AttributeError(f"module 'hgpscale.engine' has no attribute {name!r}")
