"""Networks that find, outline and type lesions, and the data sets that others' are trained on.

Here is what needs no torch; `folds.train_folds`, `predicting.predict_scans` and `embedding.embed_into` take the extra
``deep``.
"""

from __future__ import annotations

from hgpscale.deep.datasets import Exported, export_dataset
from hgpscale.deep.prepared import PreparedCohort
from hgpscale.deep.preparing import Prepared, prepare

__all__ = ["Exported", "Prepared", "PreparedCohort", "export_dataset", "prepare"]
