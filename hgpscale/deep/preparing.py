"""Makes a prepared cohort of a manifest: what `hgpscale deep prepare` does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from hgpscale.cohort import Cohort, open_image, read_image, read_manifest
from hgpscale.cohort.layouts import LeftOut
from hgpscale.deep.cases import Case, cases_of, choose_segmentation, left_out
from hgpscale.deep.datasets.place import alone
from hgpscale.deep.datasets.record import state_of
from hgpscale.deep.drawing import draw
from hgpscale.deep.prepared import (
    IMAGE,
    INSTANCES,
    LIVER,
    SCHEMA,
    PreparedLesion,
    Written,
    begin,
    finish,
    is_written,
    scan_of,
    write_scan,
)
from hgpscale.deep.regrid import AIR, image_on, labels_on, share_on, working_grid
from hgpscale.errors import DeepError, HgpscaleError, VoxelError
from hgpscale.learn.targets import PARTS
from hgpscale.volume import Box, Index, Vector, Volume

SPACING: Vector = (2.0, 1.25, 1.25)
"""Default in mm: what most CT of a liver has across the slices, and can be compared at within them."""

_HIGHEST = 3071.0


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Attributes
    ----------
    path
        Of the store.
    scans, lesions, patients
        How many there are in it.
    made
        Scans that were made now; the others were there.
    with_growth
        Lesions whose growth pattern is known.
    notes, problems
        What a person should know, and scans that could not be used.

    """

    path: Path
    scans: int
    lesions: int
    patients: int
    made: int
    with_growth: int
    notes: tuple[str, ...]
    problems: tuple[LeftOut, ...]


class _Made(NamedTuple):
    """What became of one case: what is stored of it, or why nothing is."""

    case: Case
    lesions: tuple[PreparedLesion, ...] = ()
    is_new: bool = False
    notes: tuple[str, ...] = ()
    problem: LeftOut | None = None


