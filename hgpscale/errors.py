"""Every error that hgpscale raises on purpose.

Each leaf is also the builtin exception that a caller would catch without knowing hgpscale. A message is one
line that names the file or lesion, what was expected, what was found and what to do.

`ManifestError`, `SettingsError`, `CubeError`, `LearnError`, `DeepError`, `ReportError` and `LogError` stop a run before
any work (exit status 2). `CubeWriteError` and `EngineError` (exit status 2 too) can also come in mid-run: what had
arrived is kept, as far as it can be written. The others are about one lesion: a run turns them into a `Failure` and
goes on (exit status 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class HgpscaleError(Exception):
    """Base of all errors below; `stage` names the step that a lesion failed in."""

    stage: ClassVar[str] = "run"


class ManifestError(HgpscaleError, ValueError):
    """The manifest cannot be used: a column is missing, an id is repeated, a percentage is off."""

    stage = "manifest"


class MissingManifestError(FileNotFoundError, ManifestError):
    """There is no manifest at that path."""


class SettingsError(HgpscaleError, ValueError):
    """A setting is unknown, out of range, or not available in this version."""

    stage = "settings"


class VoxelBasedError(NotImplementedError, SettingsError):
    """Maps of features, voxel by voxel, were asked for, which hgpscale does not make."""


class CubeError(HgpscaleError, ValueError):
    """The cube was made by other settings, another layout version or from another manifest."""

    stage = "cube"


class CubeWriteError(OSError, CubeError):
    """The cube's storage refused a write: no room, no permission, a lost mount."""


class LearnError(HgpscaleError, ValueError):
    """Data or options that no model can be made or judged of."""

    stage = "learn"


class DeepError(HgpscaleError, ValueError):
    """A cohort or options that no data set for networks can be made of, or a place that it cannot be written to."""

    stage = "deep"


class ReportError(HgpscaleError, ValueError):
    """What an evaluation left behind is not there, damaged or of another version, so that no report can be made."""

    stage = "report"


class EngineError(HgpscaleError, RuntimeError):
    """The scheduler cannot be reached or went away: not the fault of any lesion."""

    stage = "engine"


class SchedulerLostError(EngineError):
    """The scheduler went away while it had work of ours."""


class LogError(OSError, HgpscaleError):
    """The log of a run cannot be written, or what should be one cannot be read."""

    stage = "log"


class ImageError(HgpscaleError, ValueError):
    """An image or mask file is missing, broken, truncated or of a kind that is not supported."""

    stage = "read"


class MissingFileError(FileNotFoundError, ImageError):
    """There is no image or mask file at that path."""


class GeometryError(HgpscaleError, ValueError):
    """Image and mask do not lie on the same grid."""

    stage = "geometry"


class MaskError(HgpscaleError, ValueError):
    """The mask holds no region of interest that features can be computed on."""

    stage = "mask"


class TooLargeError(HgpscaleError, MemoryError):
    """The lesion takes more memory than the process that computes it may use."""

    stage = "memory"


class VoxelError(HgpscaleError, ValueError):
    """The voxels inside the region of interest cannot be used: NaN, infinite, too many grey levels."""

    stage = "voxels"


class FeatureError(HgpscaleError, ArithmeticError):
    """A feature family is undefined on this region of interest."""

    stage = "features"


class FilterError(FeatureError):
    """An image type has no image here: the scan is too small for the filter."""

    stage = "filter"


class WorkerError(HgpscaleError, RuntimeError):
    """The worker processes that computed this lesion died."""

    stage = "worker"


class GpuLostError(RuntimeError):
    """A GPU failed on the way. CUDA gives the process no other: it has to end, and its lesions are tried elsewhere.

    No `HgpscaleError`: it says nothing of the lesion, and nobody who goes on past those must go on past it.
    """


@dataclass(frozen=True)
class Failure:
    """Why one lesion, or one feature family of it, has no numbers.

    Attributes
    ----------
    stage
        The step that failed: ``read``, ``geometry``, ``mask``, ``memory``, ``voxels``, ``filter``, ``features``,
        ``worker`` (its process died), ``run`` (an unexpected error, see the log), ``table`` (an imported table has no
        such number) or ``deep`` (networks made no number).
    reason
        One line for a person: what was expected, what was found, what to do.

    """

    stage: str
    reason: str

    @classmethod
    def of(cls, error: HgpscaleError) -> Failure:
        """Return the failure that `error` stands for, its message folded to one line."""
        return cls(error.stage, " ".join(str(error).split()))

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


def told(error: Exception) -> str:
    """Return an error in one line, with its kind where its message is not made for people."""
    message = " ".join(str(error).split())
    return message if isinstance(error, HgpscaleError) else f"{type(error).__name__}: {message}".rstrip(": ")
