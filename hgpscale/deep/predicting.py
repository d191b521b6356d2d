"""Asks networks about scans and writes what they found: what `hgpscale deep predict` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hgpscale._version import __version__
from hgpscale.cohort import read_image
from hgpscale.cohort.layouts import LeftOut
from hgpscale.deep.answers import FoundLesion, Saliency, ScanAnswer, lesion_id
from hgpscale.deep.detection import Compared, compare, detection_summary
from hgpscale.deep.ensemble import Ensemble, choose_device
from hgpscale.deep.files import write_json, writing
from hgpscale.deep.finding import FoundInScan, find_lesions
from hgpscale.deep.hurdle import growth_of
from hgpscale.deep.masks import write_label_map, write_seg
from hgpscale.deep.saliency import attribute
from hgpscale.deep.scans import AskedScan, asked_scans
from hgpscale.deep.seeing import patient_logits
from hgpscale.deep.tables import write_lesions, write_predictions
from hgpscale.errors import DeepError, HgpscaleError, VoxelError, told
from hgpscale.volume import Geometry, Volume

if TYPE_CHECKING:
    import torch

    from hgpscale.cohort import Cohort
    from hgpscale.deep.network import Network

MASKS, LESIONS, PREDICTIONS, METRICS, RUN = "masks", "lesions.csv", "predictions.csv", "metrics.json", "run.json"
"""In the folder of a prediction: label maps; a manifest of found lesions; what is said of lesions and patients; how
lesions compare with drawn ones; what was asked."""


@dataclass(frozen=True)
class Options:
    """How scans are asked about.

    Attributes
    ----------
    threshold
        Probability from which a voxel belongs to a lesion, and score from which a candidate is one.
    overlap
        Share of a window that the next one looks at again.
    dicom_seg
        Whether lesions of DICOM series are written as DICOM SEG too.
    saliency
        Whether to tell which voxels speak for which pattern.
    segmentation
        Of a manifest: whose outlines to judge by; None: the only ones.
    device
        ``cpu``, ``gpu`` or ``auto``.

    """

    threshold: float = 0.5
    overlap: float = 0.5
    dicom_seg: bool = False
    saliency: bool = True
    segmentation: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Predicted:
    """What `predict_scans` did.

    Attributes
    ----------
    folder
        Where everything is.
    answers
        Of each scan; label maps are cut to the box of the lesions.
    saliency
        By lesion, one slice of each.
    detection
        How lesions compare with drawn ones, see `detection_summary`; None: nothing is drawn.
    problems
        Scans that could not be used.
    said
        What `RUN` holds.

    """

    folder: Path
    answers: tuple[ScanAnswer, ...]
    saliency: dict[str, Saliency]
    detection: dict[str, Any] | None
    problems: tuple[LeftOut, ...]
    said: dict[str, Any]


class _Asked(NamedTuple):
    """What came out of one scan, weak candidates included."""

    scan: AskedScan
    geometry: Geometry
    found: FoundInScan
    compared: Compared | None


def predict_scans(
    networks: str | Path,
    scans: str | Path,
    folder: str | Path,
    options: Options = Options(),  # it is frozen
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Find lesions in scans, tell how they and their patients grow, and write it all.

    A patient that some of the networks were trained on is asked of the others alone.

    Parameters
    ----------
    networks
        Folder, as `train_folds` leaves it.
    scans
        A manifest, a table with columns `patient` and `image`, a file, or the folder of a DICOM series.
    folder
        To write to; made where absent, files of an earlier prediction are replaced.
    options
        How.
    on_progress, on_window
        Called with scans that are done and their total; with windows of a scan.

    Raises
    ------
    ManifestError, DeepError
        The networks or the table cannot be used; all networks were trained on one of the patients; no scan could be
        used; or a file cannot be written. What is wrong with single scans is in `problems` instead.

    """
    if not (0 < options.threshold < 1 and 0 <= options.overlap < 1):
        raise DeepError(
            f"threshold is {options.threshold:g}, overlap {options.overlap:g}; expected 0 < threshold < 1, "
            "0 <= overlap < 1"
        )
    where = choose_device(options.device)
    ensemble, folder = Ensemble.open(networks), Path(folder)
    every, cohort = asked_scans(scans, segmentation=options.segmentation)
    asked = ensemble.asked([scan.patient for scan in every])
    loaded = ensemble.load(where)
    with writing(folder):
        (folder / MASKS).mkdir(parents=True, exist_ok=True)
        # Tables of an earlier prediction would speak of label maps that are replaced below.
        for file in (LESIONS, PREDICTIONS, METRICS, RUN):
            (folder / file).unlink(missing_ok=True)
    results = _Results(folder)
    of_patient: dict[str, list[AskedScan]] = {}
    for scan in every:
        of_patient.setdefault(scan.patient, []).append(scan)
    done = 0
    # A patient's scans are asked about one after the other, since its answer is made of all of them.
    for patient, some in of_patient.items():
        mine = [loaded[at] for at in asked[patient]]
        found = []
        for scan in some:
            if on_progress:
                on_progress(done, len(every))
            done += 1
            try:
                found.append(_ask(scan, mine, ensemble, options, where, on_window))
            except (HgpscaleError, OSError, MemoryError, RuntimeError) as error:  # of ITK and torch the last
                results.problems.append(LeftOut(scan.patient, str(scan.image), told(error)))
        for answer, one in _answers(found, mine, ensemble, options):
            results.take(answer, one, options)
            if options.saliency and "growth" in ensemble.learned:
                results.saliency |= _saliency(answer, one, mine, ensemble, where)
    if on_progress:
        on_progress(done, len(every))
    if not results.answers:
        first = results.problems[0]
        raise DeepError(f"{scans}: no scan could be used; {first.file}: {first.reason}")
    return _written(results, cohort, _said(ensemble, scans, options, results.answers))


