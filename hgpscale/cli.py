"""The command line: one thin command for each public function, no logic.

Exit status: 0 done; 1 something about single rows' files or lesions failed, or doctor found a problem; 2 manifest,
settings, cube or usage wrong, or the storage or the scheduler failed; 130 interrupted. Whatever is imported at the top
is paid for by ``hgpscale --help``: the rest waits.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from hgpscale import cli_cube, cli_deep, cli_learn
from hgpscale._version import __version__
from hgpscale.cli_options import BreakLock, Cluster, Cube, Device, Quiet, Scheduler, Workers
from hgpscale.engine.deadline import DEADLINE
from hgpscale.errors import HgpscaleError

# The base of typer's usage errors; it has a name of its own only in click, which newer versions do without.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130


class _Commands(TyperGroup):
    """Turns every error that is expected into one line and an exit status."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command line and exit."""
        kwargs["standalone_mode"] = False
        status: int | None
        try:
            status = super().main(*args, **kwargs)
        except _UsageError as error:
            context = getattr(error, "ctx", None)
            name = context.command_path if context else "hgpscale"
            message: str = error.format_message()  # type: ignore[attr-defined]
            message = message.replace("Value error, ", "").rstrip(".")
            status = _fail(f"{message}; see {name} --help")
        except (HgpscaleError, OSError) as error:
            if os.environ.get("HGPSCALE_DEBUG") == "1":
                raise
            status = _fail(str(error))
        except (KeyboardInterrupt, typer.Abort):
            status = _INTERRUPTED
        if status == _INTERRUPTED:
            typer.echo("interrupted: what is finished is kept; run the same command again to go on", err=True)
        sys.exit(status or 0)


def _fail(message: str) -> int:
    from hgpscale.report.tables import one_line

    typer.echo(f"error: {one_line(message)}", err=True)
    return 2


app = typer.Typer(
    name="hgpscale",
    cls=_Commands,
    help="Radiomics of colorectal liver metastases: from CT scans and lesion masks to a feature cube, at any scale.",
    epilog="New here? Run [bold]hgpscale demo[/bold]. With your own data: check, extract, status, evaluate, report.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Manifest = Annotated[
    Path,
    typer.Argument(
        metavar="COHORT",
        help="Manifest, CSV or Parquet: a row for each lesion, with the columns patient, image and mask.",
        show_default=False,
    ),
]
_Settings = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.yaml",
        help="pyradiomics parameter file, or the preset hgp-ct.",
        show_default="pyradiomics' defaults",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hgpscale {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog="Example: [bold]hgpscale demo demo --workers 2[/bold]")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put it; made if it is not there.")] = Path("demo"),
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Make a small synthetic cohort, extract it, and show the way to your own data.

    Ends with a table, a figure, the report of a model and the commands to go
    on with. Called again on the same folder, it keeps the scans and does only
    what is missing.
    """
    from hgpscale.demo import run_demo

    raise typer.Exit(0 if run_demo(folder, workers, quiet=quiet).ok else 1)


@app.command(epilog="Example: [bold]hgpscale doctor > doctor.txt[/bold]")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as one JSON object.")] = False,
) -> None:
    """Say what is found on this machine, and try whether extraction runs: for yourself, or for a report of a fault.

    Extracts a synthetic lesion and starts one worker, in some seconds; the
    first time on a machine kernels are compiled, which takes longer. Exit
    status 1 if something that extraction needs is wrong. The output holds
    paths, and with them names of folders and users, but nothing of any scan.
    """
    from hgpscale.doctor import diagnose
    from hgpscale.report.doctor import print_diagnosis, print_diagnosis_json
    from hgpscale.report.tables import counter

    with counter("checks") as on_progress:
        found = diagnose(on_progress)
    (print_diagnosis_json if as_json else print_diagnosis)(found)
    raise typer.Exit(0 if found.ok else 1)


@app.command(
    epilog="Example: [bold]hgpscale cohort worc CRLM -o cohort.csv[/bold] or [bold]hgpscale cohort folder data "
    "-o cohort.csv --image ct.nii.gz --mask 'seg_{lesion}_{rater}.nii.gz'[/bold] or [bold]hgpscale cohort nnunet "
    "Dataset101_HGP -o cohort.csv --mask predictions[/bold]"
)
def cohort(
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="How the archive is laid out.", show_default=False)],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The archive's folder.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="COHORT",
            help="Manifest to write, .csv or .parquet; split masks go to a folder beside it.",
            show_default=False,
        ),
    ],
    image: Annotated[str, typer.Option(metavar="GLOB", help="folder, totalsegmentator: the image of a patient.")] = "",
    mask: Annotated[
        str,
        typer.Option(
            metavar="GLOB",
            help="folder: the masks; {lesion} and {rater} stand for what names them. nnunet: folders of predictions.",
        ),
    ] = "",
    liver: Annotated[str, typer.Option(metavar="GLOB", help="folder: the mask of the liver.")] = "",
    split: Annotated[bool, typer.Option("--split", help="folder: a mask may hold several lesions.")] = False,
    merge_mm: Annotated[
        float, typer.Option(min=0, metavar="MM", help="Parts of a mask at most this far apart are one lesion.")
    ] = 0.0,
    min_volume: Annotated[
        float, typer.Option(min=0, metavar="MM3", help="Leave out parts of a mask below this volume.")
    ] = 0.0,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Columns to join, such as growth patterns: .csv or .parquet."),
    ] = None,
    by: Annotated[Literal["patient", "lesion"], typer.Option(help="What the rows of --labels are.")] = "patient",
    pseudonymise: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Replace patients' ids by a hash under this key, 16 bytes or more."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the manifest and its split masks.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make the manifest of an archive of scans and masks.

    LAYOUT is one of:

    folder: one folder a patient; --image, --mask and --liver say which files

    worc: WORC database, CRLM-001/image.nii.gz, segmentation_lesion0_RAD.nii.gz

    tcia-crlm: TCIA Colorectal-Liver-Metastases, a CT and a SEG each

    hcc-tace: TCIA HCC-TACE-Seg

    msd: Medical Segmentation Decathlon, Task03_Liver or Task08_HepaticVessel

    lits: LiTS 2017, volume-N.nii and segmentation-N.nii

    nnunet: nnU-Net's raw data set with dataset.json, and predictions

    totalsegmentator: one folder a patient, a CT and TotalSegmentator's output

    Patients that cannot be used are listed, the others are written, and the
    exit status is 1.
    """
    from hgpscale.cohort import build_cohort
    from hgpscale.cohort.layouts import Options
    from hgpscale.cohort.scans import Splitting
    from hgpscale.report.cohorts import print_built
    from hgpscale.report.tables import counter

    with counter("scans", quiet=quiet) as on_progress:
        built = build_cohort(
            layout,
            root,
            output,
            options=Options(image, mask, liver, split),
            splitting=Splitting(merge_mm, min_volume),
            labels=labels,
            by=by,
            keyfile=pseudonymise,
            force=force,
            on_progress=on_progress,
        )
    print_built(built, quiet=quiet)
    raise typer.Exit(1 if built.problems else 0)


