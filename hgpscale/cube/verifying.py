"""Is everything that a cube says true? Every chunk is read; what is found wrong can be made pending again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hgpscale.catalog import OWN_FAMILIES, is_of_region
from hgpscale.cohort import file_digest
from hgpscale.contents import Key
from hgpscale.cube import schema, store
from hgpscale.cube.head import Head, head_of, open_group
from hgpscale.cube.lock import Lock
from hgpscale.cube.schema import DONE, FAILED, PENDING
from hgpscale.errors import CubeError, CubeWriteError, ImageError

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

_UNREADABLE = (ValueError, RuntimeError, OSError, TypeError)
"""What zarr raises on a chunk whose bytes are not those that were written."""

_OF_MANIFEST = ("mask", "requested_label", "roi", "image_path")
_OF_FILES = ("image_digest", "mask_digest", "label")
_STATES = (PENDING, DONE, FAILED)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong in a cube.

    Attributes
    ----------
    where
        Array and chunk, such as ``glcm/c/0/0/0/3/0``, or the file of an input.
    problem
        What is wrong.
    segmentation, region, image_type, family
        Which records it hits; empty: all.
    lesions
        Theirs.
    repairable
        Whether `verify` can make it good: by making the records pending, or from the catalogue.

    """

    where: str
    problem: str
    segmentation: str = ""
    region: str = ""
    image_type: str = ""
    family: str = ""
    lesions: tuple[str, ...] = ()
    repairable: bool = True


@dataclass
class Verification:
    """What `verify` looked at and found.

    Attributes
    ----------
    path
        The cube.
    rows, chunks
        Rows of the manifest, and chunks that were read.
    inputs, unreached
        Files of scans and masks whose digests were compared, and those that could not be found.
    findings
        What is wrong.
    repaired
        Whether the findings that can be repaired were.

    """

    path: str | Path
    rows: int = 0
    chunks: int = 0
    inputs: int = 0
    unreached: int = 0
    findings: list[Finding] = field(default_factory=list)
    repaired: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, or is no more."""
        return all(self.repaired and finding.repairable for finding in self.findings)


def verify(
    path: str | Path,
    *,
    inputs: str | Path | None = None,
    repair: bool = False,
    break_lock: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Read a whole cube and compare all that it says.

    Checksums and shapes of all chunks; metadata with the catalogue; states with values (what is done has no NaN without
    a reason, what failed has a reason and no number); digests with the files of scans and masks where they are found.

    Parameters
    ----------
    path
        The cube.
    inputs
        Folder that relative paths of scans and masks start from, which is the manifest's; None: the cube's own folder.
    repair
        Make the records pending that something is wrong with, and write damaged metadata of arrays anew. The next
        `extract` computes them again. Needs the lock.
    break_lock
        As for `extract`.
    on_progress
        Called with the number of blocks of lesions that are done, and of all.

    Raises
    ------
    CubeError
        There is no cube, its root is damaged, or (`repair`) it is packed or another run is writing to it.
    CubeWriteError
        A repair cannot be written.

    """
    root = open_group(path, read_only=not repair)
    head = head_of(root, path)
    found = Verification(path)
    if not repair:
        _Look(path, root, head, found, on_progress).at_all(inputs, repair=False)
        return found
    if head.sealed:
        raise CubeError(f"{path}: was packed for sharing; pack the cube that it was made of again")
    try:
        with Lock.take(store.location(path), break_lock=break_lock):
            look = _Look(path, root, head, found, on_progress)
            look.at_all(inputs, repair=True)
            look.repair()
    except store.storage_errors() as error:
        if isinstance(error, CubeError):
            raise
        raise CubeWriteError(f"{path}: cannot repair: {store.reason(error)}") from error
    found.repaired = True
    return found


