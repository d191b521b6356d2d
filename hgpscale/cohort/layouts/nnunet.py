"""nnU-Net, version 2: a raw data set with dataset.json, and predictions of its scans."""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from hgpscale.cohort.layouts.cases import CASES, is_export, patients_of
from hgpscale.cohort.layouts.folder import mask_pattern
from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Note, Options, Outline
from hgpscale.cohort.layouts.names import LIVER, TUMOUR, tumour_of
from hgpscale.cohort.manifest import DEFAULT_SEGMENTATION
from hgpscale.errors import ManifestError

RATER = "nnunet"
"""Segmentation of predictions, where --mask does not name it."""
_PREDICTIONS = "predictions"
_SHOWN = 5
_SETS = (("imagesTr", "labelsTr", "train"), ("imagesTs", "labelsTs", "external"))
"""Folders of images and of labels, and what `split` they are; labels of the second are there in some data sets."""


@dataclass(frozen=True)
class _DataSet:
    """What dataset.json says: the tumours' value, the liver's ('' for all that is not 0; None: no liver)."""

    tumour: int
    liver: str | None
    channel: int
    ending: str
    files: Mapping[str, tuple[str, str]]
    """Image and label of each case that is listed, variables of the environment in them; others are in folders."""
    problems: tuple[str, ...]
    ours: bool
    """Whether `hgpscale deep export` made it: its cases.csv must then say whose each case is."""


@dataclass(frozen=True)
class _Case:
    name: str
    split: str
    image: Path
    label: Path
    patient: str = ""


@dataclass(frozen=True)
class _Prediction:
    case: str
    rater: str
    file: Path


def _find(root: Path, options: Options) -> Iterator[Found | LeftOut | Note]:
    path = root / "dataset.json"
    dataset = _data_set(path)
    yield from (LeftOut("", str(path), problem) for problem in dataset.problems)
    patients, note = patients_of(root / CASES, needed=dataset.ours)
    if note:
        yield Note(note)
    cases = [replace(case, patient=patients.get(case.name, case.name)) for case in _cases(root, dataset)]
    predicted: dict[str, dict[str, Path]] = {}
    folders = _predictions(root, options.mask)
    raters = _raters(folders)
    changed = [(old, new) for old, new in raters.items() if old != new]
    yield from (Note(f"rater {old} is written {new}: '__' is reserved for names of columns") for old, new in changed)
    folders = [(folder, raters[rater]) for folder, rater in folders]
    for prediction in _predicted(root, folders, cases, patients, dataset):
        if isinstance(prediction, LeftOut):
            yield prediction
        else:
            predicted.setdefault(prediction.case, {})[prediction.rater] = prediction.file
    trained = {case.patient for case in cases if case.split == "train"}
    found: list[Found] = []
    unlisted: list[str] = []
    for case in cases:
        for item in _outlined(case, dataset, predicted.get(case.name, {}), root):
            if isinstance(item, LeftOut):
                yield item
            elif reason := _unusable(case, trained, patients, dataset):
                yield LeftOut(case.patient, str(case.image), reason)
            else:
                found.append(item)
                unlisted += [case.name] if case.name not in patients else []
    if patients and unlisted:
        names = ", ".join(unlisted[:_SHOWN]) + (", ..." if len(unlisted) > _SHOWN else "")
        yield Note(f"{root / CASES}: it lacks {len(unlisted)} of {len(found)} cases, each taken for a patient: {names}")
    yield from _of_patients(found)


def _unusable(case: _Case, trained: Collection[str], patients: Mapping[str, str], dataset: _DataSet) -> str:
    """Return why a scan cannot be in the cohort, '' where it can."""
    if case.split == "external" and case.patient in trained:
        return "its patient is one of imagesTr too: a network that was trained on him cannot be tested on him"
    if dataset.ours and case.name not in patients:
        return f"{CASES} does not say whose this case is: add a row with its case and patient"
    return ""