@dataclass
class _Results:
    """What has come out so far; label maps are written at once."""

    folder: Path
    answers: list[ScanAnswer] = field(default_factory=list)
    saliency: dict[str, Saliency] = field(default_factory=dict)
    compared: list[tuple[str, Compared]] = field(default_factory=list)
    problems: list[LeftOut] = field(default_factory=list)
    masks: dict[str, Path] = field(default_factory=dict)

    def take(self, answer: ScanAnswer, asked: _Asked, options: Options) -> None:
        """Write the masks of a scan, and keep the rest of its answer."""
        self.masks[answer.case] = write_label_map(self.folder / MASKS, answer)
        if options.dicom_seg:
            try:
                write_seg(self.folder / MASKS, answer)
            except HgpscaleError as error:
                self.problems.append(LeftOut(answer.patient, str(answer.image), f"no DICOM SEG: {error}"))
        if asked.compared is not None:
            self.compared.append((answer.patient, asked.compared))
        self.answers.append(replace(answer, labels=_cropped(answer.labels)))


def _written(results: _Results, cohort: Cohort | None, said: dict[str, Any]) -> Predicted:
    """Write the tables, and return all."""
    folder, answers = results.folder, results.answers
    write_lesions(folder / LESIONS, answers, results.masks, cohort)
    write_predictions(folder / PREDICTIONS, answers, cohort)
    detection = None
    if results.compared:
        patients = [patient for patient, _ in results.compared]
        detection = detection_summary([one for _, one in results.compared], patients, 0)
        write_json(folder / METRICS, {"schema": "hgpscale-detection-1", **detection})
    write_json(folder / RUN, said)
    return Predicted(folder, tuple(answers), results.saliency, detection, tuple(results.problems), said)


def _ask(
    scan: AskedScan,
    networks: Sequence[Network],
    ensemble: Ensemble,
    options: Options,
    device: torch.device,
    on_window: Callable[[int, int], None] | None,
) -> _Asked:
    """Return what networks find in a scan, beside what is drawn in it."""
    image, _ = read_image(scan.image)
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise VoxelError(f"{scan.image}: it holds NaN or infinite voxels, of which networks can tell nothing")
    found = find_lesions(
        networks,
        image,
        ensemble.recipe,
        ensemble.spacing,
        liver=scan.liver_on(image.geometry),
        within_liver="liver" in ensemble.learned,
        threshold=options.threshold,
        overlap=options.overlap,
        device=device,
        on_window=on_window,
    )
    drawn = scan.drawn_on(image.geometry)
    compared = None
    if drawn is not None:
        spacing = image.geometry.spacing
        scores = found.instances.scores
        compared = compare(found.labels, scores, drawn, threshold=options.threshold, spacing=spacing)
    return _Asked(scan, image.geometry, found, compared)


