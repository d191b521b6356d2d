"""What all tests share: where real data and the reference are, and a visible reason where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Compiling a kernel takes seconds once; that is no reason to call an example slow.
settings.register_profile("hgpscale", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hgpscale")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scans: ``HGPSCALE_TEST_DATA``, by default ``../shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HGPSCALE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real scans: {folder} is not a folder; set HGPSCALE_TEST_DATA")
    return folder
