"""The commands that look after a cube: status, export, verify, pack, import-table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hgpscale.cli_options import BreakLock, Cube, Inputs, example


def status(cube: Cube) -> None:
    """Say how much of a cube is done, pending and failed, and why."""
    from hgpscale.cube import status
    from hgpscale.report.tables import print_status

    print_status(status(cube))


def export(
    cube: Cube,
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="File to write: .csv or .parquet.", show_default=False)
    ],
    layout: Annotated[
        Literal["wide", "tidy", "pyradiomics"],
        typer.Option(
            help="A row a lesion, a row a number, or a row a mask as pyradiomics' batch command writes it.",
        ),
    ] = "wide",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TABLE if it is there.")] = False,
) -> None:
    """Write a cube as a flat table; empty cells are what failed or is pending."""
    from hgpscale.cube import export, status
    from hgpscale.report.tables import print_export

    print_export(export(cube, table, layout=layout, overwrite=overwrite), status(cube))


def verify(
    cube: Cube,
    inputs: Inputs = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Make the records pending that something is wrong with; extract does them anew."),
    ] = False,
    break_lock: BreakLock = False,
) -> None:
    """Read a whole cube and say what is wrong in it, and which records that hits.

    Checks checksums, shapes and metadata, states against values, and the
    digests of scans and masks that are found. Exit status 1 if anything is
    wrong and not repaired.
    """
    from hgpscale.cube import verify
    from hgpscale.report.cubes import print_verification
    from hgpscale.report.tables import counter

    with counter("blocks") as on_progress:
        found = verify(cube, inputs=inputs, repair=repair, break_lock=break_lock, on_progress=on_progress)
    print_verification(found)
    raise typer.Exit(0 if found.ok else 1)


def pack(
    cube: Cube,
    packed: Annotated[
        str | None,
        typer.Argument(metavar="PACKED", help="Where to write it.", show_default="CUBE with .packed before .zarr"),
    ] = None,
) -> None:
    """Write a sealed copy of a cube for sharing: few files, metadata in one place; it takes no more records."""
    from hgpscale.cube import pack
    from hgpscale.report.cubes import print_packed
    from hgpscale.report.tables import counter

    with counter("arrays") as on_progress:
        print_packed(pack(cube, packed, on_progress=on_progress))


def import_table(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Features: .csv, .csv.gz, .gz or .parquet.", show_default=False)
    ],
    cube: Cube,
    id_column: Annotated[str, typer.Option("--id", metavar="COL", help="Column that names the lesion of each row.")],
    patient: Annotated[
        str | None, typer.Option(metavar="COL", help="Column that names the patient.", show_default="--id")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="COL", help="Column that is no feature but to be predicted; may be repeated."),
    ] = None,
) -> None:
    """Make a cube of a table of features that another program wrote, and list what went where.

    Columns named as pyradiomics does, with or without a prefix, become
    features; the prefix is the region, or is dropped where it is the only one.
    Other columns of numbers go to the family table, text is carried along.
    """
    from hgpscale.cube import import_table
    from hgpscale.report.cubes import print_imported

    print_imported(import_table(table, cube, id_column=id_column, patient=patient, targets=target or ()))


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog=example("hgpscale status cube.zarr"))(status)
    app.command(epilog=example("hgpscale export cube.zarr features.csv"))(export)
    app.command(epilog=example("hgpscale verify cube.zarr --inputs data"))(verify)
    app.command(epilog=example("hgpscale pack cube.zarr"))(pack)
    app.command("import-table", epilog=example("hgpscale import-table features.csv cube.zarr --id ID --target Target"))(
        import_table
    )