def _answers(
    asked: Sequence[_Asked], networks: Sequence[Network], ensemble: Ensemble, options: Options
) -> Iterator[tuple[ScanAnswer, _Asked]]:
    """Yield the answer on each scan of one patient, without weak candidates."""
    grown = "growth" in ensemble.learned
    counts = [int((one.found.instances.scores >= options.threshold).sum()) for one in asked]
    patient = None
    if sum(counts) and "patient" in ensemble.learned:
        said = []
        for at, network in enumerate(networks):
            seen = [one.found.seen[at].embedding[:count] for one, count in zip(asked, counts, strict=True) if count]
            said.append(patient_logits(network, np.concatenate(seen), ["patient"] * sum(counts))[0])
        # The interval is of lesions: how wrong answers on patients are has not been measured.
        patient = growth_of(np.stack(said), ensemble.calibration._replace(half_width=float("nan")))
    for one, count in zip(asked, counts, strict=True):
        labels = np.where(one.found.labels <= count, one.found.labels, 0).astype(np.uint16)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        voxel = float(np.prod(one.geometry.spacing))
        lesions = []
        for number in range(1, count + 1):
            if not sizes[number]:  # surer ones cover it on the scan's wider grid
                continue
            logits = np.stack([seen.logits[number - 1] for seen in one.found.seen])
            lesions.append(
                FoundLesion(
                    number,
                    lesion_id(one.scan.name, number),
                    float(one.found.instances.scores[number - 1]),
                    float(sizes[number] * voxel),
                    growth_of(logits, ensemble.calibration) if grown else None,
                )
            )
        volume = Volume(labels, one.geometry)
        yield ScanAnswer(one.scan.patient, one.scan.name, one.scan.image, volume, tuple(lesions), patient), one


def _saliency(
    answer: ScanAnswer, asked: _Asked, networks: Sequence[Network], ensemble: Ensemble, device: torch.device
) -> dict[str, Saliency]:
    low, high = ensemble.recipe.window
    first, *_, last = ensemble.recipe.shells
    found = {}
    for lesion in answer.lesions:
        crop = asked.found.crops[lesion.number - 1]
        assert crop.distance is not None, "it is a lesion's"
        found[lesion.lesion] = Saliency(
            (crop.image * (high - low) + low).astype(np.float32),
            ensemble.spacing,
            crop.distance <= 0,
            (crop.distance >= first) & (crop.distance <= last),
            attribute(networks, crop, device),
        ).shown()
    return found


def _cropped(labels: Volume) -> Volume:
    """Return the box that holds all lesions: answers of a whole cohort are kept to the end."""
    there = [np.flatnonzero((labels.array > 0).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not there[0].size:
        return labels.crop((0, 0, 0), (1, 1, 1))
    lower, upper = ([int(at[end]) for at in there] for end in (0, -1))
    return labels.crop((lower[0], lower[1], lower[2]), (upper[0] + 1, upper[1] + 1, upper[2] + 1))


def _said(ensemble: Ensemble, scans: str | Path, options: Options, answers: Sequence[ScanAnswer]) -> dict[str, Any]:
    return {
        "schema": "hgpscale-prediction-1",
        "version": __version__,
        "networks": str(ensemble.folder),
        "digests": [member.digest for member in ensemble.members],
        "size": ensemble.recipe.size,
        "spacing": list(ensemble.spacing),
        "learned": sorted(ensemble.learned),
        "shuffled": ensemble.shuffled,
        "patch": [n * step for n, step in zip(ensemble.recipe.patch, ensemble.spacing, strict=True)],
        "scans": str(scans),
        "threshold": options.threshold,
        "overlap": options.overlap,
        "patients": len({answer.patient for answer in answers}),
        "answered": len(answers),
        "lesions": sum(len(answer.lesions) for answer in answers),
    }
