"""The commands about networks: prepare, train, predict, embed, and export, which writes data sets for others'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from hgpscale.cli_options import Cube, Quiet, example

deep = typer.Typer(name="deep", help="Networks that find, outline and type lesions, and data sets for others'.")

_Cohort = Annotated[Path, typer.Argument(metavar="COHORT", help="Manifest, CSV or Parquet.", show_default=False)]
_Prepared = Annotated[
    Path, typer.Argument(metavar="PREPARED", help="Store that 'deep prepare' wrote.", show_default=False)
]
_Networks = Annotated[
    Path, typer.Argument(metavar="NETWORKS", help="Folder that 'deep train' wrote.", show_default=False)
]
_Segmentation = Annotated[
    str | None,
    typer.Option(metavar="RATER", help="Whose outlines.", show_default="the only one"),
]
_Device = Annotated[
    Literal["auto", "cpu", "gpu"],
    typer.Option(help="Where networks compute; auto: on a GPU where torch can use one."),
]


def prepare(
    cohort: _Cohort,
    prepared: Annotated[
        Path, typer.Argument(metavar="PREPARED", help="Store to write, a zarr folder.", show_default=False)
    ],
    spacing: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="Z Y X", help="Voxels that all scans are resampled to, in mm: slices first."),
    ] = (2.0, 1.25, 1.25),
    segmentation: _Segmentation = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes of this machine.")] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Make all anew, also where PREPARED has other voxels or outlines.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Resample scans and outlines of a cohort to one grid and store them for training.

    Growth patterns may be missing: such lesions teach networks to find and
    outline. The same command goes on where it was stopped, and makes anew only
    what has changed. Scans that cannot be used are listed, and the exit status
    is 1.
    """
    from hgpscale.deep.preparing import prepare as run
    from hgpscale.report.deep import print_prepared
    from hgpscale.report.tables import counter

    with counter("scans", quiet=quiet) as on_progress:
        found = run(
            cohort,
            prepared,
            spacing=spacing,
            segmentation=segmentation,
            workers=workers,
            force=force,
            on_progress=on_progress,
        )
    print_prepared(found, quiet=quiet)
    raise typer.Exit(1 if found.problems else 0)


