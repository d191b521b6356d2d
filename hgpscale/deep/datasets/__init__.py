"""A cohort as the data set that another tool's networks are trained on: nnU-Net's and nnDetection's."""

from __future__ import annotations

from hgpscale.deep.datasets.export import Exported, export_dataset

__all__ = ["Exported", "export_dataset"]
