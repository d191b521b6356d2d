"""Many lesions: what is to be done, workers that do it, and what they report.

`extract` runs a cohort on Dask, `extract_lesion` one lesion without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hgpscale.engine.run import Summary, extract
    from hgpscale.engine.tasks import extract_lesion

__all__ = ["Summary", "extract", "extract_lesion"]

_HOME = {"Summary": "run", "extract": "run", "extract_lesion": "tasks"}


def __getattr__(name: str) -> Any:
    # Dask is imported only by those who run it.
    if name in _HOME:
        return getattr(import_module(f"hgpscale.engine.{_HOME[name]}"), name)
    raise AttributeError(f"module 'hgpscale.engine' has no attribute {name!r}")
