"""Write a cube as one flat table, for R, SPSS, a spreadsheet or pandas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pandas as pd

from hgpscale.cube import batches
from hgpscale.cube.reader import open_cube
from hgpscale.cube.tables import Tables
from hgpscale.errors import CubeError, CubeWriteError


def _write_csv(frames: Iterator[pd.DataFrame], path: Path) -> None:
    for number, frame in enumerate(frames):
        first = number == 0
        text = frame.to_csv(index=False, lineterminator="\n", header=first)
        with path.open("w" if first else "a", encoding="utf-8", newline="") as file:
            file.write(text)


def _write_parquet(frames: Iterator[pd.DataFrame], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = pa.Table.from_pandas(next(frames), preserve_index=False)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for frame in frames:
            writer.write_table(pa.Table.from_pandas(frame, first.schema, preserve_index=False))


_FORMATS: dict[str, Callable[[Iterator[pd.DataFrame], Path], None]] = {".csv": _write_csv, ".parquet": _write_parquet}

LAYOUTS: dict[str, Callable[[Tables], Iterator[pd.DataFrame]]] = {
    "wide": batches.wide,
    "tidy": batches.tidy,
    "pyradiomics": batches.by_row,
}
"""How a table can look: a row a lesion, a row a number, or a row a mask as pyradiomics' batch command writes it."""


def export(path: str | Path, out: str | Path, *, layout: str = "wide", overwrite: bool = False) -> Path:
    """Write a cube as a table, some lesions at a time; `Tables.to_frame` says which columns it has.

    Numbers are written with as many digits as give the same float64 back. Text is written as the manifest has
    it, so that ids and paths can be matched: a cell that starts with ``=``, ``+``, ``-`` or ``@`` is not
    altered, and a spreadsheet may take it for a formula (import such columns as text). The table appears only when
    it is complete.

    Parameters
    ----------
    path
        The cube.
    out
        File to write, ``*.csv`` (UTF-8, comma, decimal point) or ``*.parquet``.
    layout
        ``wide``: a row a lesion; ``tidy``: a row a number; ``pyradiomics``: a row a lesion and segmentation, with the
        manifest's columns, ``Image``, ``Mask``, ``Label`` and the features as its batch command names them.
    overwrite
        Whether a file that exists is replaced; it could be the manifest.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    CubeError
        `path` is not a cube, the suffix of `out` or the layout is none of these, or `out` exists and `overwrite` is
        off.
    CubeWriteError
        `out` cannot be written.

    """
    out = Path(out)
    write = _FORMATS.get(out.suffix.lower())
    if write is None:
        raise CubeError(f"{out}: cannot export to {out.suffix or 'no suffix'!r}; use {' or '.join(_FORMATS)}")
    if out.exists() and not overwrite:
        raise CubeError(f"{out}: exists already; give another name, or --overwrite (overwrite=True) to replace it")
    if not out.parent.is_dir():
        raise CubeError(f"{out}: the folder {out.parent} does not exist; make it first")
    if layout not in LAYOUTS:
        raise CubeError(f"{out}: no layout {layout!r}; use {', '.join(LAYOUTS)}")
    frames = LAYOUTS[layout](open_cube(path).hgp)
    draft = out.with_name(f".{out.name}.{uuid4().hex}.partial")
    try:
        write(frames, draft)
        draft.replace(out)
    except OSError as error:
        with suppress(OSError):  # on a storage that takes no write there is nothing to remove
            draft.unlink(missing_ok=True)
        raise CubeWriteError(f"{out}: cannot write the table: {error.strerror or error}") from error
    return out
