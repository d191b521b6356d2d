"""How data sets of other tools are laid out: what their folders, label maps and descriptions are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hgpscale.cohort.layouts.cases import MADE_BY
from hgpscale.deep.cases import Case
from hgpscale.deep.drawing import Drawing, semantic

ENDING = ".nii.gz"
_KINDS = ("images", "labels")
_FOLDERS = {"train": "Tr", "external": "Ts"}


@dataclass(frozen=True)
class Described:
    """What the description of a data set is made of.

    Attributes
    ----------
    title
        Name of its folder.
    name
        Its name without the number.
    classes
        Names of lesions' classes, by number.
    liver
        Whether label maps hold the liver.
    counts
        Scans by `split`.

    """

    title: str
    name: str
    classes: Sequence[str]
    liver: bool
    counts: Mapping[str, int]


@dataclass(frozen=True)
class DataSetLayout:
    """One tool's data sets.

    Attributes
    ----------
    name
        Of the tool, as ``--layout`` takes it.
    title
        Of a data set's folder, with places for ``number`` and ``name``.
    inner
        Folder in it that holds images and labels; '' for itself.
    classed
        Whether lesions may have classes, and are kept apart in label maps.
    labels
        Makes a label map.
    instances
        Content of the JSON file beside a label map; None: there is no such file.
    describe
        Makes dataset.json.
    next
        What to run then, with the place ``number``.

    """

    name: str
    title: str
    inner: str
    classed: bool
    labels: Callable[[Drawing], NDArray[Any]]
    instances: Callable[[Case], dict[str, Any]] | None
    describe: Callable[[Described], dict[str, Any]]
    next: str

    def image(self, case: Case) -> str:
        """Return where a case's image is within the data set's folder."""
        return self._path("images", case, f"_0000{ENDING}")

    def label(self, case: Case) -> str:
        """Return where its label map is."""
        return self._path("labels", case, ENDING)

    def beside(self, case: Case) -> str:
        """Return where the file beside its label map is, if there is one."""
        return self._path("labels", case, ".json")

    def files(self, case: Case) -> list[str]:
        """Return where all its files are, the image last."""
        return [self.label(case), *([self.beside(case)] if self.instances else []), self.image(case)]

    def folders(self) -> list[str]:
        """Return where cases are within the data set's folder."""
        return ["/".join(filter(None, (self.inner, f"{kind}{of}"))) for kind in _KINDS for of in _FOLDERS.values()]

    def _path(self, kind: str, case: Case, ending: str) -> str:
        return "/".join(filter(None, (self.inner, f"{kind}{_FOLDERS[case.split]}", f"{case.name}{ending}")))


def _instances(drawing: Drawing) -> NDArray[Any]:
    return drawing.instances


def _classes(case: Case) -> dict[str, Any]:
    return {"instances": {str(number): value for number, value in enumerate(case.classes, start=1)}}


def _nnunet(about: Described) -> dict[str, Any]:
    names = ["background", *(["liver"] if about.liver else []), *about.classes]
    return {
        "name": about.title,
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(names)},
        "numTraining": about.counts["train"],
        "file_ending": ENDING,
        "made_by": MADE_BY,
    }


def _nndetection(about: Described) -> dict[str, Any]:
    return {
        "task": about.title,
        "name": about.name,
        "target_class": None,
        "test_labels": about.counts["external"] > 0,
        "labels": {str(value): name for value, name in enumerate(about.classes)},
        "modalities": {"0": "CT"},
        "dim": 3,
        "made_by": MADE_BY,
    }


LAYOUTS = {
    layout.name: layout
    for layout in (
        DataSetLayout(
            "nnunet",
            "Dataset{number:03d}_{name}",
            "",
            False,
            semantic,
            None,
            _nnunet,
            "nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity",
        ),
        DataSetLayout(
            "nndetection",
            "Task{number:03d}_{name}",
            "raw_splitted",
            True,
            _instances,
            _classes,
            _nndetection,
            "nndet_prep {number:03d}",
        ),
    )
}
