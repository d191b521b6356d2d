"""Write a cube as one flat table, for R, SPSS, a spreadsheet or pandas."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pandas as pd

from hgpscale.cube.reader import open_cube
from hgpscale.errors import CubeError, CubeWriteError


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False, engine="pyarrow")


_FORMATS: dict[str, Callable[[pd.DataFrame, Path], None]] = {".csv": _write_csv, ".parquet": _write_parquet}


def export(path: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write a cube as a table with one row a lesion; `Tables.to_frame` says which columns it has.

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
    overwrite
        Whether a file that exists is replaced; it could be the manifest.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    CubeError
        `path` is not a cube, the suffix of `out` is neither of the two, or `out` exists and `overwrite` is off.
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
    frame = open_cube(path).hgp.to_frame()
    draft = out.with_name(f".{out.name}.{uuid4().hex}.partial")
    try:
        write(frame, draft)
        draft.replace(out)
    except OSError as error:
        with suppress(OSError):  # on a storage that takes no write there is nothing to remove
            draft.unlink(missing_ok=True)
        raise CubeWriteError(f"{out}: cannot write the table: {error.strerror or error}") from error
    return out
