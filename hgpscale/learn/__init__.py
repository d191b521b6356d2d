"""Models of growth patterns: from a cube to validated predictions."""

from hgpscale.learn.combat import ComBat
from hgpscale.learn.composition import HurdleComposition
from hgpscale.learn.evaluating import Plan, evaluate
from hgpscale.learn.fitting import MODELS, Options
from hgpscale.learn.model import Model
from hgpscale.learn.predicting import Predicted, predict, write_predictions
from hgpscale.learn.search import Search
from hgpscale.learn.streaming import StreamingModel
from hgpscale.learn.training import FitReport, fit, update

__all__ = [
    "MODELS",
    "ComBat",
    "FitReport",
    "HurdleComposition",
    "Model",
    "Options",
    "Plan",
    "Predicted",
    "Search",
    "StreamingModel",
    "evaluate",
    "fit",
    "predict",
    "update",
    "write_predictions",
]
