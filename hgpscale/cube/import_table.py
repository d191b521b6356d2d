"""Make a cube of a table of features that another program wrote."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hgpscale.cube.import_columns import Columns, clashes, contents_of
from hgpscale.cube.import_read import TableFile, read_table_file
from hgpscale.cube.import_records import cohort_of, is_numeric, listed, records, vectors_of
from hgpscale.cube.writer import CubeWriter
from hgpscale.errors import ManifestError


@dataclass(frozen=True)
class Imported:
    """What `import_table` did.

    Attributes
    ----------
    cube
        Where the cube is.
    rows
        Rows of the table: lesions.
    features
        Columns that became features, those of the family `table` among them.
    columns
        The table's columns by where they went.

    """

    cube: str | Path
    rows: int
    features: int
    columns: dict[str, list[str]]


def import_table(
    table: str | Path,
    cube: str | Path,
    *,
    id_column: str,
    patient: str | None = None,
    targets: str | Sequence[str] = (),
) -> Imported:
    """Make a cube of a table with a row for each lesion, whatever program wrote it.

    Columns ``[PREFIX_]<pyradiomics name>`` become the features of that name; the prefix, without its last underscores,
    is the region, or is dropped where all have the same one. Of a name in another case, an unknown feature or one that
    the cube has no place for, and of every other column, the numbers go to the family `table` and the text goes along
    with the lesion. Digits with zeros in front or more than 15 of them are text, as are columns with a single cell that
    is none; cells of text stay as they are. Columns without a name or content and pyradiomics' diagnostics are left
    out. Where a name cannot be had in a cube, or is that of a column that tables of a cube have themselves (`label`),
    the column goes along as ``table_<name>``.

    An empty cell, what pandas reads as NaN (``NA``, ``null``, ...) and an infinite number become NaN with a reason; so
    does a feature that one region or image type has no column of and another has.

    Parameters
    ----------
    table
        ``.csv``, ``.csv.gz``, ``.gz`` (gzipped CSV; comma, UTF-8) or ``.parquet``.
    cube
        Where to make the cube; nothing is there.
    id_column
        Column that names the lesion of each row: text as it is written, each once.
    patient
        Column that names the patient; None: the same.
    targets
        Columns that are to be predicted: carried along, as numbers where all their cells are, never as features.

    Raises
    ------
    MissingManifestError
        There is no table.
    ManifestError
        The table cannot be read, lacks a column, has empty or repeated ids, no number, or in the column of a feature
        something else than numbers.
    CubeError
        `cube` exists, or cannot be one.
    CubeWriteError
        The storage refuses; nothing is left of the cube.

    """
    source = read_table_file(Path(table))
    patient = id_column if patient is None else patient
    wanted = [targets] if isinstance(targets, str) else list(dict.fromkeys(targets))
    _check_chosen(source, id_column, patient, wanted)
    ids, patients = _ids(source, "id", id_column), _ids(source, "patient", patient)
    _check_unique(source, id_column, ids)
    columns = _columns(source, id_column, patient, wanted)
    if not columns.places:
        raise ManifestError(
            f"{source.path}: expected features, found no column of numbers besides {id_column!r} and what --patient "
            "and --target name; check that cells are separated by commas and have decimal points"
        )
    contents = contents_of(columns.places)
    vectors = vectors_of(source, columns, contents)
    with CubeWriter.create(cube, cohort_of(source, columns, ids, patients), contents) as writer:
        for record in records(source, ids, vectors):
            writer.add(record)
    return Imported(cube, len(ids), len(columns.places), columns.said)


def _check_chosen(source: TableFile, id_column: str, patient: str, targets: Sequence[str]) -> None:
    there = list(source.columns)
    for option, name in (("--id", id_column), ("--patient", patient), *(("--target", name) for name in targets)):
        if name in there:
            continue
        folded = {column.casefold(): column for column in reversed(there)}
        near = [folded[n] for n in difflib.get_close_matches(name.casefold(), folded, n=3)]
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "give the name of one of them"
        if len(there) == 1 and any(mark in there[0] for mark in ";\t"):
            hint = "cells are separated by something else than commas; save it as CSV with commas"
        raise ManifestError(
            f"{source.path}: line 1: expected a column {name!r} for {option}, found {listed(there)}; {hint}"
        )
    both = [name for name in targets if name in (id_column, patient)]
    if both:
        raise ManifestError(
            f"{source.path}: column {both[0]!r} is the id or the patient, so it cannot be the --target; give another"
        )


def _ids(source: TableFile, what: str, column: str) -> list[str]:
    texts = source.texts(column)
    for line, text in zip(source.lines, texts, strict=True):
        if not text:
            raise ManifestError(
                f"{source.path}: line {line}: expected the {what} in column {column!r}, found an empty cell; fill it "
                "or remove the row"
            )
        if not text.isprintable():
            raise ManifestError(
                f"{source.path}: line {line}: {what} {text!r} in column {column!r} holds a character that cannot be "
                "printed; expected plain text"
            )
    return texts


def _check_unique(source: TableFile, column: str, ids: Sequence[str]) -> None:
    lines: defaultdict[str, list[int]] = defaultdict(list)
    for text, line in zip(ids, source.lines, strict=True):
        lines[text].append(line)
    twice = [f"{text!r} on lines {listed(some)}" for text, some in lines.items() if len(some) > 1]
    if twice:
        raise ManifestError(
            f"{source.path}: expected a row for each id in column {column!r}, found {listed(twice, '; ')}; make them "
            "unique, or give another column as --id (and this one as --patient)"
        )


def _columns(source: TableFile, id_column: str, patient: str, targets: Sequence[str]) -> Columns:
    """Find out where each column goes."""
    chosen = (id_column, patient, *targets)
    columns = Columns(list(source.columns), chosen)
    for one, other in clashes(columns.places):
        raise ManifestError(
            f"{source.path}: line 1: columns {one!r} and {other!r} are the same feature of the same region; rename or "
            "drop one"
        )
    columns.say("id and patient" if id_column == patient else "id", id_column)
    if patient != id_column:
        columns.say("patient", patient)
    for name in targets:
        columns.carry(name, "target")
    for name in source.columns:
        if name not in chosen:
            columns.add(name, is_empty=source.is_empty, is_numeric=lambda name: is_numeric(source, name))
    return columns
