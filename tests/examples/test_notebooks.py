"""The notebooks run as they are, and what they show was made by what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.font_manager  # noqa: F401 (makes its cache; in a notebook it would say so on stderr, once)
import pytest
from nbformat import NotebookNode
from notebooks import NOTEBOOKS, read, run

KILOBYTES = 400
TRACES = {
    "an absolute path": r"(?:^|[\s'\"(=:>])(?:/[\w.-]+){2,}|\b[A-Za-z]:\\",
    "a moment": r"\d{4}-\d\d-\d\dT\d\d:\d\d|\b\d\d:\d\d:\d\d\b",
    "an address in memory": r"\bat 0x[0-9a-f]+",
}


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: NotebookNode) -> list[tuple[str, ...]]:
    """Return what a cell shows: the streams, and the types of the rest."""
    return [(output.output_type, output.get("name", ""), *sorted(output.get("data", {}))) for output in cell.outputs]


def texts(notebook: NotebookNode) -> Iterator[str]:
    for cell in code(notebook):
        for output in cell.outputs:
            yield output.get("text", "")
            yield from (text for kind, text in output.get("data", {}).items() if kind.startswith("text/"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs_without_a_warning_and_shows_what_is_stored(path: Path, tmp_path: Path) -> None:
    stored = read(path)
    fresh = run(read(path), tmp_path)
    shown = "".join(o.text for cell in code(fresh) for o in cell.outputs if o.get("name") == "stderr")
    assert shown == ""
    assert [kinds(cell) for cell in code(fresh)] == [kinds(cell) for cell in code(stored)]
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_stored_outputs_are_of_one_run_from_top_to_bottom(path: Path) -> None:
    notebook = read(path)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    for cell in code(notebook):
        counts = [output.execution_count for output in cell.outputs if output.output_type == "execute_result"]
        assert set(counts) <= {cell.execution_count}
        assert not cell.metadata
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_stored_outputs_are_small_and_tell_nothing_of_the_machine(path: Path) -> None:
    assert path.stat().st_size < KILOBYTES * 1000
    for text in texts(read(path)):
        for what, pattern in TRACES.items():
            found = re.search(pattern, text, re.MULTILINE)
            assert found is None, f"{what}: {found}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<th>/home/me/cube.zarr</th>", "an absolute path"),
        ("read '/data/abc/x.nii.gz'", "an absolute path"),
        (r"C:\Users\me", "an absolute path"),
        ("2026-01-02T03:04:05", "a moment"),
        ("at 03:04:05", "a moment"),
        ("<object object at 0x7f33>", "an address in memory"),
    ],
)
def test_traces_are_found(text: str, what: str) -> None:
    assert [name for name, pattern in TRACES.items() if re.search(pattern, text, re.MULTILINE)] == [what]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_relative_link_leads_to_a_file(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", cell.source):
                assert (path.parent / link).exists(), link