def prepare(
    cohort: Cohort | str | Path,
    path: str | Path,
    *,
    spacing: Vector = SPACING,
    segmentation: str | None = None,
    workers: int = 1,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Resample scans and outlines to one grid and store them for training.

    A store that the same command began is gone on with: a scan is made anew only where its files, its outlines' files
    or its rows in the manifest have changed. Growth patterns may be missing, of all lesions too.

    Parameters
    ----------
    cohort
        A manifest's path, or what `read_manifest` returned.
    path
        Of the store; made where absent.
    spacing
        In mm ``(z, y, x)``, of axes turned towards the patient's.
    segmentation
        Whose outlines; None: the only ones.
    workers
        Processes of this machine; 1: this one alone.
    force
        Whether to make all anew, also where the store is of another spacing or segmentation.
    on_progress
        Called with scans done and their total.

    Raises
    ------
    ManifestError
        The manifest cannot be used.
    DeepError
        Options do not fit the cohort, the store cannot be written, or no scan could be used. What is wrong with single
        scans is in `problems` instead.

    """
    if not all(0.1 <= step <= 20 for step in spacing):
        raise DeepError(f"spacing is {spacing}, expected mm from 0.1 to 20")
    known = read_manifest(cohort) if isinstance(cohort, (str, Path)) else cohort
    rater = choose_segmentation(known, segmentation)
    cases = cases_of(known, rater)
    growth = growth_of(known)
    path = Path(path)
    with alone(path):
        root = begin(path, spacing, rater, anew=force)
        made: list[_Made] = []
        for one in _each(path, cases, spacing, growth, workers):
            made.append(one)
            if on_progress:
                on_progress(len(made), len(cases))
        order = {case.name: at for at, case in enumerate(cases)}
        made.sort(key=lambda one: order[one.case.name])
        problems = tuple(one.problem for one in made if one.problem is not None)
        kept = [one for one in made if one.problem is None]
        if not kept:
            raise DeepError(f"{path}: no scan could be prepared; {problems[0].file}: {problems[0].reason}")
        finish(path, root, [one.case.name for one in kept])
    lesions = [lesion for one in kept for lesion in one.lesions]
    return Prepared(
        path,
        len(kept),
        len(lesions),
        len({one.case.patient for one in kept}),
        sum(one.is_new for one in kept),
        sum(lesion.growth is not None for lesion in lesions),
        tuple(f"{one.case.patient}: {note}" for one in kept for note in one.notes),
        problems,
    )


def growth_of(cohort: Cohort) -> dict[str, tuple[float, float, float]]:
    """Return fractions of `PARTS`, with sum 1, of each lesion of which all three are known."""
    columns = [f"hgp_{part}" for part in PARTS]
    if not set(columns) <= set(cohort.columns):
        return {}
    percent = cohort.columns[columns].to_numpy(float)
    known = np.isfinite(percent).all(axis=1) & (np.abs(percent.sum(axis=1) - 100) <= 0.5)
    found = {}
    for lesion, row in zip(cohort.columns.index[known], percent[known], strict=True):
        d, r, p = (float(value) for value in row / row.sum())
        found[str(lesion)] = (d, r, p)
    return found


def _each(
    path: Path, cases: Sequence[Case], spacing: Vector, growth: Mapping[str, tuple[float, float, float]], workers: int
) -> Any:
    """Yield what became of each case, in whatever order."""
    of_case = [{row.lesion: growth[row.lesion] for row in case.rows if row.lesion in growth} for case in cases]
    if workers == 1:
        yield from (_prepare_case(path, case, spacing, known) for case, known in zip(cases, of_case, strict=True))
        return
    from distributed import as_completed

    from hgpscale.engine.cluster import local_client

    with local_client(min(workers, len(cases))) as client:
        tasks = client.map(_prepare_case, [path] * len(cases), cases, [spacing] * len(cases), of_case, pure=False)
        for task in as_completed(tasks, loop=client.loop):
            yield task.result()
            task.release()


def _prepare_case(path: Path, case: Case, spacing: Vector, growth: Mapping[str, tuple[float, float, float]]) -> _Made:
    root = zarr.open_group(str(path), mode="r+", zarr_format=3, use_consolidated=False)
    try:
        opened = open_image(case.image)
        source = _source(case, growth, state_of(opened), spacing)
        if is_written(root, case.name, source):
            return _Made(case, scan_of(root[case.name]).lesions)
        with_liver = all(row.liver is not None for row in case.rows)
        drawing = draw(case, opened.geometry, with_liver=with_liver)
        grid = working_grid(opened.geometry, spacing)
        image, _ = read_image(case.image)
        if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
            raise VoxelError(f"{case.image}: it holds NaN or infinite voxels, which no network can be trained on")
        hu = np.clip(np.rint(image_on(grid, image)), AIR, _HIGHEST).astype(np.int16)
        instances = labels_on(grid, Volume(drawing.instances, opened.geometry))
        arrays = {IMAGE: hu, INSTANCES: instances}
        if drawing.liver is not None:
            arrays[LIVER] = (share_on(grid, drawing.liver) >= 0.5).astype(np.uint8) | (instances > 0)
        lesions, notes = _lesions(case, instances, spacing, growth)
        liver = _box(arrays[LIVER]) if LIVER in arrays else None
        write_scan(path, Written(case.name, case.patient, case.split, lesions, grid, source, liver), arrays)
    except (HgpscaleError, OSError) as error:
        return _Made(case, problem=left_out(case, error))
    return _Made(case, tuple(lesions), is_new=True, notes=(*drawing.notes, *notes))


def _lesions(
    case: Case, instances: NDArray[Any], spacing: Vector, growth: Mapping[str, tuple[float, float, float]]
) -> tuple[list[PreparedLesion], list[str]]:
    """Return the lesions that are left on the grid, and a note on each that is not."""
    from scipy.ndimage import find_objects

    boxes = find_objects(instances, len(case.rows))
    voxel = float(np.prod(spacing))
    lesions, notes = [], []
    for number, (row, box) in enumerate(zip(case.rows, boxes, strict=True), start=1):
        if box is None:
            notes.append(f"lesion {row.lesion} is smaller than the voxels of {spacing} mm, and left out")
            continue
        start, stop = (_index(getattr(side, end) for side in box) for end in ("start", "stop"))
        volume = voxel * int(np.count_nonzero(instances[box] == number))
        lesions.append(PreparedLesion(row.lesion, number, start, stop, volume, growth.get(row.lesion)))
    return lesions, notes


def _box(mask: NDArray[Any]) -> Box | None:
    from scipy.ndimage import find_objects

    (box,) = find_objects(mask, 1) or [None]
    return None if box is None else (_index(side.start for side in box), _index(side.stop for side in box))


def _index(values: Iterable[int]) -> Index:
    z, y, x = values
    return z, y, x


def _source(case: Case, growth: Mapping[str, tuple[float, float, float]], image: str, spacing: Vector) -> str:
    """Return a digest of all that a prepared scan is made of, by path, size and time of the files."""
    files = dict.fromkeys(path for row in case.rows for path in (row.mask, row.liver) if path is not None)
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    rows = [(row.lesion, str(row.mask), row.label, row.roi, str(row.liver), row.liver_roi) for row in case.rows]
    said = [SCHEMA, spacing, image, stats, rows, case.patient, case.split, sorted(growth.items())]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()
