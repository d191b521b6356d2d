"""Draw what `bench_stages.py` measured: milliseconds of each step by lesion size, and by number of grey levels.

python benchmarks/plot_stages.py stages.json stages.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Curves = dict[str, dict[int, float]]


def read(path: Path) -> tuple[Curves, Curves]:
    """Return medians in ms by step and size in mm, and by step and number of levels."""
    by_size: Curves = defaultdict(dict)
    by_levels: Curves = defaultdict(dict)
    for one in json.loads(path.read_text())["benchmarks"]:
        chosen: dict[str, Any] = dict(one["params"])
        curves, axis = (by_levels, "levels") if "levels" in chosen else (by_size, "size")
        at = chosen.pop(axis)
        name = " ".join(chosen.values()) or one["name"].removeprefix("test_").split("[")[0].replace("_", " ")
        curves[name][at] = 1e3 * one["stats"]["median"]
    return by_size, by_levels


def draw(by_size: Curves, by_levels: Curves) -> Any:
    """Return a figure of two log-log panels; the steps' names stand at the ends of their lines."""
    figure, panels = plt.subplots(1, 2, figsize=(15, 8), width_ratios=(3, 2), layout="constrained")
    for axes, curves, label in zip(panels, (by_size, by_levels), ("lesion, mm", "grey levels"), strict=True):
        ordered = sorted(curves.items(), key=lambda item: -item[1][max(item[1])])
        for number, (name, points) in enumerate(ordered):
            style = ("-", "--", ":")[number // 10 % 3]
            x = sorted(points)
            axes.plot(x, [points[at] for at in x], style, marker="o", markersize=3, label=name)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms, median")
        ticks = sorted({at for points in curves.values() for at in points})
        axes.set_xticks(ticks, [str(at) for at in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, title="slowest first", loc="upper left", bbox_to_anchor=(1, 1))
    panels[0].set_title("one image of a lesion at 1 mm")
    panels[1].set_title("45 mm, binCount")
    return figure


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    parser.add_argument("figure", type=Path)
    options = parser.parse_args()
    draw(*read(options.measured)).savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