class _Look:
    """One pass over a cube."""

    def __init__(
        self,
        path: str | Path,
        root: zarr.Group,
        head: Head,
        found: Verification,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.path, self.root, self.head, self.found = path, root, head, found
        self.progress = on_progress or (lambda done, total: None)
        self.arrays: dict[str, zarr.Array] = {}
        self.labels: dict[str, list[str]] = {}
        self.torn: list[tuple[str, str]] = []  # array and key of chunks to be removed
        self.wrong: list[tuple[slice, int, int, int, int, NDArray[np.bool_]]] = []  # cells of `state` to be reset

    def at_all(self, inputs: str | Path | None, *, repair: bool) -> None:
        """Look at everything; metadata is repaired on the way, as nothing behind it can be seen otherwise."""
        for variable in self.head.variables:
            problem = variable.problem(self.root, self.head.lengths)
            if not problem:
                self.arrays[variable.name] = self.root[variable.name]
            elif repair:
                self._find(f"{variable.name}/zarr.json", problem)
                _write_metadata(self.path, variable, self.head)
                self.arrays[variable.name] = self.root[variable.name]
            else:
                self._find(f"{variable.name}/zarr.json", f"{problem}; its chunks were not looked at")
        for dim in schema.LABELS:
            self.labels[dim] = self._labels(dim)
            if len(set(self.labels[dim])) < len(self.labels[dim]):
                self._find(f"{dim}/c", "labels are not unique", repairable=False)
        for family, features in self.head.contents.features.items():
            self._feature_names(family, features)
        if any(not finding.repairable for finding in self.found.findings):
            return  # without its labels nothing else can be told apart
        starts = range(0, self.head.sizes["lesion"], schema.LESION_CHUNK)
        digests: dict[str, dict[str, list[str]]] = {}
        for number, start in enumerate(starts):
            self._block(slice(start, min(start + schema.LESION_CHUNK, self.head.sizes["lesion"])), digests)
            self.progress(number + 1, len(starts))
        self._inputs(digests, Path(inputs) if inputs is not None else _folder(self.path))

    def repair(self) -> None:
        """Make pending what is wrong, then remove what cannot be read: after a kill in between it is found again."""
        if (self.wrong or self.torn) and self.head.finished:
            replace(self.head, finished=False).commit(self.root)
        state = self.root["state"]
        for lesions, rater, region, image, at, rows in self.wrong:
            where = lesions, rater, region, image, at
            if ("state", _key("state", state, *where)) in self.torn:
                continue  # all of it is pending without its file
            states = state[where]
            states[rows] = PENDING
            state[where] = states
        for _, key in dict.fromkeys(self.torn):
            store.delete(self.path, key)
        for family, features in self.head.contents.features.items():
            self.root[f"{family}_feature"][...] = np.array(features, object)

    def _labels(self, dim: str) -> list[str]:
        """Return a dimension's labels; where they cannot be read, its positions in their place."""
        labels: list[str] = []
        step = schema.LESION_CHUNK if dim == "lesion" else 1
        for start in range(0, self.head.sizes[dim], step):
            stop = min(start + step, self.head.sizes[dim])
            names = self._read(dim, (slice(start, stop),), repairable=False)
            labels += [f"{dim} {i}" for i in range(start, stop)] if names is None else map(str, names)
        return labels

    def _feature_names(self, family: str, features: Sequence[str]) -> None:
        name = f"{family}_feature"
        names = self._read(name, (slice(None),))
        if names is not None and tuple(map(str, names)) != tuple(features):
            self._find(f"{name}/c/0", "names of features differ from the cube's settings", family=family)

    def _block(self, lesions: slice, digests: dict[str, dict[str, list[str]]]) -> None:
        names = np.array(self.labels["lesion"][lesions], object)
        for column in self.head.columns:
            self._read(column, (lesions,), lesions=tuple(names))
        image = self._read("image_path", (lesions,), lesions=tuple(names))
        for rater, segmentation in enumerate(self.labels["segmentation"]):
            about: dict[str, Any] = {"segmentation": segmentation, "lesions": tuple(names)}
            of_manifest = {name: self._read(name, (lesions, rater), **about) for name in _OF_MANIFEST[:-1]}
            of_files = {name: self._read(name, (lesions, rater), **about) for name in _OF_FILES}
            mask = of_manifest["mask"]
            has_row = np.ones(len(names), bool) if mask is None else np.asarray(mask != "", bool)
            self.found.rows += int(has_row.sum())
            unknown = image is None or any(v is None for v in (*of_manifest.values(), *of_files.values()))
            numbers = np.zeros(len(names), bool)
            for region in range(len(self.labels["region"])):
                numbers |= self._cells(lesions, rater, region, has_row, names, unknown=unknown)
            if not unknown and self.head.settings is not None:
                lacking = numbers & ((of_files["image_digest"] == "") | (of_files["mask_digest"] == ""))
                self._reset_all(
                    lesions, rater, lacking, "has numbers, but no digest of the files they came from", names
                )
            if image is not None and mask is not None and not unknown:
                for i in np.flatnonzero(numbers):
                    for file, digest in ((image[i], "image_digest"), (mask[i], "mask_digest")):
                        row = f"{names[i]}\t{segmentation}"
                        digests.setdefault(str(file), {}).setdefault(str(of_files[digest][i]), []).append(row)

    def _cells(
        self, lesions: slice, rater: int, region: int, has_row: NDArray[np.bool_], names: NDArray[Any], *, unknown: bool
    ) -> NDArray[np.bool_]:
        """Compare states, errors and values of one region; return which lesions have numbers of their scan."""
        keys = [key for key in self.head.contents.keys if key[0] == self.labels["region"][region]]
        states, errors = (
            self._labelled("state", lesions, rater, region),
            self._labelled("error", lesions, rater, region),
        )
        numbers = np.zeros(len(names), bool)
        for key in keys:
            _, image_type, family = key
            image, at = self.labels["image_type"].index(image_type), self.labels["family"].index(family)
            where = (lesions, rater, region) if is_of_region(family) else (lesions, rater, region, image)
            cell = lesions, rater, region, image, at
            state, error = states(image, at), errors(image, at)
            hit = has_row if state is None else has_row & (state != PENDING)
            about = self._about(rater, key, names[hit])
            values = self._read(family, where, **about)
            if state is None:
                continue
            if values is None or error is None or unknown:
                self.wrong.append((*cell, state != PENDING))
            else:
                if family not in OWN_FAMILIES:
                    numbers |= (state == DONE) & has_row
                for what, rows in _contradictions(state, error, values, has_row):
                    self._wrong(cell, key, names, rows, what)
        return numbers

    def _labelled(
        self, name: str, lesions: slice, rater: int, region: int
    ) -> Callable[[int, int], NDArray[Any] | None]:
        """Return a function that gives the column of an image type and a family, None where its chunk is damaged."""
        sizes = [self.head.sizes["image_type"], self.head.sizes["family"]]
        chunk = schema.LABEL_CHUNK
        pieces: dict[tuple[int, int], NDArray[Any] | None] = {}
        for i, j in np.ndindex(*(-(-size // chunk) for size in sizes)):
            where = slice(i * chunk, (i + 1) * chunk), slice(j * chunk, (j + 1) * chunk)
            about: dict[str, Any] = {
                "segmentation": self.labels["segmentation"][rater],
                "region": self.labels["region"][region],
                "lesions": tuple(self.labels["lesion"][lesions]),
            }
            pieces[i, j] = self._read(name, (lesions, rater, region, *where), **about)

        def column(image: int, family: int) -> NDArray[Any] | None:
            piece = pieces[image // chunk, family // chunk]
            return None if piece is None else piece[:, image % chunk, family % chunk]

        return column

    def _wrong(self, cell: Any, key: Key, names: NDArray[Any], rows: NDArray[np.bool_], what: str) -> None:
        if rows.any():
            key_of = _key("state", self.arrays["state"], *cell)
            self._find(key_of, what, **self._about(cell[1], key, names[rows]))
            self.wrong.append((*cell, rows))

    def _reset_all(self, lesions: slice, rater: int, rows: NDArray[np.bool_], what: str, names: NDArray[Any]) -> None:
        if not rows.any():
            return
        self._find("image_digest", what, segmentation=self.labels["segmentation"][rater], lesions=tuple(names[rows]))
        for region, image, family in self.head.contents.keys:
            at = (
                self.labels["region"].index(region),
                self.labels["image_type"].index(image),
                self.labels["family"].index(family),
            )
            self.wrong.append((lesions, rater, *at, rows))

    def _read(self, name: str, where: tuple[Any, ...], *, repairable: bool = True, **about: Any) -> Any:
        """Return a chunk, or None after noting why it cannot be read."""
        array = self.arrays.get(name)
        if array is None:
            return None
        self.found.chunks += 1
        try:
            return array[where]
        except _UNREADABLE as error:
            key = _key(name, array, *where)
            reason = "checksum differs" if "checksum" in str(error) else f"cannot be read ({type(error).__name__})"
            self._find(key, reason, repairable=repairable, **about)
            if repairable:
                self.torn.append((name, key))
            return None

    def _about(self, rater: int, key: Key, lesions: NDArray[Any]) -> dict[str, Any]:
        region, image, family = key
        names = {"segmentation": self.labels["segmentation"][rater], "region": region, "image_type": image}
        return {**names, "family": family, "lesions": tuple(lesions)}

    def _find(self, where: str, problem: str, **about: Any) -> None:
        self.found.findings.append(Finding(where, problem, **about))

    def _inputs(self, digests: dict[str, dict[str, list[str]]], folder: Path | None) -> None:
        if self.head.settings is None:
            return
        with ThreadPoolExecutor() as pool:
            for file, now in zip(digests, pool.map(lambda file: _digest(folder, file), digests), strict=True):
                if now is None:
                    self.found.unreached += 1
                    continue
                self.found.inputs += 1
                rows = [row for digest, some in digests[file].items() if digest != now for row in some]
                for segmentation in dict.fromkeys(row.split("\t")[1] for row in rows):
                    lesions = tuple(row.split("\t")[0] for row in rows if row.split("\t")[1] == segmentation)
                    what = (
                        "the file changed since its numbers were made; extract with --update, or put the old one back"
                    )
                    self._find(file, what, segmentation=segmentation, lesions=lesions, repairable=False)


def _contradictions(
    state: NDArray[Any], error: NDArray[Any], values: NDArray[Any], has_row: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield what cannot be true of one key together, and of which lesions; `values` has shape ``(lesion, feature)``."""
    known = np.isin(state, np.array(_STATES, state.dtype))
    lacks, reason = ~np.isfinite(values).all(axis=1), error != ""
    yield "state is none of pending, done and failed", ~known
    yield "has a state, but no row in the manifest", known & (state != PENDING) & ~has_row
    yield "done, but a number is missing without a reason", has_row & (state == DONE) & lacks & ~reason
    yield "failed without a reason", has_row & (state == FAILED) & ~reason
    yield "failed, but has numbers", has_row & (state == FAILED) & np.isfinite(values).any(axis=1)


def _key(name: str, array: zarr.Array, *where: Any) -> str:
    """Return the key of the file that a part of one chunk, or of one shard, lies in."""
    shape = array.shards or array.chunks
    first = [part.start or 0 if isinstance(part, slice) else int(part) for part in where]
    first += [0] * (len(shape) - len(first))
    at = tuple(start // size for start, size in zip(first, shape, strict=True))
    return f"{name}/{array.metadata.encode_chunk_key(at)}"


def _write_metadata(path: str | Path, variable: schema.Variable, head: Head) -> None:
    """Write the zarr.json of an array as the catalogue has it; its chunks stay."""
    import zarr

    memory = zarr.storage.MemoryStore()
    variable.create(zarr.create_group(memory), head.lengths)
    key = f"{variable.name}/zarr.json"
    store.write(path, key, memory._store_dict[key].to_bytes())


def _folder(path: str | Path) -> Path | None:
    return None if store.is_address(path) else Path(path).absolute().parent


def _digest(folder: Path | None, file: str) -> str | None:
    """Return a file's digest, or None where it is not found or cannot be used."""
    place = Path(file) if folder is None else folder / file
    try:
        return file_digest(place)
    except ImageError:
        return None
