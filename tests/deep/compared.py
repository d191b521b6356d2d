"""Scans whose candidates are compared already: only scores and hits matter."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from hgpscale.deep.detection import Compared


def scan(scores: list[float], hits: list[int], lesions: int, threshold: float = 0.5) -> Compared:
    """Return a scan of which only scores and hits matter."""
    truths, dice = np.arange(1, lesions + 1), np.full(lesions, 0.75)
    found = np.array([hits.index(n) + 1 if n in hits else 0 for n in truths.tolist()], np.int64)
    nothing = np.full(lesions, np.nan)
    return Compared(
        np.array(scores), np.array(hits, np.int64), truths, found, np.where(found > 0, dice, np.nan), nothing, nothing,
        0.5 if lesions else np.nan, threshold,
    )  # fmt: skip


COMPARED = st.lists(
    st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), max_size=6).map(
        lambda found: scan(
            [score for score, _ in found],
            [n if hit else 0 for n, (_, hit) in enumerate(found, start=1)],
            len(found) + 1,
        )
    ),
    min_size=1,
    max_size=5,
)