def _data_set(path: Path) -> _DataSet:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = [(str(name).lower(), _values(value)) for name, value in content["labels"].items()]
        channels = {int(number): str(name) for number, name in content["channel_names"].items()}
        ending = str(content["file_ending"])
        listed = {
            str(case): (files["images"], str(files["label"])) for case, files in content.get("dataset", {}).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{path}: expected nnU-Net's dataset.json with 'labels' (name to value), 'channel_names' and 'file_ending' "
            f"({type(error).__name__}: {error}); give the folder of a raw data set, such as Dataset101_Liver "
            "(a Decathlon task is layout msd)"
        ) from error
    if any("/" in case or "\\" in case for case in listed):
        raise ManifestError(f"{path}: the name of a case in 'dataset' has a slash; expected names of files without one")
    tumour = tumour_of(path, labels)
    if len(tumour) != 1:
        raise ManifestError(
            f"{path}: expected a label of one value named {' or '.join(TUMOUR)}, found values "
            f"{', '.join(map(str, tumour))}"
        )
    channel = _channel(path, channels)
    liver, problems = _liver(dict(labels), tumour)
    files = {case: (str(images[channel]), label) for case, (images, label) in listed.items() if channel < len(images)}
    return _DataSet(tumour[0], liver, channel, ending, files, problems, is_export(path.parent, content))


def _values(value: Any) -> tuple[int, ...]:
    """Return a label's values: a region that is trained on as one has several."""
    return tuple(map(int, value)) if isinstance(value, list) else (int(value),)


def _channel(path: Path, channels: Mapping[int, str]) -> int:
    """Return the number of the CT among the images of a case."""
    ct = [number for number, name in channels.items() if name.upper() == "CT"] or list(channels)
    if len(ct) != 1:
        raise ManifestError(f"{path}: expected one channel named CT, found {', '.join(channels.values()) or 'none'}")
    return ct[0]


