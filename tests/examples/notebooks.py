"""Run the notebooks of `examples`; as a script, store their outputs: ``python tests/examples/notebooks.py``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.ipynb"))
_SECONDS_A_CELL = 300  # kernels may have to be compiled first


def read(path: Path) -> NotebookNode:
    """Read and check a notebook."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


def run(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run a notebook in an empty folder, without the user's settings of Jupyter; raise the first error of a cell."""
    client = NotebookClient(
        notebook,
        timeout=_SECONDS_A_CELL,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    settings = str(folder / ".jupyter")
    client.execute(env={**os.environ, "IPYTHONDIR": settings, "JUPYTER_CONFIG_DIR": settings})
    return notebook


def store(path: Path) -> None:
    """Run a notebook and keep its outputs in it."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = run(read(path), Path(folder))
    notebook.metadata["language_info"] = {"name": "python"}  # Python's exact version says nothing
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    for path in NOTEBOOKS:
        store(path)
