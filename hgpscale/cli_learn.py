"""The commands that learn from a cube: evaluate, fit, predict, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hgpscale.cli_options import Cube, Inputs, Quiet, Scheduler, Workers, example

_Target = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="T",
        help="pure, composition, multitask, or a column of the manifest.",
        show_default=False,
    ),
]
_Model = Annotated[
    str,
    typer.Option(
        metavar="M",
        help="search, elastic-net, forest, boosting or svm; sgd or mlp learn in batches.",
    ),
]
_Features = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        metavar="GLOB",
        help="Only features of these names, such as 'rim__*' or '*_glcm_*'; may be repeated.",
        show_default="all",
    ),
]
_Covariates = Annotated[
    list[str] | None,
    typer.Option(
        "--covariate",
        metavar="COL",
        help="Column of the manifest that enters the model, such as chemotherapy; may be repeated.",
        show_default=False,
    ),
]
_Harmonise = Annotated[
    Literal["none", "combat", "combat-nonparametric"],
    typer.Option(help="Make centres alike by ComBat, fitted on the training lesions."),
]
_Cutoff = Annotated[
    Literal["pure", "100", "50"],
    typer.Option(
        help="Of the target pure: 100 % desmoplastic against 0 %, mixed lesions left out; 100 % against less; "
        "more than 50 % against less."
    ),
]
_Positive = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE", help="Value of the target's column that is positive.", show_default="the last of two"
    ),
]
_Fusion = Annotated[
    Literal["early", "stack"],
    typer.Option(
        help="How features of networks (deep_*) join the others: columns of one model, or a model of each, weighed by "
        "what they say of training patients that they had not seen."
    ),
]
_Seed = Annotated[int, typer.Option(min=0, help="Of everything random: equal seeds give equal results.")]
_Candidates = Annotated[
    int, typer.Option(metavar="N", min=1, help="search: workflows that are tried on each training set.")
]
_Budget = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="search: try no more workflows after so long on a training set; two runs may then differ.",
        show_default="no limit",
    ),
]


def evaluate(
    cube: Cube,
    target: _Target,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to; made if it is not there.")
    ],
    model: _Model = "search",
    features: _Features = None,
    covariate: _Covariates = None,
    harmonise: _Harmonise = "none",
    cutoff: _Cutoff = "pure",
    positive: _Positive = None,
    splits: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Splits from a CSV of patients with columns 0_train, 0_test, 1_train, ... (WORC's layout).",
            show_default=False,
        ),
    ] = None,
    external: Annotated[
        bool,
        typer.Option("--external", help="Fit on the rows whose column split is train, judge by those of external."),
    ] = False,
    leave_centre_out: Annotated[
        bool, typer.Option("--leave-centre-out", help="Judge by each centre, fitted on all others.")
    ] = False,
    n_splits: Annotated[int, typer.Option(metavar="N", min=2, help="Random splits of the patients, 80 to 20.")] = 100,
    stratum: Annotated[
        list[str] | None,
        typer.Option(metavar="COL", help="Give results for each value of this column too; may be repeated."),
    ] = None,
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="Deal the labels out at random: a control that must find nothing.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--everything", help="Split the rows whose column split is external too.")
    ] = False,
    fusion: _Fusion = "early",
    candidates: _Candidates = 20,
    budget: _Budget = None,
    coverage: Annotated[float, typer.Option(min=0.5, max=0.99, help="Of the prediction intervals.")] = 0.9,
    permutations: Annotated[int, typer.Option(min=1, help="Of the permutation test.")] = 1000,
    seed: _Seed = 0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    quiet: Quiet = False,
) -> None:
    """Judge a model by patients that it has not seen, beside its baselines.

    Writes metrics.json, predictions.csv and splits.csv to DIR; hgpscale
    report makes a page of them. All that is learned, selection and
    harmonisation among it, is learned in each training set anew.
    """
    from contextlib import nullcontext

    from hgpscale.engine.cluster import connect
    from hgpscale.learn.evaluating import Plan
    from hgpscale.learn.evaluating import evaluate as run
    from hgpscale.report.learning import print_evaluation
    from hgpscale.report.tables import counter

    schemes = {"--splits": splits is not None, "--external": external, "--leave-centre-out": leave_centre_out}
    chosen = [name for name, given in schemes.items() if given]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} exclude each other")
    scheme: Literal["repeated", "file", "external", "leave-centre-out"] = "repeated"
    if splits is not None:
        scheme = "file"
    elif external:
        scheme = "external"
    elif leave_centre_out:
        scheme = "leave-centre-out"
    plan = Plan(
        target,
        model,
        tuple(features or ()),
        tuple(covariate or ()),
        harmonise,
        cutoff,
        positive,
        scheme,
        None if splits is None else str(splits),
        n_splits,
        strata=tuple(stratum or ()),
        seed=seed,
        n_candidates=candidates,
        budget=budget,
        coverage=coverage,
        permutations=permutations,
        shuffle_labels=shuffle_labels,
        everything=everything,
        fusion=fusion,
    )
    with (
        counter("splits", quiet=quiet) as on_progress,
        nullcontext(None) if scheduler is None else connect(scheduler) as client,
    ):
        found = run(cube, plan, out, workers=workers, client=client, on_progress=on_progress)
    if not quiet:
        print_evaluation(found, out)


_OF_UPDATE = ("cube", "update", "everything", "quiet")
"""Parameters of `fit` that mean something where it goes on."""


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def fit(
    context: typer.Context,
    cube: Cube,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="T",
            help="pure, composition, multitask, or a column of the manifest.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="MODEL", help="File of the model, *.skops.", show_default=False),
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option(
            "--update",
            metavar="MODEL",
            help="Go on fitting this model, of sgd or mlp, with the lesions that it has not seen.",
            show_default=False,
        ),
    ] = None,
    model: _Model = "search",
    features: _Features = None,
    covariate: _Covariates = None,
    harmonise: _Harmonise = "none",
    cutoff: _Cutoff = "pure",
    positive: _Positive = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Fit on the rows whose column split is external too.")
    ] = False,
    fusion: _Fusion = "early",
    candidates: _Candidates = 20,
    budget: _Budget = None,
    coverage: Annotated[float, typer.Option(min=0.5, max=0.99, help="Of the prediction intervals.")] = 0.9,
    seed: _Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="search: processes that try workflows.", show_default="one a core"),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="search: try them on this Dask scheduler instead.", show_default=False),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fit a model on a cube and save it, or go on fitting one.

    The file holds no pickle, and of lesions' ids only keyed hashes; svm and
    search keep scaled features of single lesions in it. sgd and mlp read the
    cube in batches, so that it may be larger than memory.
    """
    from contextlib import nullcontext

    from hgpscale.engine.cluster import connect
    from hgpscale.learn.fitting import Options
    from hgpscale.learn.training import fit as run
    from hgpscale.learn.training import update as go_on
    from hgpscale.report.learning import print_fit

    if update is not None:
        others = [name for name in context.params if name not in _OF_UPDATE and _given(context, name)]
        if others:
            raise typer.BadParameter(f"--update does not take {_option(others[0])}: the model has it, or needs none")
        report = go_on(update, cube, everything=everything)
    else:
        if target is None or out is None:
            raise typer.BadParameter("--target and --out are needed, or --update")
        options = Options(seed, candidates, budget, coverage)
        with nullcontext(None) if scheduler is None else connect(scheduler) as client:
            report = run(
                cube,
                target,
                out,
                model=model,
                features=features or (),
                covariates=covariate or (),
                harmonise=harmonise,
                cutoff=cutoff,
                positive=positive,
                everything=everything,
                fusion=fusion,
                options=options,
                workers=workers,
                client=client,
            )
    if not quiet:
        print_fit(report, updated=update is not None)