def _liver(labels: Mapping[str, tuple[int, ...]], tumour: tuple[int, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return what the manifest says of the liver's value, and what is to be told of it."""
    if LIVER not in labels:
        return None, ()
    every = {value for values in labels.values() for value in values if value}
    of_liver = {*labels[LIVER], *tumour}
    if of_liver == every:
        return "", ()
    if len(labels[LIVER]) == 1:
        return str(labels[LIVER][0]), ()
    told = f"label liver is of values {', '.join(map(str, labels[LIVER]))}, expected one, or all that there are"
    return None, (f"{told}: the lesions are listed without liver",)


def _predicted(
    root: Path,
    folders: Sequence[tuple[Path, str]],
    cases: Sequence[_Case],
    patients: Mapping[str, str],
    dataset: _DataSet,
) -> Iterator[_Prediction | LeftOut]:
    """Yield every prediction that is of one scan, and what is wrong with others."""
    sets = Counter(case.name for case in cases)
    first: dict[tuple[str, str], Path] = {}
    for folder, rater in folders:
        for name, file in _by_case(folder, dataset.ending).items():
            before = first.setdefault((name, rater), file)
            reason = ""
            if before != file:
                there = _below(before.parent, root)
                reason = f"{there} has a file of the same case and rater: tell them apart by {{rater}} in --mask"
            elif not sets[name]:
                reason = f"no image of this prediction: expected {_image_name('CASE', dataset)} in imagesTr or imagesTs"
            elif sets[name] > 1:
                reason = "imagesTr and imagesTs have a case of this name: of which scan it is cannot be told"
            if reason:
                yield LeftOut(patients.get(name, name), str(file), reason)
            else:
                yield _Prediction(name, rater, file)


def _predictions(root: Path, pattern: str) -> list[tuple[Path, str]]:
    """Return the folders of predictions and their raters; a pattern that finds none is an error."""
    if not pattern:
        return [(root / _PREDICTIONS, RATER)] if (root / _PREDICTIONS).is_dir() else []
    pattern = pattern.rstrip("/")
    names = mask_pattern(pattern)
    if "lesion" in names.groupindex:
        raise ManifestError(
            f"--mask is {pattern!r}: nnU-Net's label maps hold several lesions; expected only {{rater}}"
        )
    # Not by `Path.glob`, which takes no absolute pattern: results of nnU-Net are elsewhere than its raw data.
    paths = sorted(glob.glob(pattern.replace("{rater}", "*"), root_dir=root))  # noqa: PTH207
    found = [(path, match) for path in paths if (match := names.fullmatch(path))]
    own = {name for images, labels, _ in _SETS for name in (images, labels)}
    own_folders = {(root / name).resolve() for name in own}
    folders = [
        (root / path, rater)
        for path, match in found
        if (rater := match.groupdict().get("rater", RATER)) not in own
        and (root / path).is_dir()
        and (root / path).resolve() not in own_folders
    ]
    if not folders:
        raise ManifestError(f"{root}: no folder of predictions matches --mask {pattern!r}; expected CASE.nii.gz in it")
    return folders


def _raters(folders: Sequence[tuple[Path, str]]) -> dict[str, str]:
    """Return how the manifest writes the raters of folders: nnU-Net's own names hold ``__``, which it does not take.

    Raises
    ------
    ManifestError
        One is that of the drawn outlines, or two would be one.

    """
    raters = {rater: rater.replace("__", "-") for _, rater in folders}
    if DEFAULT_SEGMENTATION in raters.values():
        raise ManifestError(
            f"--mask: a rater is named {DEFAULT_SEGMENTATION!r}, as the drawn outlines are; rename its folder"
        )
    if len(set(raters.values())) < len(raters):
        raise ManifestError(f"--mask: of the raters {', '.join(raters)} some would have one name: '__' is written '-'")
    return raters


def _by_case(folder: Path, ending: str) -> dict[str, Path]:
    """Return the files of a folder by name without its ending; none where there is no such folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {
        file.name.removesuffix(ending): file for file in files if file.name.endswith(ending) and file.name[0] != "."
    }


def _image_name(case: str, dataset: _DataSet) -> str:
    return f"{case}_{dataset.channel:04d}{dataset.ending}"


def _cases(root: Path, dataset: _DataSet) -> list[_Case]:
    """Return every case that has an image or a label, in order of sets and names; no file need be there."""
    listed = {case: [root / os.path.expandvars(file) for file in files] for case, files in dataset.files.items()}
    found = [_Case(case, "train", files[0], files[1]) for case, files in sorted(listed.items())]
    for images, labels, split in _SETS:
        suffix = _image_name("", dataset)
        names = {*_by_case(root / images, suffix), *_by_case(root / labels, dataset.ending)}
        names -= set(listed) if split == "train" else set()
        for name in sorted(names):
            image, label = root / images / _image_name(name, dataset), root / labels / f"{name}{dataset.ending}"
            found.append(_Case(name, split, image, label))
    return found


def _outlined(case: _Case, dataset: _DataSet, predicted: Mapping[str, Path], root: Path) -> Iterator[Found | LeftOut]:
    """Yield a case with its outlines, and what of it is missing."""
    drawn = case.label.is_file()
    if not case.image.is_file():
        yield LeftOut(
            case.patient, str(case.label), f"no image of this label: expected {_expected(case.image, case, root)}"
        )
        return
    if not drawn and (case.split == "train" or case.label.parent.is_dir()):
        yield LeftOut(
            case.patient, str(case.image), f"no label of this image: expected {_expected(case.label, case, root)}"
        )
    outlines = [Outline(case.label, label=dataset.tumour)] if drawn else []
    outlines += [Outline(file, rater, label=dataset.tumour) for rater, file in sorted(predicted.items())]
    if outlines:
        liver = None if dataset.liver is None else outlines[0].mask
        yield Found(case.patient, case.image, tuple(outlines), liver, dataset.liver or "", split=case.split)


def _expected(path: Path, case: _Case, root: Path) -> str:
    # A case can be named after its patient, whom no sentence must name.
    return _below(path, root).replace(case.name, "CASE")


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _of_patients(found: Sequence[Found]) -> Iterator[Found]:
    """Yield scans by their patient, those of one numbered; `split` is given where both sets are there."""
    scans: dict[str, list[Found]] = {}
    for scan in found:
        scans.setdefault(scan.patient, []).append(scan)
    both = len({scan.split for scan in found}) > 1
    for patient, of_patient in scans.items():
        # Scan 1 of A must not share the lesions' ids with a patient A-1.
        numbers = (str(number) for number in count(1) if f"{patient}-{number}" not in scans)
        for scan in of_patient:
            which = next(numbers) if len(of_patient) > 1 else ""
            yield replace(scan, scan=which, split=scan.split if both else "")


NNUNET = Layout(
    "nnunet",
    "nnU-Net's raw data set with dataset.json; predictions of its scans in predictions or --mask",
    _find,
    takes=("mask",),
)
