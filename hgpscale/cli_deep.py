"""The commands about networks: so far export, which writes data sets for others'."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hgpscale.cli_options import Quiet, example

deep = typer.Typer(name="deep", help="Data sets for networks that find, outline and type lesions.")


def export(
    cohort: Annotated[
        Path,
        typer.Argument(metavar="COHORT", help="Manifest, CSV or Parquet.", show_default=False),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="The tool's folder of raw data, such as nnUNet_raw; the data set becomes a folder in it.",
            show_default=False,
        ),
    ],
    layout: Annotated[
        Literal["nnunet", "nndetection"],
        typer.Option(help="nnU-Net: a label map of liver and tumour. nnDetection: an instance a lesion."),
    ],
    dataset: Annotated[int, typer.Option("--dataset", metavar="NUMBER", min=1, max=999, help="Of the data set.")] = 101,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the data set: Dataset101_NAME, Task101_NAME.")] = "HGP",
    segmentation: Annotated[
        str | None,
        typer.Option(metavar="RATER", help="Whose outlines.", show_default="the only one"),
    ] = None,
    classes: Annotated[
        Literal["tumour", "hgp"],
        typer.Option(help="nndetection: one class of lesions, or one for each dominant growth pattern."),
    ] = "tumour",
    splits: Annotated[
        Path | None,
        typer.Option(
            "--splits",
            "--split",
            metavar="FILE",
            help="Write folds, from a CSV of patients as evaluate takes and writes it.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Make all anew, also of another export or changed by hand; files that no export wrote stay.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a cohort as a data set that nnU-Net or nnDetection is trained on.

    One case a scan: the image as NIfTI in its own type, what is outlined in it,
    and cases.csv, which says whose it is. Patients whose split is external
    become the test set. The same command goes on where it was stopped. Scans
    that cannot be read are listed, the others are written, and the exit status
    is 1.
    """
    from hgpscale.deep import export_dataset
    from hgpscale.report.data_sets import print_exported
    from hgpscale.report.tables import counter

    with counter("scans", quiet=quiet) as on_progress:
        exported = export_dataset(
            cohort,
            folder,
            layout,
            number=dataset,
            name=name,
            segmentation=segmentation,
            classes=classes,
            splits=splits,
            force=force,
            on_progress=on_progress,
        )
    print_exported(exported, quiet=quiet)
    raise typer.Exit(1 if exported.problems else 0)


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    line = "hgpscale deep export cohort.csv nnUNet_raw --layout nnunet --dataset 101 --name HGP"
    deep.command(epilog=example(line))(export)
    app.add_typer(deep)
