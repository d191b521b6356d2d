"""The demo: the whole path on a synthetic cohort, ending with the commands to walk it on one's own data."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hgpscale.cohort import check_cohort, read_manifest
from hgpscale.cube import export, open_cube, status
from hgpscale.engine import Summary, extract
from hgpscale.engine.progress import observer
from hgpscale.errors import LearnError, SettingsError
from hgpscale.learn.evaluating import Plan, evaluate
from hgpscale.report.figures import overview
from hgpscale.report.study import write_report
from hgpscale.report.tables import print_problems, print_summary, print_table
from hgpscale.settings import Settings
from hgpscale.testing import make_cohort

SETTINGS = Settings(binWidth=10, resampledPixelSpacing=(1.5, 1.5, 1.5))
"""Resampled, because the two centres have different voxels; narrow bins, because lesions differ by tens of HU."""

PLAN = Plan("multitask", "elastic-net", n_splits=10, strata=("chemotherapy",), permutations=200, everything=True)
"""What is evaluated: so few lesions show how a report reads, not that anything can be predicted."""

_MANIFEST, _PARAMETERS, _CUBE, _TABLE, _FIGURE, _RESULTS = (
    "cohort.csv",
    "params.yaml",
    "cube.zarr",
    "features.csv",
    "overview.png",
    "results",
)
_MARKER = ".hgpscale-demo"
"""The file that says that a folder is ours to write to; made before anything else."""


def run_demo(folder: str | Path, workers: int | None = None, *, quiet: bool = False) -> Summary:
    """Make a synthetic cohort, check it, extract it, and show what came out.

    Parameters
    ----------
    folder
        Made where absent. One that an earlier demo made is gone on with: its cohort and settings are kept, and
        only what is missing is extracted.
    workers
        Worker processes; None: one a core.
    quiet
        Print only what failed.

    Returns
    -------
    Summary
        Of the extraction.

    Raises
    ------
    SettingsError
        `folder` is a file, or holds files that no demo has made; it is left as it was.
    CubeError
        Its cube was made by other settings or another version; a fresh folder helps.
    OSError
        The folder cannot be written to.

    """
    from rich.console import Console

    began = time.monotonic()
    folder = Path(folder)
    say = _silent if quiet else _say
    _claim(folder)
    manifest = _cohort(folder, say)
    settings = Settings.of(folder / _PARAMETERS)
    cohort = read_manifest(manifest)
    problems = check_cohort(cohort)
    if problems:
        print_problems(problems, cohort)
    say(f"extracting {len(cohort.rows)} lesions")
    with observer(Console(stderr=True, quiet=quiet)) as on_event:
        summary = extract(
            cohort,
            folder / _CUBE,
            settings,
            workers=workers,
            on_event=None if quiet else on_event,
        )
    export(folder / _CUBE, folder / _TABLE, overwrite=True)
    overview(open_cube(folder / _CUBE), cohort, folder / _FIGURE)
    report = _report(folder, say)
    if quiet:
        print_summary(summary, quiet=True)
        return summary
    made = status(folder / _CUBE)
    centres = cohort.columns["centre"].value_counts(sort=False)
    rows: list[tuple[str, object]] = [
        ("patients", cohort.columns["patient"].nunique()),
        ("lesions", len(cohort.lesions)),
        ("lesions by centre", ", ".join(f"{centre} {count}" for centre, count in centres.items())),
        ("features a lesion", sum(len(names) for names in settings.features.values())),
        ("extracted now", summary.done),
        ("failed", made.failed),
        ("extraction", f"{summary.seconds:.1f} s, workers' start included"),
        ("demo in all", f"{time.monotonic() - began:.1f} s"),
        ("cube", f"{made.bytes / 1e6:.1f} MB in {made.files} files"),
    ]
    print_table((), rows, title="hgpscale demo")
    say(_farewell(folder, report))
    return summary


def _claim(folder: Path) -> None:
    """Make the folder ours; refuse one that holds anything and was not made by a demo."""
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder}: is a file; name a folder for the demo")
    if (folder / _MARKER).is_file():
        return
    strangers = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if strangers:
        raise SettingsError(f"{folder}: holds {strangers[0]}, which no demo has made; name a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text("This folder was made by `hgpscale demo`, which may write over what is in it.\n")


def _cohort(folder: Path, say: Callable[[str], None]) -> Path:
    """Return the demo's manifest; make the cohort and its settings where the folder has none."""
    if (folder / _MANIFEST).exists():
        say(f"{folder} has a cohort: keeping it, doing only what is missing (remove the folder to start anew)")
        return folder / _MANIFEST
    say(f"making a synthetic cohort in {folder}")
    SETTINGS.write(folder / _PARAMETERS)
    return make_cohort(folder)  # its manifest is written last: a folder that has one is complete


def _report(folder: Path, say: Callable[[str], None]) -> Path | None:
    """Evaluate a model on the cube and write its report; None where too little was extracted to learn from."""
    say("learning the growth pattern, judged in 10 splits by patient")
    try:
        evaluate(folder / _CUBE, PLAN, folder / _RESULTS, workers=1)
    except LearnError as error:
        say(f"no report: {error}")
        return None
    return write_report(folder / _RESULTS, inputs=folder)


def _farewell(folder: Path, report: Path | None) -> str:
    look = "" if report is None else f"\nand at the report    {_shown(report)}"
    manifest, figure, table = (_shown(folder / name) for name in (_MANIFEST, _FIGURE, _TABLE))
    parameters = shlex.quote(_shown(folder / _PARAMETERS))
    hgpscale, python = _command("hgpscale"), _command("python")
    code = f"import hgpscale; print(hgpscale.open_cube({json.dumps(_shown(folder / _CUBE))}))"
    return f"""
Look at the figure   {figure}
at the table         {table}{look}

Your own data: write a manifest like {manifest}
(one row a lesion; columns patient, image and mask, and label where a mask has several),
call it cohort.csv, and put the path of its folder in place of my:

  {hgpscale} check my/cohort.csv
  {hgpscale} extract my/cohort.csv my/cube.zarr --settings {parameters}
  {hgpscale} status my/cube.zarr
  {hgpscale} export my/cube.zarr my/features.csv
  {hgpscale} evaluate my/cube.zarr --target pure --out my/results
  {hgpscale} report my/results --inputs my

In Python, here with the demo's cube:

  {python} -c {shlex.quote(code)}
"""


def _shown(path: Path) -> str:
    """Return a path as it is shorter: seen from the current folder, or whole."""
    whole = path.resolve()
    return min(os.path.relpath(whole), str(whole), key=len)


def _command(name: str) -> str:
    """Return how to call a program of this environment from the user's shell, whose PATH may lack it."""
    ours = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    # By its folder: a virtual environment's python is a link to another, which has not its packages.
    if found and ours.exists() and Path(found).parent.samefile(ours.parent):
        return name
    if ours.exists():
        return shlex.quote(str(ours))
    return shlex.quote(sys.executable) + ("" if name == "python" else f" -m {name}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (the demo talks)


def _silent(text: str) -> None:
    pass
