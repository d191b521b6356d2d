"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Cube = Annotated[
    str,
    typer.Argument(metavar="CUBE", help="Feature cube, a zarr folder or s3://bucket/key.zarr.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Worker processes on this machine.",
        show_default="one a core and GiB",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Run on this Dask scheduler, such as tcp://10.0.0.1:8786, instead of workers on this machine.",
        show_default=False,
    ),
]
Cluster = Annotated[
    Path | None,
    typer.Option(
        metavar="local|FILE.yaml",
        help="Start workers on this machine, or as a file says: jobs of SLURM, PBS or LSF, pods of Kubernetes.",
        show_default="local",
    ),
]
Device = Annotated[
    Literal["cpu", "gpu", "auto"] | None,
    typer.Option(
        help="Compute on the CPU, on GPUs with one worker each, or (auto) large lesions on GPUs where there are any; "
        "the numbers are the same.",
        show_default="as the settings say: cpu",
    ),
]
BreakLock = Annotated[
    bool, typer.Option("--break-lock", help="Take the cube from another run, which must be known to be gone.")
]
Inputs = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder that relative paths of scans and masks start from: the manifest's.",
        show_default="the cube's own folder",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only failures and errors.")]


def example(line: str) -> str:
    """Return what a command's help ends with."""
    return f"Example: [bold]{line}[/bold]"
