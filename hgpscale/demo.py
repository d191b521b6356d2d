"""The demo: the whole path on a synthetic cohort, ending with the commands to walk it on one's own data."""

from __future__ import annotations

import json
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
from hgpscale.errors import ManifestError
from hgpscale.report.figures import overview
from hgpscale.report.tables import print_problems, print_summary, print_table
from hgpscale.settings import Settings
from hgpscale.testing import make_cohort

SETTINGS = Settings(binWidth=10, resampledPixelSpacing=(1.5, 1.5, 1.5))
"""Resampled, because the two centres have different voxels; narrow bins, because lesions differ by tens of HU."""

_MANIFEST, _PARAMETERS, _CUBE, _TABLE, _FIGURE = (
    "cohort.csv",
    "params.yaml",
    "cube.zarr",
    "features.csv",
    "overview.png",
)


def run_demo(folder: str | Path, workers: int | None = None, *, quiet: bool = False) -> Summary:
    """Make a synthetic cohort, check it, extract it, and show what came out.

    Parameters
    ----------
    folder
        Made where absent. One that holds a demo already is gone on with: its scans are kept, and only what is
        missing is extracted.
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
    ManifestError
        `folder` is a file, or holds other files and no demo.
    CubeError
        Its cube was made by other settings or another version; a fresh folder helps.
    OSError
        The folder cannot be written to.

    """
    from rich.console import Console

    began = time.monotonic()
    folder = Path(folder)
    say = _silent if quiet else _say
    manifest = _cohort(folder, say)
    SETTINGS.write(folder / _PARAMETERS)
    cohort = read_manifest(manifest)
    problems = check_cohort(cohort)
    if problems:
        print_problems(problems, cohort)
    say(f"extracting {len(cohort.rows)} lesions")
    with observer(Console(stderr=True, quiet=quiet)) as on_event:
        summary = extract(
            cohort,
            folder / _CUBE,
            folder / _PARAMETERS,
            workers=workers,
            on_event=None if quiet else on_event,
        )
    export(folder / _CUBE, folder / _TABLE)
    overview(open_cube(folder / _CUBE), cohort, folder / _FIGURE)
    if quiet:
        print_summary(summary, quiet=True)
        return summary
    made = status(folder / _CUBE)
    centres = cohort.columns["centre"].value_counts(sort=False)
    rows: list[tuple[str, object]] = [
        ("patients", cohort.columns["patient"].nunique()),
        ("lesions", len(cohort.lesions)),
        ("lesions by centre", ", ".join(f"{centre} {count}" for centre, count in centres.items())),
        ("features a lesion", sum(len(names) for names in SETTINGS.features.values())),
        ("extracted now", summary.done),
        ("failed", made.failed),
        ("extraction", f"{summary.seconds:.1f} s, workers' start included"),
        ("demo in all", f"{time.monotonic() - began:.1f} s"),
        ("cube", f"{made.bytes / 1e6:.1f} MB in {made.files} files"),
    ]
    print_table((), rows, title="hgpscale demo")
    say(_farewell(folder.resolve()))
    return summary


def _cohort(folder: Path, say: Callable[[str], None]) -> Path:
    """Return the demo's manifest; make the cohort where the folder has none."""
    if folder.exists() and not folder.is_dir():
        raise ManifestError(f"{folder}: is a file; name a folder for the demo")
    if (folder / _MANIFEST).exists():
        say(f"{folder} has a cohort: keeping it, doing only what is missing (remove the folder to start anew)")
        return folder / _MANIFEST
    # The manifest is written last: without it, these two are what a demo that was stopped has left.
    strangers = sorted({path.name for path in folder.iterdir()} - {"scans", "masks"}) if folder.exists() else []
    if strangers:
        raise ManifestError(f"{folder}: holds {strangers[0]} and no demo; name a new or empty folder")
    say(f"making a synthetic cohort in {folder}")
    return make_cohort(folder)


def _farewell(folder: Path) -> str:
    def path(name: str) -> str:
        return shlex.quote(str(folder / name))

    command = _command()
    code = f"import hgpscale; print(hgpscale.open_cube({json.dumps(str(folder / _CUBE))}))"
    return f"""
Look at the figure   {folder / _FIGURE}
and at the table     {folder / _TABLE}

Your own data: write a manifest like {folder / _MANIFEST}
(one row a lesion; columns patient, image and mask, and label where a mask has several),
put its path in place of that one, and give the cube a path of its own:

  {command} check {path(_MANIFEST)}
  {command} extract {path(_MANIFEST)} {path(_CUBE)} --settings {path(_PARAMETERS)}
  {command} status {path(_CUBE)}
  {command} export {path(_CUBE)} {path(_TABLE)}

In Python:

  {shlex.quote(sys.executable)} -c {shlex.quote(code)}
"""


def _command() -> str:
    """Return how to call hgpscale from the user's shell, whose PATH may lack this environment."""
    script = Path(sys.executable).with_name("hgpscale")
    found = shutil.which("hgpscale")
    if found and Path(found).parent == script.parent:
        return "hgpscale"
    return shlex.quote(str(script)) if script.exists() else f"{shlex.quote(sys.executable)} -m hgpscale"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (the demo talks)


def _silent(text: str) -> None:
    pass
