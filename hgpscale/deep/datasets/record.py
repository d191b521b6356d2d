"""What exports wrote into the folder of a data set, kept in export.json: nothing else is replaced or removed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hgpscale._version import __version__
from hgpscale.cohort.dicom.series import DicomSeries
from hgpscale.cohort.images import ImageFile, VoxelFile
from hgpscale.cohort.layouts.cases import MADE_BY
from hgpscale.deep.files import write_json, writing

RECORD, DESCRIPTION, CASES, SPLITS = "export.json", "dataset.json", "cases.csv", "splits_final.json"
_FILE = re.compile(r"(\w+/)?(images|labels)T[rs]/[A-Za-z0-9_-]+\.(nii\.gz|json)")


@dataclass(frozen=True)
class Entry:
    """What was written of one case, or of the folds.

    Attributes
    ----------
    files
        Where files are within the folder, with the digest of each; None where it may be replaced whatever it holds.
    source
        What the scan was made of, see `state_of`; '' as long as the case is not written whole.

    """

    files: Mapping[str, str | None] = field(default_factory=dict)
    source: str = ""


@dataclass
class Record:
    """The content of export.json.

    Attributes
    ----------
    folder
        Of the data set.
    digest
        Of the plan that is written, see `Plan.digest`.
    about
        What is said of it to people.
    cases
        What was written, by the name of the case.
    splits
        The same of the folds.

    """

    folder: Path
    digest: str
    about: dict[str, Any]
    cases: dict[str, Entry] = field(default_factory=dict)
    splits: Entry = field(default_factory=Entry)

    @classmethod
    def load(cls, folder: Path) -> Record | None:
        """Return the record in a folder; None where no export has left one."""
        try:
            content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            if content["made_by"] != MADE_BY:
                return None
            cases = {str(name): _entry(entry, _FILE) for name, entry in content["cases"].items()}
            splits = _entry(content["splits"], re.compile(re.escape(SPLITS)))
            return cls(folder, str(content["digest"]), {}, cases, splits)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def save(self) -> None:
        """Write it; errors as of `write_json`."""
        entries = {"splits": asdict(self.splits), "cases": {name: asdict(case) for name, case in self.cases.items()}}
        head = {"made_by": MADE_BY, "version": __version__, **self.about, "digest": self.digest}
        write_json(self.folder / RECORD, {**head, **entries})

    def put(self, case: str, entry: Entry) -> None:
        """Save what is written of a case."""
        self.cases[case] = entry
        self.save()

    def is_foreign(self, entry: Entry, file: str) -> bool:
        """Whether a file is there that no export wrote."""
        path = self.folder / file
        return file not in entry.files and (path.exists() or path.is_symlink())

    def is_changed(self, entry: Entry, file: str) -> bool:
        """Whether a file that an export wrote is there with another content."""
        path = self.folder / file
        return bool(entry.files.get(file)) and path.is_file() and digest_of(path) != entry.files[file]

    def is_whole(self, case: str) -> bool:
        """Whether all files of a case are written."""
        entry = self.cases.get(case, Entry())
        return bool(entry.source) and all((self.folder / file).is_file() for file in entry.files)

    def remove_case(self, case: str) -> None:
        """Remove what was written of a case, but for what was changed since."""
        entry = self.cases.get(case, Entry())
        self.remove(*(file for file in entry.files if not self.is_changed(entry, file)))

    def remove_all(self) -> None:
        """Remove every file that exports wrote, but for the record itself, and nothing else."""
        cases = [file for entry in self.cases.values() for file in entry.files]
        self.remove(DESCRIPTION, CASES, *self.splits.files, *cases)

    def remove(self, *files: str) -> None:
        """Remove files, where they are there."""
        for path in [self.folder / file for file in files]:
            with writing(path):
                path.unlink(missing_ok=True)


def _entry(content: Mapping[str, Any], expected: re.Pattern[str]) -> Entry:
    """Return an entry with the files that an export could have written: others may not be removed by a record."""
    files = {file: digest for file, digest in content["files"].items() if expected.fullmatch(file)}
    return Entry(files, str(content["source"]))


def digest_of(path: Path) -> str:
    """Return the digest of a file's bytes; errors as of `writing`."""
    with writing(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def state_of(image: ImageFile) -> str:
    """Return a digest of path, size and time of each file that a scan is made of.

    Equality is what counts, as a copy can be older than what it replaces. Paths are not kept themselves: a data set is
    passed on, and they may say who the patient is.

    Raises
    ------
    OSError
        A file is not there any more.

    """
    files: list[Path] = []
    if isinstance(image, VoxelFile) and image.header.voxels is not None:
        files = [image.header.path, image.header.voxels.path]
    elif isinstance(image, DicomSeries):
        files = sorted(image.files)
    stats = [(str(path), path.stat()) for path in files]
    text = json.dumps([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
