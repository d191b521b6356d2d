"""Whatever dies, nothing is lost: the table of `benchmarks/faults.py`, a test for each row."""

from collections.abc import Iterator

import faults
import pytest
from fault_site import network_missing

pytestmark = pytest.mark.slow

_LONG = {"cut-driver", "cut-node-30"}
"""Cuts that each take a minute: one that costs nothing and one that breaks a connection are enough here."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faults.Bench]:
    with faults.Bench(tmp_path_factory.mktemp("faults")) as bench:
        yield bench


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=fault.name) for fault in faults.FAULTS if fault.name not in _LONG],
)
def test_nothing_is_lost_and_no_more_is_computed_than_planned(fault: faults.Fault, bench: faults.Bench) -> None:
    if fault.cut and (missing := network_missing()):
        pytest.skip(missing)
    row = bench.measure(fault)
    assert not row.problems, row
