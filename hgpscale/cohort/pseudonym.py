"""Pseudonyms: a patient's id replaced by a keyed hash, the same for the same key."""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from hgpscale.cohort.layouts import Found, LeftOut
from hgpscale.errors import ManifestError

_SHORTEST = 16
_SHOWN = 16
_PSEUDONYM = f"P-[0-9a-f]{{{_SHOWN}}}"
_TELLING = 3
"""Shorter ids, and numbers below 1000, are not looked for in sentences: they could be any number there."""
_HOW = "make one with: head -c 32 /dev/urandom > keyfile; chmod 600 keyfile"


def pseudonym(patient: str, key: bytes) -> str:
    """Return ``P-`` and the first 16 hexadecimal digits of the HMAC-SHA256 of a patient's id (UTF-8) under `key`."""
    return f"P-{hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:_SHOWN]}"


def read_key(path: str | Path) -> bytes:
    """Return the bytes of a key file.

    Raises
    ------
    ManifestError
        It cannot be read, is shorter than 16 bytes, or others than its owner may read it. No message shows the key.

    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: the key cannot be read: {error.strerror or error}; {_HOW}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ManifestError(
            f"{path}: others than its owner may read this key (mode {stat.S_IMODE(mode):03o}): chmod 600 {path}"
        )
    if len(key) < _SHORTEST:
        raise ManifestError(f"{path}: the key has {len(key)} bytes, expected at least {_SHORTEST}; {_HOW}")
    return key


class Veil:
    """Puts pseudonyms in the place of patients' ids, and of paths below the archive's folder, in what is printed.

    Parameters
    ----------
    key
        The pseudonyms' key.
    items
        What a layout found: its patients and files are those that are known.

    """

    def __init__(self, key: bytes, items: Iterable[Found | LeftOut]) -> None:
        self._key = key
        self._ids: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        for item in items:
            if item.patient:
                self._ids[item.patient] = pseudonym(item.patient, key)
            if isinstance(item, LeftOut):
                self._know(item.patient, Path(item.file), "file")
                continue
            self._know(item.patient, item.image, "image")
            if item.liver is not None:
                self._know(item.patient, item.liver, "liver")
            for outline in item.outlines:
                self._know(item.patient, outline.mask, "mask")

    def _know(self, patient: str, path: Path, role: str) -> None:
        """Show a file by its name within the patient's folder; where there is no such folder, by what it is."""
        name = path.name
        own = patient in path.parts[:-1] and not _holds(name, patient)
        new = self._ids.get(patient, role)
        if own:
            self._texts[str(path)] = f"{new}/{name}"
        elif name == patient:
            self._texts[str(path)] = new
        else:
            self._texts[str(path)] = f"{new}/{role}"
            self._texts[name] = role

    def name(self, known: str) -> str:
        """Return the pseudonym of a patient, or of the patient in a lesion's id."""
        if known in self._ids:
            return self._ids[known]
        patient = max((name for name in self._ids if known.startswith(f"{name}-")), key=len, default="")
        return self._ids[patient] + known.removeprefix(patient) if patient else pseudonym(known, self._key)

    def text(self, text: str) -> str:
        """Return a sentence without ids and paths of the archive."""
        known = {name: new for name, new in self._ids.items() if _is_telling(name)} | self._texts
        shown = {old.lower(): new for old, new in known.items()}
        # In one pass, so that nothing is looked for in a pseudonym.
        parts = [_PSEUDONYM, *map(re.escape, sorted(known, key=len, reverse=True))]
        return re.sub("|".join(parts), lambda found: shown.get(found[0].lower(), found[0]), text, flags=re.IGNORECASE)

    def problem(self, problem: LeftOut) -> LeftOut:
        """Return a problem without ids and paths of the archive."""
        patient = self._ids.get(problem.patient, "")
        return LeftOut(patient, self.text(problem.file), self.text(problem.reason))

    def tells(self, cell: str) -> bool:
        """Whether a cell of a table holds a patient's id."""
        return cell in self._ids or any(_is_telling(name) and _holds(cell, name) for name in self._ids)


def _is_telling(name: str) -> bool:
    return len(name) > _TELLING if name.isdecimal() else len(name) >= _TELLING


def _holds(text: str, name: str) -> bool:
    return name.lower() in text.lower()
