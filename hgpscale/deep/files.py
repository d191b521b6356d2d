"""Writes the files of a data set, each whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hgpscale.errors import DeepError
from hgpscale.volume import Volume

_PARTIAL = ".partial."
_HALF = re.compile(r"\.\d+\.partial\..+")
_PIECE = 1 << 20


def write_volume(path: Path, volume: Volume) -> None:
    """Write voxels as ``.nii.gz`` in their own type, with their grid and nothing else in the header.

    Raises
    ------
    DeepError
        It cannot be written.

    """
    import SimpleITK as sitk
    from isal import igzip

    def write(partial: Path) -> None:
        plain = partial.with_suffix("")
        try:
            sitk.WriteImage(volume.to_sitk(), str(plain))
            # By isal: ITK's own zlib takes several times as long. Without a time, so that equal voxels are equal bytes.
            with plain.open("rb") as voxels, partial.open("wb") as to, igzip.IGzipFile("", "wb", 3, to, 0) as packed:
                shutil.copyfileobj(voxels, packed, _PIECE)
        except RuntimeError as error:  # SimpleITK's only kind
            raise OSError(f"SimpleITK cannot write {volume.array.dtype} voxels; is there room on the disk?") from error
        finally:
            plain.unlink(missing_ok=True)

    write_whole(path, write)


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write JSON; errors as of `write_volume`."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV table; errors as of `write_volume`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    write_whole(path, lambda partial: partial.write_text(text.getvalue(), encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written under another name, and give it its own once it is whole; errors as of `write_volume`."""
    partial = path.with_name(f".{os.getpid()}{_PARTIAL}{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what cannot be written.

    Raises
    ------
    DeepError
        In place of an OSError.

    """
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise DeepError(f"{path}: cannot be written: {why}; mend that, and run the same command again") from error


def remove_partial(*folders: Path) -> None:
    """Remove what killed processes left half written in folders: tools take hidden files for cases too."""
    for path in [path for folder in folders if folder.is_dir() for path in folder.iterdir()]:
        if is_partial(path) and path.is_file():
            with writing(path):
                path.unlink(missing_ok=True)


def is_partial(path: Path) -> bool:
    """Whether a name is that of a file which is being written."""
    return _HALF.fullmatch(path.name) is not None
