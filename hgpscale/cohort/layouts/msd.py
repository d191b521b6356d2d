"""The Medical Segmentation Decathlon: Task03_Liver and Task08_HepaticVessel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Options, Outline
from hgpscale.cohort.layouts.names import LIVER, tumour_of
from hgpscale.errors import ManifestError


def _find(root: Path, options: Options) -> Iterator[Found | LeftOut]:
    path = root / "dataset.json"
    try:
        dataset = json.loads(path.read_text(encoding="utf-8"))
        labels = [(str(name).lower(), int(value)) for value, name in dataset["labels"].items()]
        cases = [(root / case["image"], root / case["label"]) for case in dataset["training"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{path}: expected a task's dataset.json with 'labels' and 'training' ({type(error).__name__}: {error}); "
            "give the folder of the task, such as Task03_Liver"
        ) from error
    tumour = tumour_of(path, labels)
    for image, mask in sorted(cases):
        # Task08 has no liver: its other label is the vessels.
        liver = mask if LIVER in dict(labels) else None
        yield Found(mask.name.partition(".")[0], image, (Outline(mask, label=tumour),), liver)


MSD = Layout("msd", "Medical Segmentation Decathlon: Task03_Liver or Task08_HepaticVessel with dataset.json", _find)