def predict(
    cube: Cube,
    model: Annotated[Path, typer.Option("--model", "-m", metavar="MODEL", help="File that hgpscale fit made.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="TABLE", help="CSV to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TABLE if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Say what a model makes of every lesion and every patient of a cube.

    Refuses a cube whose features were made with other settings than the
    model's. Lesions without features are listed, and the exit status is 1.
    """
    from hgpscale.learn.predicting import check_free, write_predictions
    from hgpscale.learn.predicting import predict as run
    from hgpscale.report.learning import print_predictions
    from hgpscale.report.tables import counter

    check_free(out, overwrite=overwrite)
    with counter("lesions", quiet=quiet) as on_progress:
        found = run(model, cube, on_progress=on_progress)
    write_predictions(found, out, overwrite=overwrite)
    print_predictions(found, out, quiet=quiet)
    raise typer.Exit(1 if found.missing else 0)


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that evaluate wrote.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="Page to write.", show_default="DIR/report.html"),
    ] = None,
    cube: Annotated[
        Path | None,
        typer.Option(metavar="CUBE", help="Cube to take scans' paths from.", show_default="the one that was evaluated"),
    ] = None,
    inputs: Inputs = None,
) -> None:
    """Make one self-contained page of an evaluation: results, curves, cohort, limits, checklists."""
    from hgpscale.report.study import write_report
    from hgpscale.report.tables import print_line

    print_line(str(write_report(folder, output, cube=cube, inputs=inputs)))


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog=example("hgpscale evaluate cube.zarr --target pure --out results"))(evaluate)
    app.command(epilog=example("hgpscale fit cube.zarr --target composition --out model.skops"))(fit)
    app.command(epilog=example("hgpscale predict cube.zarr --model model.skops --out table.csv"))(predict)
    app.command(epilog=example("hgpscale report results"))(report)
