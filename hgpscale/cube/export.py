"""Write a cube as one flat table, for R, SPSS, a spreadsheet or pandas."""

from __future__ import annotations

from collections.abc import Callable
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


def export(path: str | Path, out: str | Path) -> Path:
    """Write a cube as a table with one row a lesion; `Tables.to_frame` says which columns it has.

    Numbers are written with as many digits as give the same float64 back. Text is written as the manifest has
    it, so that ids and paths can be matched: a cell that starts with ``=``, ``+``, ``-`` or ``@`` is not
    altered, and a spreadsheet may take it for a formula (import such columns as text). A table that exists is
    replaced, at once and only when the new one is complete.

    Parameters
    ----------
    path
        The cube.
    out
        File to write, ``*.csv`` (UTF-8, comma, decimal point) or ``*.parquet``.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    CubeError
        `path` is not a cube, or the suffix of `out` is neither of the two.
    CubeWriteError
        `out` cannot be written.

    """
    out = Path(out)
    write = _FORMATS.get(out.suffix.lower())
    if write is None:
        raise CubeError(f"{out}: cannot export to {out.suffix or 'no suffix'!r}; use {' or '.join(_FORMATS)}")
    frame = open_cube(path).hgp.to_frame()
    draft = out.with_name(f".{out.name}.{uuid4().hex}.partial")
    try:
        write(frame, draft)
        draft.replace(out)
    except OSError as error:
        raise CubeWriteError(f"{out}: cannot write the table: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return out