def train(
    prepared: _Prepared,
    networks: Annotated[
        Path,
        typer.Argument(metavar="NETWORKS", help="Folder to write to; made if it is not there.", show_default=False),
    ],
    size: Annotated[
        Literal["tiny", "small", "full"] | None,
        typer.Option(help="tiny: two CPU cores; small: a GPU; full: one of 80 GB.", show_default="as FILE says: small"),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Options of network and training, YAML (docs/deep.md).", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Steps of training.", show_default="the size's")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of everything random.", show_default="the recipe's: 0")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            help="Parts that patients are dealt out to; a network is trained for each.",
            show_default="5",
        ),
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Train by these splits of patients, a CSV as evaluate takes and writes it.",
            show_default=False,
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Train this one alone, as on another machine.", show_default="all"),
    ] = None,
    shuffle_labels: Annotated[
        bool,
        typer.Option("--shuffle-labels", help="Deal growth patterns out at random: a control that must find nothing."),
    ] = False,
    device: _Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Begin anew.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network for each fold of the patients.

    Each finds and outlines lesions, and tells how they and their patient grow.
    Patients whose split is external are not trained on. The same command goes
    on where it was stopped, to the same weights. Under torchrun the GPUs of a
    machine train together.
    """
    from hgpscale.deep.extra import require_torch
    from hgpscale.deep.recipe import Recipe
    from hgpscale.report.deep import print_trained, training_bar
    from hgpscale.report.deep_training import write_training_page

    require_torch()
    from hgpscale.deep.ensemble import is_first_process
    from hgpscale.deep.folds import train_folds

    if folds is not None and splits is not None:
        raise typer.BadParameter("--folds and --splits exclude each other")
    given = {"steps": steps, "seed": seed}
    changed = {name: value for name, value in given.items() if value is not None}
    chosen = Recipe.of(size or "small", **changed) if recipe is None else Recipe.read(recipe, size, **changed)
    with training_bar(quiet=quiet) as on_step:
        found = train_folds(
            prepared,
            networks,
            chosen,
            n_folds=5 if folds is None else folds,
            splits=splits,
            fold=fold,
            device=device,
            shuffle_labels=shuffle_labels,
            force=force,
            on_step=on_step,
        )
    if is_first_process():
        write_training_page(networks, found.folds, found.unseen)
        if not quiet:
            print_trained(found)


def predict(
    networks: _Networks,
    scans: Annotated[
        Path,
        typer.Argument(
            metavar="SCANS",
            help="A manifest, a table with columns patient and image, a scan, or the folder of a DICOM series.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="To write to; made if it is not there.", show_default=False)
    ],
    threshold: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Probability from which a voxel belongs to a lesion.")
    ] = 0.5,
    overlap: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of a window that the next one looks at again.")
    ] = 0.5,
    dicom_seg: Annotated[
        bool,
        typer.Option(
            "--dicom-seg",
            help="Write lesions of DICOM series as DICOM SEG too; it names the patient as the series does.",
        ),
    ] = False,
    saliency: Annotated[
        bool, typer.Option("--saliency/--no-saliency", help="Show which voxels speak for which pattern.")
    ] = True,
    segmentation: _Segmentation = None,
    device: _Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Find lesions in scans, and tell how they and their patients grow.

    Writes to FOLDER: label maps; lesions.csv, a manifest that extract takes;
    predictions.csv; predictions.html, a page of all. Where SCANS is a manifest,
    lesions are compared with its outlines: metrics.json. Of a patient that some
    networks were trained on, only the others are asked. Scans that cannot be
    used are listed, and the exit status is 1.
    """
    from hgpscale.deep.extra import require_torch
    from hgpscale.report.deep import print_predicted
    from hgpscale.report.tables import counter

    require_torch()
    from hgpscale.deep.predicting import Options, predict_scans
    from hgpscale.report.deep_run import write_prediction_page

    options = Options(threshold, overlap, dicom_seg, saliency, segmentation, device)
    with counter("scans", quiet=quiet) as on_progress:
        found = predict_scans(networks, scans, folder, options, on_progress=on_progress)
    write_prediction_page(found)
    print_predicted(found, quiet=quiet)
    raise typer.Exit(1 if found.problems else 0)


def embed(
    networks: _Networks,
    prepared: _Prepared,
    cube: Cube,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what other networks have put into CUBE.")] = False,
    device: _Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Put what networks see of each lesion into a cube, as the family deep.

    A lesion's numbers come from networks that were not trained on its patient,
    so that a model on top may learn from all of them. A cohort in which all
    networks know a patient is refused.
    """
    from hgpscale.deep.extra import require_torch
    from hgpscale.report.deep import print_embedded
    from hgpscale.report.tables import counter

    require_torch()
    from hgpscale.deep.embedding import embed_into

    with counter("networks", quiet=quiet) as on_progress:
        found = embed_into(networks, prepared, cube, device=device, replace=replace, on_progress=on_progress)
    if not quiet:
        print_embedded(found)


def export(
    cohort: _Cohort,
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
    segmentation: _Segmentation = None,
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
    lines: dict[Callable[..., None], str] = {
        prepare: "hgpscale deep prepare cohort.csv prepared.zarr",
        train: "hgpscale deep train prepared.zarr networks --size tiny",
        predict: "hgpscale deep predict networks scans.csv found",
        embed: "hgpscale deep embed networks prepared.zarr cube.zarr",
        export: "hgpscale deep export cohort.csv nnUNet_raw --layout nnunet --dataset 101 --name HGP",
    }
    for command, line in lines.items():
        deep.command(epilog=example(line))(command)
    app.add_typer(deep)