@app.command(epilog="Example: [bold]hgpscale check cohort.csv[/bold]")
def check(
    cohort: _Manifest,
    settings: _Settings = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Read the voxels too: write a picture of every lesion and its regions, and a page that lists all.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Read every header that a cohort names and list every problem of every row.

    Reads no voxels and writes nothing, unless --figures asks for pictures.
    Exit status 1 if there is any problem.
    """
    from hgpscale.cohort import check_cohort, read_manifest
    from hgpscale.report.tables import counter, print_problems
    from hgpscale.settings import Settings

    rows, wanted = read_manifest(cohort), Settings.of(settings)
    with counter("files") as on_progress:
        problems = check_cohort(rows, wanted, on_progress)
    print_problems(problems, rows)
    unread = False
    if figures is not None:
        from hgpscale.report.looking import write_figures
        from hgpscale.report.tables import print_looks

        with counter("scans") as on_progress:
            page, looks = write_figures(rows, figures, settings=wanted, on_progress=on_progress)
        unread = print_looks(page, looks)
    raise typer.Exit(1 if problems or unread else 0)


@app.command(epilog="Example: [bold]hgpscale extract cohort.csv cube.zarr --settings params.yaml --workers 4[/bold]")
def extract(
    cohort: _Manifest,
    cube: Cube,
    settings: _Settings = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    device: Device = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Try again what failed in an earlier run.",
        ),
    ] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Compute anew what was made of other files, settings or numeric versions than now; reads all files.",
        ),
    ] = False,
    break_lock: BreakLock = False,
    deadline: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="End the worker of a lesion that takes longer, try it twice more, then call it failed; 0: never.",
        ),
    ] = DEADLINE,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Append what happens to this file, a line of JSON an event; hgpscale run-report makes a page of it.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Extract the features of every lesion of a cohort that the cube does not hold yet.

    Can be stopped at any moment: the same command goes on with what is
    missing. More lesions, raters, image types or feature classes are added to
    the cube that is there. Where a lesion fails, it is listed, the others are
    done, and the exit status is 1.
    """
    from contextlib import ExitStack

    from rich.console import Console

    from hgpscale.engine import extract
    from hgpscale.engine.progress import Observer, observer, together
    from hgpscale.engine.runlog import RunLog
    from hgpscale.report.tables import print_summary

    with ExitStack() as stack:
        observers: list[Observer] = [] if log is None else [stack.enter_context(RunLog(log))]
        if not quiet:
            observers.append(stack.enter_context(observer(Console(stderr=True))))
        summary = extract(
            cohort,
            cube,
            settings,
            workers=workers,
            scheduler=scheduler,
            cluster=cluster,
            device=device,
            retry_failed=retry_failed,
            update=update,
            break_lock=break_lock,
            deadline=deadline or None,
            on_event=together(*observers),
        )
    print_summary(summary, quiet=quiet)
    raise typer.Exit(0 if summary.ok else 1)


@app.command("run-report", epilog="Example: [bold]hgpscale run-report run.jsonl[/bold]")
def run_report(
    log: Annotated[
        Path, typer.Argument(metavar="FILE.jsonl", help="Log that extract --log wrote.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="Page to write.", show_default="FILE.html"),
    ] = None,
) -> None:
    """Make one self-contained page of a run's log: lesions over time, stages, failures, workers, slowest lesions.

    The run may still go on.
    """
    from hgpscale.report.run_page import write_run_report
    from hgpscale.report.tables import print_line

    print_line(str(write_run_report(log, output)))


cli_cube.add_commands(app)
cli_learn.add_commands(app)
cli_deep.add_commands(app)


def main() -> None:
    """Run the command line; what ``hgpscale`` and ``python -m hgpscale`` call."""
    if os.environ.get("HGPSCALE_DEBUG") != "1":
        warnings.showwarning = _show_warning
    # Batch systems end a job by SIGTERM: the same as Ctrl-C, what has arrived is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="hgpscale")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"warning: {' '.join(str(message).split())}", err=True)
