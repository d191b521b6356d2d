"""Pseudonyms: a patient's id replaced by a keyed hash, the same for the same key."""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

from hgpscale.errors import ManifestError

_SHORTEST = 16
_SHOWN = 16
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
