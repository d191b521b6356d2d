"""Makes a manifest of an archive: what `hgpscale cohort` does."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from hgpscale.cohort.labels import MANIFEST_COLUMNS, By, join_labels, read_label_table
from hgpscale.cohort.layouts import LAYOUTS, Found, Layout, LeftOut, Note, Options
from hgpscale.cohort.manifest import Cohort, read_manifest
from hgpscale.cohort.pseudonym import Veil, read_key
from hgpscale.cohort.scans import ScanReport, Seen, Splitting, lesions_of, raters_table, remove_label_maps
from hgpscale.cohort.stems import MaskFiles
from hgpscale.errors import ManifestError

_REQUIRED = ("patient", "lesion", "image", "mask")
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, eq=False)
class BuiltCohort:
    """A manifest that was made.

    Attributes
    ----------
    cohort
        The manifest, read back.
    raters
        For each rater: name, lesions, those that overlap another rater's, those that do not.
    notes
        What a person should know: labels joined, lesions left out, outlines that match no other.
    problems
        What could not be used.

    """

    cohort: Cohort
    raters: tuple[tuple[str, int, int, int], ...]
    notes: tuple[str, ...]
    problems: tuple[LeftOut, ...]

    @property
    def patients(self) -> int:
        """Number of patients in the manifest."""
        return len({row.patient for row in self.cohort.rows})


def build_cohort(
    layout: str,
    root: str | Path,
    manifest: str | Path,
    *,
    options: Options | None = None,
    splitting: Splitting | None = None,
    labels: str | Path | None = None,
    by: By = "patient",
    keyfile: str | Path | None = None,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> BuiltCohort:
    """Make the manifest of an archive.

    Parameters
    ----------
    layout
        Name of one of `hgpscale.cohort.layouts.LAYOUTS`.
    root
        The archive's folder.
    manifest
        File to write, .csv or .parquet; paths in it are relative to its folder. Label maps of split masks go to the
        folder ``<stem>_masks`` beside it.
    options, splitting
        What the layout is told of the archive; how masks are split.
    labels, by
        Table whose columns are joined, see `read_label_table`; the archive's own is joined without asking.
    keyfile
        File with the key of patients' pseudonyms, see `pseudonym`; None: ids as in the archive.
    force
        Whether to replace the manifest and label maps of the same names.
    on_progress
        Called with scans done and their total.

    Raises
    ------
    ManifestError
        The layout is unknown or does not take an option, the folder is none, the manifest is there already, labels or
        key cannot be used, or nothing was found. What is wrong with single patients is in `problems` instead.

    """
    root, path, options = Path(root), Path(manifest), options or Options()
    shape = _layout(layout, root)
    _check_options(shape, options)
    masks = path.with_name(f"{path.stem}_masks")
    _check_free(path, masks, force=force)
    key = read_key(keyfile) if keyfile is not None else None
    found = list(shape.find(root, options))
    veil = Veil(key, [item for item in found if not isinstance(item, Note)]) if key else None
    try:
        name = veil.name if veil else str
        _check_raters(found)
        sheets = [read_label_table(file, missing=shape.missing, tidy=True, shown=name) for file in _sheets(shape, root)]
        if labels is not None:
            sheets.append(read_label_table(labels, by, shown=name))
        if veil:
            sheets = [sheet.without(veil.tells) for sheet in sheets]
        with _unmade_on_failure(masks):
            rows, built = _rows(found, path, MaskFiles(masks), splitting or Splitting(), name, on_progress)
            notes, problems = list(built.notes), list(built.problems)
            if not rows:
                why = [f"; {problem.file}: {problem.reason}" for problem in problems] + [f"; {note}" for note in notes]
                raise ManifestError(f"{root}: no lesion found by layout {layout!r}{''.join(why[:1])}")
            own = {"split"} & set(rows[0])  # from an archive that has it
            for sheet in sheets:
                notes += join_labels(rows, sheet.beside(own), shown=name)
            if veil:
                for row in rows:
                    # The id of a lesion begins with its patient's, and can be another patient's.
                    known, row["patient"] = row["patient"], veil.name(row["patient"])
                    row["lesion"] = row["patient"] + row["lesion"].removeprefix(known)
                notes = [veil.text(note) for note in notes]
                notes.append("patients have pseudonyms; paths in the manifest still hold the archive's names")
                problems = [veil.problem(problem) for problem in problems]
            cohort = _write(path, rows)
    except ManifestError as error:
        if veil is None:
            raise
        raise type(error)(veil.text(str(error))) from None
    if force:
        remove_label_maps(masks, {path for row in cohort.rows for path in (row.mask, row.liver) if path is not None})
    raters = raters_table((seen.segmentation, seen.matched) for seen in built.seen)
    return BuiltCohort(cohort, tuple(raters), tuple(notes), tuple(problems))


def _rows(
    found: Sequence[Found | LeftOut | Note],
    manifest: Path,
    masks: MaskFiles,
    splitting: Splitting,
    shown: Callable[[str], str],
    on_progress: Callable[[int, int], None] | None,
) -> tuple[list[dict[str, str]], ScanReport]:
    """Return the manifest's rows with the archive's ids, and what is to be said of all scans."""
    scans = [item for item in found if isinstance(item, Found)]
    notes = [item.text for item in found if isinstance(item, Note)]
    total = ScanReport([], notes, [item for item in found if isinstance(item, LeftOut)])
    split = any(scan.split for scan in scans)
    rows: list[dict[str, str]] = []
    for number, scan in enumerate(scans):
        if on_progress:
            on_progress(number, len(scans))
        name = shown(scan.patient)
        report = lesions_of(scan, masks, f"{name}-{scan.scan}" if scan.scan else name, splitting)
        used = replace(scan, liver=report.liver, liver_roi=scan.liver_roi if report.liver == scan.liver else "")
        own = {"split": scan.split} if split else {}
        rows += [_row(used, seen, manifest.absolute().parent) | own for seen in report.seen]
        total.seen += report.seen
        total.notes += [f"{name}: {note}" for note in report.notes]
        total.problems += report.problems
    if on_progress:
        on_progress(len(scans), len(scans))
    return rows, total


@contextmanager
def _unmade_on_failure(masks: Path) -> Iterator[None]:
    """Remove a folder of label maps that was made here when no manifest comes of it: the next try finds its place."""
    before = masks.exists()
    try:
        yield
    except BaseException:
        if not before and masks.exists():
            shutil.rmtree(masks)
        raise


def _layout(name: str, root: Path) -> Layout:
    if name not in LAYOUTS:
        raise ManifestError(f"layout is {name!r}, expected one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise ManifestError(f"{root}: is no folder; expected the archive's folder")
    return LAYOUTS[name]


def _check_options(shape: Layout, options: Options) -> None:
    given = [field.name for field in fields(options) if getattr(options, field.name)]
    wrong = [f"--{name}" for name in given if name not in shape.takes]
    if wrong:
        taken = " and ".join(f"--{name}" for name in shape.takes) or "none of --image, --mask, --liver, --split"
        raise ManifestError(f"layout {shape.name} does not take {', '.join(wrong)}: it takes {taken}")


def _check_raters(found: Iterable[Found | LeftOut | Note]) -> None:
    """Refuse what the manifest would, before any voxel is read."""
    raters = {outline.segmentation for scan in found if isinstance(scan, Found) for outline in scan.outlines}
    if wrong := sorted(name for name in raters if "__" in name):
        raise ManifestError(f"segmentation is {wrong[0]!r}: '__' is reserved for column names; rename its files")


def _check_free(path: Path, masks: Path, *, force: bool) -> None:
    if path.suffix.lower() not in (".csv", *_PARQUET):
        raise ManifestError(f"{path}: expected a manifest that ends in .csv or .parquet")
    if not path.absolute().parent.is_dir():
        raise ManifestError(f"{path}: its folder is missing; make it first")
    for there in (path, masks):
        if there.exists() and not force:
            raise ManifestError(f"{there}: is there already; give --force to replace it, or another name")


def _sheets(shape: Layout, root: Path) -> list[Path]:
    found = sorted({file for glob in shape.sheets for file in root.glob(glob)})
    if len(found) > 1:
        raise ManifestError(f"{root}: expected one table of labels, found {', '.join(file.name for file in found)}")
    return found


def _row(scan: Found, seen: Seen, folder: Path) -> dict[str, str]:
    return {
        "patient": scan.patient,
        "lesion": f"{scan.stem}-{seen.lesion}" if seen.lesion else scan.stem,
        "segmentation": seen.segmentation,
        "image": relative_to(scan.image, folder),
        "mask": relative_to(seen.mask, folder),
        "label": "" if seen.label is None else str(seen.label),
        "roi": seen.roi,
        "liver": "" if scan.liver is None else relative_to(scan.liver, folder),
        "liver_roi": "" if scan.liver is None else scan.liver_roi,
    }


def relative_to(path: Path, folder: Path) -> str:
    """Return a path as a manifest in a folder, absolute, writes it."""
    path = path.absolute()
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def _write(path: Path, rows: Sequence[dict[str, str]]) -> Cohort:
    """Write a manifest whole or not at all, once it is known that it can be read."""
    names = list(dict.fromkeys([*MANIFEST_COLUMNS, *(name for row in rows for name in row)]))
    plain = all(row["segmentation"] == "default" for row in rows)
    empty = {name for name in MANIFEST_COLUMNS if name not in _REQUIRED and not any(row[name] for row in rows)}
    names = [name for name in names if name not in empty and not (plain and name == "segmentation")]
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        if path.suffix.lower() in _PARQUET:
            import pandas as pd

            pd.DataFrame([{name: row[name] for name in names} for row in rows]).to_parquet(partial, index=False)
        else:
            with partial.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        try:
            read_manifest(partial)
        except ManifestError as error:
            raise ManifestError(str(error).replace(str(partial), f"{path}, which was not written")) from error
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return read_manifest(path)
