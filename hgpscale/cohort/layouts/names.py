"""What archives and tools call the labels that matter here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

TUMOUR = ("cancer", "tumour", "tumor", "lesion", "lesions", "metastasis", "metastases")
LIVER = "liver"

_Value = TypeVar("_Value")


def tumour_of(labels: Mapping[str, _Value]) -> _Value | None:
    """Return the value of the label that names tumours, by names in lower case; None: there is none."""
    return next((labels[name] for name in TUMOUR if name in labels), None)
