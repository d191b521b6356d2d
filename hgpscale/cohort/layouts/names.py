"""What archives and tools call the labels that matter here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from hgpscale.errors import ManifestError

TUMOUR = ("cancer", "tumour", "tumor", "lesion", "lesions", "metastasis", "metastases")
LIVER = "liver"

_Value = TypeVar("_Value")


def tumour_of(source: Path, labels: Sequence[tuple[str, _Value]]) -> _Value:
    """Return the value of the label that names tumours, by names in lower case.

    Raises
    ------
    ManifestError
        There is none, or there are several: then some lesions would be taken for background. `source` is the file.

    """
    found = [(name, value) for name, value in labels if name in TUMOUR]
    if not found:
        names = ", ".join(name for name, _ in labels)
        raise ManifestError(f"{source}: expected a label named {' or '.join(TUMOUR)}, found {names}")
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise ManifestError(
            f"{source}: expected one label of tumours, found {names}: merge them into one, or rename "
            "those that are not meant"
        )
    return found[0][1]
