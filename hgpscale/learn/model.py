"""A fitted model with all that it takes to use it: what it reads, what it says, whom it has seen."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zipfile import BadZipFile

import skops.io

from hgpscale.errors import LearnError
from hgpscale.learn.design import Design
from hgpscale.learn.digests import lesion_hash, settings_digest
from hgpscale.learn.fitting import Fitted
from hgpscale.learn.targets import Target

if TYPE_CHECKING:
    import xarray as xr
    from sklearn.pipeline import Pipeline

FORMAT = "hgpscale-model-1"

_TRUSTED = (
    "hgpscale.learn.combat.ComBat",
    "hgpscale.learn.composition.HurdleComposition",
    "hgpscale.learn.composition.SoftClassifier",
    "hgpscale.learn.filters.AgreementFilter",
    "hgpscale.learn.filters.CorrelationFilter",
    "hgpscale.learn.filters.RobustScaling",
    "hgpscale.learn.filters.VarianceFilter",
    "hgpscale.learn.fusion.Stack",
    "hgpscale.learn.learners.QuietLogistic",
    "hgpscale.learn.learners.SupportVectors",
    "hgpscale.learn.moments.Moments",
    "hgpscale.learn.screen.Screen",
    "hgpscale.learn.search.Search",
    "hgpscale.learn.streaming.StreamingModel",
    "hgpscale.learn.typicality.Typicality",
    "hgpscale.learn.workflows.Layout",
    "hgpscale.learn.workflows.Recipe",
    "hgpscale.learn.workflows.Selection",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Types in a model's file that are read besides those that skops knows to be harmless.

None of them runs anything that the file says: they are made without their constructor, or with numbers alone, and are
given attributes.
"""

_DAMAGED = (BadZipFile, KeyError, ValueError, TypeError, AttributeError, ImportError, EOFError, zlib.error)
"""What zipfile, json and skops raise on a file that is damaged or of something else."""


@dataclass(frozen=True)
class Model:
    """What `fit` makes and `predict` uses.

    Attributes
    ----------
    target
        What it predicts.
    design
        The columns that it takes.
    fitted
        What was learned.
    typical
        Steps that end in `Typicality`, of the features alone.
    settings_digest
        Of the cube that it was fitted on, see `digests.settings_digest`.
    key
        Of the lesions' hashes; made anew for each model.
    lesions
        Hashes of the lesions that it was fitted on, see `digests.lesion_hash`.
    about
        What a person wants to know: versions, date, seed, numbers of patients and lesions.

    """

    target: Target
    design: Design
    fitted: Fitted
    typical: Pipeline
    settings_digest: str
    key: bytes
    lesions: frozenset[str]
    about: Mapping[str, Any]

    def has_seen(self, lesion: Any) -> bool:
        """Whether it was fitted on a lesion of this id."""
        return lesion_hash(self.key, lesion) in self.lesions

    def hashes(self, lesions: Iterable[Any]) -> frozenset[str]:
        """Return the hashes of lesions' ids."""
        return frozenset(lesion_hash(self.key, lesion) for lesion in lesions)

    def check_cube(self, cube: xr.Dataset, path: str | Path) -> None:
        """Refuse a cube whose features mean something else.

        Raises
        ------
        LearnError
            It lacks features, or made them with other settings or another numeric version.

        """
        there = set(cube.hgp.names(prefixed=False))
        lost = [name for name in self.design.features if name not in there]
        if lost:
            raise LearnError(
                f"{path}: lacks {len(lost)} of the model's {len(self.design.features)} features, such as {lost[0]}; "
                "extract with the settings that the model's cube was made with"
            )
        if settings_digest(cube, self.design.features) != self.settings_digest:
            raise LearnError(
                f"{path}: its features were made with other settings than those of the model, so they are other "
                "numbers of the same names; extract with the settings that the model's cube was made with"
            )

    def save(self, path: str | Path) -> None:
        """Write it, as skops does: no pickle, nothing that is run when it is read.

        The file is there whole or not at all.
        """
        path = Path(path)
        partial = path.with_name(f"{path.name}.partial")
        content = {
            "format": FORMAT,
            "target": asdict(self.target),
            "design": asdict(self.design),
            "fitted": {**vars(self.fitted)},
            "typical": self.typical,
            "settings_digest": self.settings_digest,
            "key": self.key.hex(),
            "lesions": sorted(self.lesions),
            "about": dict(self.about),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        skops.io.dump(content, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model; no code that is not hgpscale's or scikit-learn's own is run.

        Raises
        ------
        FileNotFoundError
            There is none.
        LearnError
            It is no model of hgpscale's, or has something in it that is not known to be harmless.

        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no model; make one with hgpscale fit")
        try:
            strange = sorted(set(skops.io.get_untrusted_types(file=path)) - set(_TRUSTED))
            content = None if strange else skops.io.load(path, trusted=list(_TRUSTED))
            if isinstance(content, dict) and content.get("format") == FORMAT:
                return cls._of(content)
        except _DAMAGED as error:
            raise LearnError(f"{path}: cannot be read as a model: {type(error).__name__}: {error}") from error
        if strange:
            raise LearnError(f"{path}: has {', '.join(strange[:3])} in it, which no model of hgpscale has; not read")
        raise LearnError(f"{path}: is no model of this version of hgpscale, {FORMAT}; fit it anew")

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> Self:
        return cls(
            Target(**content["target"]),
            Design(**content["design"]),
            Fitted(**content["fitted"]),
            content["typical"],
            content["settings_digest"],
            bytes.fromhex(content["key"]),
            frozenset(content["lesions"]),
            content["about"],
        )
