"""Networks that find, outline and type lesions: so far the data sets that others' are trained on; no network yet."""

from __future__ import annotations

from hgpscale.deep.datasets import Exported, export_dataset

__all__ = ["Exported", "export_dataset"]
