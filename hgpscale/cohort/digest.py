"""One pass over a file's bytes: their digest, whether compressed voxels are whole, and the voxel stream itself."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hgpscale.cohort.headers import Header, length_problem
from hgpscale.errors import ImageError

_CHUNK = 1 << 20
_WINDOW_BITS = {"gzip": 31, "zlib": 47}  # 47: either container, as MetaIO has it


def digest(header: Header, sink: Callable[[bytes], None] | None = None) -> str:
    """Return the digest of an image's bytes; check its compressed voxel data on the way.

    The digest is BLAKE2b with 16 bytes, in hexadecimal, of the image file followed by its data file where it has one.

    Parameters
    ----------
    header
        What `inspect` found, without problems.
    sink
        Is given the voxel stream, decompressed, in pieces.

    Raises
    ------
    ImageError
        The compressed stream is damaged, is followed by other bytes, or holds more or fewer voxels than the header
        claims.
    OSError
        A file cannot be read.

    """
    voxels = header.voxels
    assert voxels is not None, "inspect found no voxel data and no problem"
    hashed = hashlib.blake2b(digest_size=16)
    if voxels.path != header.path:
        hashed.update(header.path.read_bytes())
    expected = (voxels.skip or 0) + header.claimed_bytes
    inflater = None
    if header.compressed:
        limit = None if voxels.skip is None else expected
        inflater = _Inflater(_WINDOW_BITS[voxels.encoding], limit, sink)
    consume = inflater.feed if inflater else sink
    position = 0
    for chunk in _chunks(voxels.path):
        hashed.update(chunk)
        if consume:
            consume(chunk[max(voxels.start - position, 0) :])
        position += len(chunk)
    if inflater:
        held = inflater.close()
        if held < expected or (held > expected and voxels.skip is not None):
            raise ImageError(length_problem(held - (voxels.skip or 0), header.claimed_bytes))
    return hashed.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


class _Inflater:
    """Counts what a gzip or zlib stream decompresses to, holding one piece of it at a time.

    Checksums are zlib's work. gzip streams may follow each other, and zeros may follow them, as gzip itself has it.
    Counting stops soon after `limit`, so that a stream that swells without end costs nothing.
    """

    def __init__(self, window_bits: int, limit: int | None, sink: Callable[[bytes], None] | None) -> None:
        self.count = 0
        self._window_bits = window_bits
        self._limit = limit
        self._sink = sink
        self._stream: Any = zlib.decompressobj(wbits=window_bits)
        self._first_bytes = True

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the compressed stream."""
        while data and not self._past_limit:
            if self._stream.eof:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._stream, self._first_bytes = zlib.decompressobj(wbits=self._window_bits), True
            self._take(data)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            self._first_bytes = False

    def close(self) -> int:
        """Return the number of bytes that came out."""
        if not self._stream.eof and not self._past_limit:
            self._take(b"")  # what zlib holds back
        if not self._stream.eof and not self._past_limit:
            raise ImageError(f"it is truncated: its compressed voxels end early, after {self.count} bytes")
        return self.count

    @property
    def _past_limit(self) -> bool:
        return self._limit is not None and self.count > self._limit

    def _take(self, data: bytes) -> None:
        try:
            piece = self._stream.decompress(data, _CHUNK)
        except zlib.error as error:
            if self._first_bytes and self.count:
                raise ImageError("bytes follow the end of its compressed voxels") from error
            raise ImageError(f"its compressed voxels are damaged: {error}") from error
        self.count += len(piece)
        if self._sink:
            self._sink(piece)
