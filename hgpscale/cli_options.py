"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Cube = Annotated[
    str,
    typer.Argument(metavar="CUBE", help="Feature cube, a zarr folder or s3://bucket/key.zarr.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Worker processes on this machine.", show_default="one a core"),
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
        metavar="FILE.yaml",
        help="Start workers as this file says: jobs of SLURM, PBS or LSF, pods of Kubernetes.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only failures and errors.")]
