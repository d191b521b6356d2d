"""Tables of other people's features: the default search beside a plain elastic net, in the same splits.

Imports each table of radMLBench (github.com/aydindemircioglu/radMLBench: a gzipped CSV with the columns ID and
Target) and evaluates both models as `hgpscale evaluate` does. Prints the mean AUC of each with its corrected interval,
the difference with the corrected test (Nadeau and Bengio 2003), the time, and the mean difference over the tables.

    python benchmarks/radmlbench.py FOLDER_OF_TABLES --work FOLDER --splits 100 --workers 2

A table that has been evaluated in the folder of work is not evaluated again.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from scipy.stats import norm

from hgpscale import import_table
from hgpscale.learn.evaluating import METRICS_FILE, Plan, evaluate
from hgpscale.learn.intervals import corrected_difference, corrected_interval

MODELS = ("search", "elastic-net")


def evaluated(table: Path, model: str, work: Path, splits: int, workers: int) -> dict[str, Any]:
    """Return what an evaluation of a table found, from an earlier run where there is one."""
    out = work / f"{table.stem}-{model}-{splits}"
    if (out / METRICS_FILE).exists():
        return json.loads((out / METRICS_FILE).read_text("utf-8"))
    cube = work / f"{table.stem}.zarr"
    if not cube.exists():
        import_table(table, cube, id_column="ID", targets="Target")
    return evaluate(cube, Plan("Target", model, n_splits=splits), out, workers=workers)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    differences, errors = [], []
    for table in sorted(options.tables.glob("*.gz")):
        found = {m: evaluated(table, m, options.work, options.splits, options.workers) for m in MODELS}
        aucs = [[math.nan if v is None else v for v in found[m]["auc"]["per_split"]] for m in MODELS]
        ratio = sum(test / train for train, test in found["search"]["splits"]["sizes"]) / options.splits
        d = corrected_difference(*aucs, ratio)
        differences.append(d.mean)
        errors.append((d.high - d.low) / 2 / norm.ppf(0.975))
        cohort = found["search"]["cohort"]
        print(f"{table.stem}: {cohort['lesions']} x {cohort['features']}")
        for model, values in zip(MODELS, aucs, strict=True):
            auc = corrected_interval(values, ratio, bounds=(0, 1))
            took = found[model]["seconds"]
            print(f"  {model:12} AUC {auc.mean:.3f} ({auc.low:.3f} to {auc.high:.3f}), {took:.0f} s")
        print(f"  difference   {d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}), p {d.p:.2g}", flush=True)
    n = len(differences)
    mean, error = sum(differences) / n, math.sqrt(sum(e**2 for e in errors)) / n
    p = 2 * norm.sf(abs(mean) / error)
    print(
        f"over {n} tables: search minus elastic net {mean:+.3f} "
        f"({mean - 1.96 * error:+.3f} to {mean + 1.96 * error:+.3f}), p {p:.2g}; tables taken as independent"
    )


if __name__ == "__main__":
    main()
