"""What the commands verify, pack and import-table print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hgpscale.catalog import DEEP
from hgpscale.report.tables import count_of, listed, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hgpscale.cube import Imported, Packed, Verification

_COLUMNS = 8
_WIDTH = 80
"""How many names of columns are listed, and how many characters they take together."""


def print_verification(found: Verification) -> None:
    """Print what is wrong in a cube and which records that hits; one line where all is well."""
    looked = f"{found.path}: {count_of(found.rows, 'row')} and {count_of(found.chunks, 'chunk')} checked"
    if found.inputs or found.unreached:
        looked += f", {count_of(found.inputs, 'file')} of scans and masks compared"
    if found.unreached:
        looked += f", {found.unreached} not found (--inputs says where they are)"
    if not found.findings:
        print_line(f"{looked}, nothing is wrong")
        return
    print_table(
        ("where", "problem", "segmentation", "region", "image", "family", "lesions"),
        [
            (f.where, f.problem, f.segmentation, f.region, f.image_type, f.family, listed(f.lesions))
            for f in found.findings
        ],
    )
    wrong = count_of(len(found.findings), "problem")
    left = sum(not finding.repairable for finding in found.findings)
    if not found.repaired:
        print_line(
            f"{looked}, {wrong}; --repair makes the records pending, so that extract does them anew", to_stderr=True
        )
    elif left:
        print_line(f"{looked}, {wrong}, {left} of them not repaired", to_stderr=True)
    else:
        networks = " (and what put the family deep into it)" if any(f.family == DEEP for f in found.findings) else ""
        print_line(f"{looked}, {wrong}, repaired: run extract again{networks} to fill the gaps, then verify")


def print_packed(packed: Packed) -> None:
    """Print sizes before and after."""
    before, after = _size(packed.bytes, packed.files), _size(packed.packed_bytes, packed.packed_files)
    print_line(f"{packed.packed}: {after}; {packed.path}: {before}")


def _size(size: int, files: int) -> str:
    return f"{size / 1e6:.3g} MB in {count_of(files, 'file')}"


def print_imported(imported: Imported) -> None:
    """Print where each column of a table went, and the cube."""
    print_table(("columns", "went to", "such as"), [(len(c), where, _some(c)) for where, c in imported.columns.items()])
    print_line(f"{imported.cube}: {count_of(imported.rows, 'row')}, {count_of(imported.features, 'feature')}")


def _some(columns: Sequence[str]) -> str:
    """Return names of columns, as many as fit a line; they are long and may hold blanks."""
    shown = list(columns[:_COLUMNS])
    while len(shown) > 1 and len(", ".join(shown)) > _WIDTH:
        shown.pop()
    more = f", and {len(columns) - len(shown)} more" if len(columns) > len(shown) else ""
    return ", ".join(shown) + more
