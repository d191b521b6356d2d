"""One pass over a file's bytes: the voxels, decompressed on the way, and the digest of all bytes if it is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from isal import igzip_lib

from hgpscale.cohort.headers import Header, length_problem
from hgpscale.errors import ImageError

if TYPE_CHECKING:
    from io import FileIO

_CHUNK = 1 << 16
"""Bytes that are read at a time: they and what they decompress to stay in the processor's cache."""
_GZIP = b"\x1f\x8b"
_UNCOUNTED = ("text", "hex")
"""Encodings whose length only their reader can tell."""


@contextmanager
def open_voxels(header: Header, *, hashed: bool) -> Iterator[VoxelStream]:
    """Open the voxels of a file that `inspect` found sound.

    Parameters
    ----------
    header
        What `inspect` found.
    hashed
        Whether `VoxelStream.finish` shall return a digest. Every byte of the file is then read.

    Raises
    ------
    OSError
        The file cannot be read.

    """
    assert header.voxels is not None, "inspect found no voxel data and no problem"
    with header.voxels.path.open("rb", buffering=0) as file:
        yield VoxelStream(header, file, hashed=hashed)


class VoxelStream:
    """The voxel bytes of one file in their order, from the first one on. Made by `open_voxels`."""

    def __init__(self, header: Header, file: FileIO, *, hashed: bool) -> None:
        voxels = header.voxels
        assert voxels is not None, "inspect found no voxel data and no problem"
        self._file = file
        self._claimed = header.claimed_bytes
        self._counted = voxels.encoding not in _UNCOUNTED
        self._hash = hashlib.blake2b(digest_size=16) if hashed else None
        if self._hash and voxels.path != header.path:
            self._hash.update(header.path.read_bytes())
        self._stored(voxels.start)
        self._given = 0
        self._before = voxels.skip
        self._inflater: _Inflater | None = None
        if header.compressed:
            self._inflater = _Inflater(lambda: self._stored(_CHUNK), gzip=voxels.encoding == "gzip")
        elif voxels.skip is None:
            self._before = max(os.fstat(file.fileno()).st_size - voxels.start - self._claimed, 0)
        self.skip(self._before or 0)

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes.

        Raises
        ------
        ImageError
            The stream is damaged or ends before them.

        """
        pieces = []
        missing = count
        while missing:
            piece = self._next(missing)
            if not piece:
                raise ImageError(length_problem(self._given - (self._before or 0), self._claimed))
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes; errors as of `read`."""
        if self._inflater is None and self._hash is None:
            self._file.seek(count, os.SEEK_CUR)
            self._given += count
            return
        while count:
            count -= len(self.read(min(count, _CHUNK)))

    def finish(self) -> str:
        """Read on to the end of the file and return its digest; empty unless it was asked for.

        The digest is BLAKE2b with 16 bytes, in hexadecimal, of the image file followed by its data file where it has
        one.

        Raises
        ------
        ImageError
            The compressed stream is damaged, is followed by other bytes, or holds more or fewer voxels than the
            header claims.

        """
        expected = (self._before or 0) + self._claimed
        # A stream that swells without end is left soon after it is too long.
        while self._next(_CHUNK) and (self._given <= expected or self._before is None or not self._counted):
            pass
        wrong = self._given < expected or (self._given > expected and self._before is not None)
        if wrong and self._counted:
            raise ImageError(length_problem(self._given - (self._before or 0), self._claimed))
        return self._hash.hexdigest() if self._hash else ""

    def _next(self, limit: int) -> bytes:
        piece = self._inflater.read(limit) if self._inflater else self._stored(limit)
        self._given += len(piece)
        return piece

    def _stored(self, limit: int) -> bytes:
        piece = self._file.read(limit)
        if self._hash:
            self._hash.update(piece)
        return piece


class _Inflater:
    """Decompresses a gzip or zlib stream, holding one piece of it at a time.

    Checksums are the library's work. gzip streams may follow each other, and zeros may follow them, as gzip itself
    has it.
    """

    def __init__(self, stored: Callable[[], bytes], *, gzip: bool) -> None:
        self._stored = stored
        self._gzip = gzip
        self._count = 0
        self._held = b""
        self._start(stored())

    def read(self, limit: int) -> bytes:
        """Return at least one and at most `limit` of the next bytes; none at the end."""
        while True:
            if self._engine.eof:
                following = self._following()
                if not following:
                    return b""
                self._start(following)
            data, self._held = self._held, b""
            if not data and self._engine.needs_input:
                data = self._stored()
                if not data:
                    raise ImageError(f"it is truncated: its compressed voxels end early, after {self._count} bytes")
            try:
                piece: bytes = self._engine.decompress(data, limit)
            except igzip_lib.error as error:  # type: ignore[misc]  # isal's stub takes the class for an instance
                raise ImageError(f"its compressed voxels are damaged: {error}") from error
            self._count += len(piece)
            if piece:
                return piece

    def _start(self, data: bytes) -> None:
        # MetaImage has either container.
        gzip = self._gzip or data.startswith(_GZIP)
        self._engine = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP if gzip else igzip_lib.DECOMP_ZLIB)
        self._held = data

    def _following(self) -> bytes:
        """Return what follows a complete stream, from the first byte other than 0 on."""
        rest = self._engine.unused_data.lstrip(b"\0")
        while not rest:
            data = self._stored()
            if not data:
                return b""
            rest = data.lstrip(b"\0")
        if not _GZIP.startswith(rest[:2]):
            raise ImageError("bytes follow the end of its compressed voxels")
        return rest
