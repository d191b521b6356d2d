"""pyradiomics' extractor class, computed by hgpscale: a pyradiomics user changes one import."""

from __future__ import annotations

from hgpscale.compat.extractor import RadiomicsFeatureExtractor

__all__ = ["RadiomicsFeatureExtractor"]
