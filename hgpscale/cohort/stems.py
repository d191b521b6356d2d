"""Names of the files that a cohort's making writes: safe on every file system, and no two of them equal."""

from __future__ import annotations

import re
from pathlib import Path

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST = 200
"""Characters; file systems take 255 bytes, with ending and mark of a file that is being written."""


class MaskFiles:
    """Gives out paths of label maps in one folder.

    Parameters
    ----------
    folder
        Where they lie.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()

    def new(self, name: str) -> Path:
        """Return a path that was not given out before, for a name that a table or a folder gives.

        Other characters than letters, digits, ``_``, ``-`` and ``.`` become ``-``, and no stem begins with a dot.
        Names whose stems would be equal, upper or lower case, get ``-2``, ``-3`` and so on.
        """
        plain = _UNSAFE.sub("-", name).lstrip(".")[:_LONGEST] or "mask"
        stem, number = plain, 1
        while stem.lower() in self._taken:
            number += 1
            stem = f"{plain}-{number}"
        self._taken.add(stem.lower())
        path = self.folder / f"{stem}.nrrd"
        # Names come from tables that others wrote: nothing may be written elsewhere.
        assert path.parent.resolve() == self.folder.resolve(), f"{path} is not in {self.folder}"
        return path
