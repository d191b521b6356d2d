"""Stand-ins for the two kinds of task: they fail on the attempts that a table names and count every call.

Workers import this module by its name, so the table and the counts are files beside the "images".
"""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np

from hgpscale.contents import Contents
from hgpscale.engine.tasks import LesionTask, ScanTask
from hgpscale.errors import Failure, GpuLostError
from hgpscale.record import Record
from hgpscale.settings import Settings


class Cohort:
    """Scans named ``s0``, ``s1``, ... with lesions ``s0-0``, ``s0-1``, ..., and what shall happen to their tasks.

    `faults` maps ``"read s0"`` or ``"extract s0-1"`` to ``{attempt: kind}``; attempts count from 1.
    """

    def __init__(
        self, folder: Path, lesions_a_scan: list[int], faults: dict[str, dict[int, str]] | None = None
    ) -> None:
        self.folder = folder
        (folder / "faults.json").write_text(json.dumps(faults or {}))
        self.scans = [
            ScanTask(
                str(folder / f"s{number}"),
                tuple(LesionTask(f"s{number}-{index}", "default", "m") for index in range(lesions)),
            )
            for number, lesions in enumerate(lesions_a_scan)
        ]

    @property
    def lesions(self) -> list[str]:
        return [lesion.lesion for scan in self.scans for lesion in scan.lesions]

    @property
    def calls(self) -> Counter[str]:
        """How often each task has started."""
        return Counter({path.stem: path.stat().st_size for path in self.folder.glob("*.calls")})


def read(scan: ScanTask, settings: Settings) -> list[tuple[Path, LesionTask]]:
    assert isinstance(scan, ScanTask)
    _start(Path(scan.image).parent, f"read {Path(scan.image).name}")
    return [(Path(scan.image).parent, lesion) for lesion in scan.lesions]


def extract(item: tuple[Path, LesionTask], settings: Settings) -> Record:
    folder, lesion = item
    kind = _start(folder, f"extract {lesion.lesion}")
    keys = Contents.of(settings).keys if lesion.keys is None else lesion.keys
    values = {key: np.full(len(settings.features[key[2]]), 1.0) for key in keys}
    failures = {}
    if kind == "no glcm":
        key = next(key for key in values if key[2] == "glcm")
        failures[key] = Failure("features", "one grey level")
        del values[key]
    return Record(lesion.lesion, lesion.segmentation, "i", "m", 1, values, failures)


def _start(folder: Path, task: str) -> str | None:
    with (folder / f"{task}.calls").open("ab") as calls:
        calls.write(b".")
        attempt = calls.tell()
    kind: str | None = json.loads((folder / "faults.json").read_text()).get(task, {}).get(str(attempt))
    match kind:
        case "exit":
            os._exit(1)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "gpu lost":
            raise GpuLostError("the GPU no longer answers")
        case "bug":
            raise ZeroDivisionError("a bug in the task")
        case "missing":
            raise ModuleNotFoundError("No module named 'nowhere'")
        case "slow":
            time.sleep(0.5)
        case "long":
            time.sleep(9)
        case "hang":
            time.sleep(600)
    return kind


def write_manifest(folder: Path, lesions_a_scan: list[int]) -> Path:
    """Write the manifest of the rows that `Cohort` names, and return its path."""
    rows = [
        f"p{number},s{number}-{index},s{number},m"
        for number, lesions in enumerate(lesions_a_scan)
        for index in range(lesions)
    ]
    path = folder / "cohort.csv"
    path.write_text("\n".join(["patient,lesion,image,mask", *rows]))
    return path
