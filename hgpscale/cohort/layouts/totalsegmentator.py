"""TotalSegmentator: a folder for each patient, with a CT and what the tool made of it."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from hgpscale.cohort.headers import is_known
from hgpscale.cohort.layouts.dicom import series_below
from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Options, Outline, folders_of, one_of

LESIONS = ("liver_lesions", "liver_tumor")
"""Classes of the tasks liver_lesions and liver_vessels."""
_LIVER = "liver"
_ENDINGS = (".nii.gz", ".nii")
_HEADER, _OFFSET, _MOST = 352, 108, 1 << 20
"""Bytes of a NIfTI-1 header with its extension flag, where in it the voxels' place stands, longest extension read."""
_LABEL = re.compile(rb'<Label\b[^>]*\bKey="(\d+)"[^>]*>\s*(?:<!\[CDATA\[)?\s*([\w .-]+)')

_Class = tuple[Path, int | None]
"""A file, and the class's value in it; None: all that is not 0."""


def _find(root: Path, options: Options) -> Iterator[Found | LeftOut]:
    for folder in folders_of(root):
        files = sorted(path for path in folder.rglob("*") if path.name.endswith(_ENDINGS) and path.is_file())
        tables = {path: table for path in files if (table := label_table(path))}
        classes = {name: _of_class(name, files, tables) for name in (*LESIONS, _LIVER)}
        outputs = {*tables, *(path for found in classes.values() for path, _ in found)}
        image = one_of(folder, options.image) if options.image else _ct(folder, outputs)
        if isinstance(image, str):
            yield LeftOut(folder.name, str(folder), image)
            continue
        for name, found in classes.items():
            if len(found) > 1:
                names = ", ".join(path.relative_to(folder).as_posix() for path, _ in found)
                yield LeftOut(folder.name, str(folder), f"{name}: expected it in one file, found {len(found)}: {names}")
        outlines = tuple(
            Outline(found[0][0], name, label=found[0][1])
            for name, found in classes.items()
            if name in LESIONS and len(found) == 1
        )
        if not outlines:
            reason = (
                f"no lesion of TotalSegmentator: expected {LESIONS[0]} (task liver_lesions) or {LESIONS[1]} "
                "(task liver_vessels), a file of that name or a class of a multilabel file"
            )
            yield LeftOut(folder.name, str(folder), reason)
            continue
        liver, value = classes[_LIVER][0] if len(classes[_LIVER]) == 1 else (None, None)
        yield Found(folder.name, image, outlines, liver, "" if value is None else str(value))


def _of_class(name: str, files: list[Path], tables: dict[Path, dict[str, int]]) -> list[_Class]:
    """Return where a class is: in files of its name, and in multilabel files."""
    names = {f"{name}{end}" for end in _ENDINGS}
    # A multilabel file can be named after a class: its table says what is in it.
    alone: list[_Class] = [(path, None) for path in files if path.name in names and path not in tables]
    return alone + [(path, table[name]) for path, table in tables.items() if name in table]


def _ct(folder: Path, outputs: set[Path]) -> Path | str:
    """Return the only image that is no output of the tool: a file, or else a DICOM series; otherwise what is wrong."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and is_known(path) and path.name[0] != ".")
    images = [path for path in files if path not in outputs]
    named = [path for path in images if path.name.partition(".")[0].lower() == "ct"]
    if len(named or images) == 1:
        return (named or images)[0]
    if not images:
        series = [item for item in series_below(folder) if not isinstance(item, LeftOut) and item.modality == "CT"]
        if len(series) == 1:
            return series[0].path
        return f"expected one CT, a file or a DICOM series, found {len(series)}; give --image"
    names = ", ".join(path.name for path in images[:3])
    return f"expected one CT, found {len(images)} images ({names}): name it ct.nii.gz, or give --image"


def label_table(path: Path) -> dict[str, int]:
    """Return the names and values of a multilabel file's classes: TotalSegmentator writes them behind the header.

    Empty where there are none, or the file is none of NIfTI-1: whatever is wrong with it, reading it will say.
    """
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            header = file.read(_HEADER)
            if len(header) < _HEADER or not header[-4]:
                return {}
            order = "<" if struct.unpack_from("<i", header)[0] == _HEADER - 4 else ">"
            (offset,) = struct.unpack_from(f"{order}f", header, _OFFSET)
            extension = file.read(min(max(int(offset) - _HEADER, 0), _MOST))
    except (OSError, EOFError, ValueError, OverflowError, zlib.error):
        return {}
    return {name.decode().strip(): int(value) for value, name in _LABEL.findall(extension)}


TOTALSEGMENTATOR = Layout(
    "totalsegmentator",
    "a folder a patient with a CT and TotalSegmentator's liver_lesions or liver_tumor",
    _find,
    takes=("image",),
)
