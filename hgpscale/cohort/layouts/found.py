"""What a layout says of an archive: scans with their outlines, and what it could not use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hgpscale.cohort.manifest import DEFAULT_SEGMENTATION


@dataclass(frozen=True)
class Outline:
    """One region of one mask file.

    Attributes
    ----------
    mask
        The file.
    segmentation
        Who outlined it.
    roi, label
        Which segment, or which value of a label map; empty and None: everything that is not 0.
    lesion
        The lesion's number or name within the patient; '' where the patient has one lesion; None: the region may
        hold several, split it.

    """

    mask: Path
    segmentation: str = DEFAULT_SEGMENTATION
    roi: str = ""
    label: int | None = None
    lesion: str | None = None


@dataclass(frozen=True)
class Found:
    """One scan of one patient: an image, outlines of lesions and perhaps a liver.

    `patient` is the name that the archive's folders or files give, never one from a header. `image` is a file, or
    the folder of a DICOM series. `liver_roi` is as of `Outlines.organ`. `scan` tells it from the patient's other scans,
    '' where there is one. `split` is the manifest's column; '' where the archive does not say.
    """

    patient: str
    image: Path
    outlines: tuple[Outline, ...]
    liver: Path | None = None
    liver_roi: str = ""
    scan: str = ""
    split: str = ""

    @property
    def stem(self) -> str:
        """What ids of lesions and names of label maps begin with."""
        return f"{self.patient}-{self.scan}" if self.scan else self.patient


@dataclass(frozen=True)
class LeftOut:
    """What could not be used: of which patient ('' where it is of none), which file, and why."""

    patient: str
    file: str
    reason: str


@dataclass(frozen=True)
class Note:
    """What a person should know of an archive, though nothing is left out for it: one sentence."""

    text: str


@dataclass(frozen=True)
class Options:
    """What a layout is told that does not know its archive; `Layout.takes` says which of it.

    Attributes
    ----------
    image, mask, liver
        Globs within a patient's folder; `mask` may hold ``{lesion}`` and ``{rater}``. Of `nnunet` `mask` are the
        folders of predictions.
    split
        Whether a mask may hold several lesions.

    """

    image: str = ""
    mask: str = ""
    liver: str = ""
    split: bool = False


@dataclass(frozen=True)
class Layout:
    """How an archive is laid out.

    Attributes
    ----------
    name, summary
        What it is called, and one line for ``--help``.
    find
        Yields what lies below a folder, in an order that does not depend on the file system.
    sheets
        Globs of tables (CSV) below the root whose columns belong to the patients.
    missing
        What those tables write where a value is missing.
    takes
        Which of the `Options` it reads; others are refused.

    """

    name: str
    summary: str
    find: Callable[[Path, Options], Iterator[Found | LeftOut | Note]]
    sheets: tuple[str, ...] = ()
    missing: tuple[str, ...] = field(default=())
    takes: tuple[str, ...] = ()


def folders_of(root: Path) -> list[Path]:
    """Return the folders in `root` by name, hidden ones left out."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def one_of(folder: Path, *globs: str) -> Path | str:
    """Return the only file that the globs find in `folder`, or what is wrong, in one sentence."""
    files = sorted({path for glob in globs for path in folder.glob(glob) if not path.name.startswith(".")})
    if len(files) == 1:
        return files[0]
    names = ", ".join(path.name for path in files[:3])
    return f"{' or '.join(globs)}: expected one file, found {len(files)}{f' ({names})' if files else ''}"
