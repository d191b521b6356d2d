"""Whatever dies, nothing is lost: the table of `benchmarks/faults.py`, a test for each row."""

import os
from collections.abc import Iterator
from dataclasses import replace

import faults
import pytest
from fault_site import network_missing

pytestmark = pytest.mark.slow

_LONG = {"cut-driver", "cut-node-30"}
"""Cuts that each take a minute: one that costs nothing and one that breaks a connection are enough here."""

_MILDER = {"worker", "segfault", "node"}
"""What other rows, and the table of `test_run_faults.py`, do with more at stake: left out in CI."""

_CUT_SECONDS = 15
"""Half of the table's own: a time-out that cuts outlast is as long."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faults.Bench]:
    with pytest.MonkeyPatch.context() as patch, faults.Bench(tmp_path_factory.mktemp("faults")) as bench:
        patch.setattr(faults, "CUT_SECONDS", float(_CUT_SECONDS))
        yield bench


def tried() -> Iterator[faults.Fault]:
    """Yield the rows to try here."""
    left_out = _LONG | (_MILDER if os.environ.get("CI") else set())
    for fault in faults.FAULTS:
        if fault.name not in left_out:
            yield replace(fault, timeout=f"{_CUT_SECONDS} s") if fault.timeout == "30 s" else fault


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in tried()])
def test_nothing_is_lost_and_no_more_is_computed_than_planned(fault: faults.Fault, bench: faults.Bench) -> None:
    if fault.cut and (missing := network_missing()):
        pytest.skip(missing)
    row = bench.measure(fault)
    assert not row.problems, row
