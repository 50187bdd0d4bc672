"""Notebooks read a finished run, carry no output, and can be executed from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from house import PROJECT
from nbclient import NotebookClient

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


@every_notebook
def test_a_notebook_is_kept_without_output(path: Path) -> None:
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]

    assert cells
    assert not [c for c in cells if c.outputs or c.execution_count is not None]


@every_notebook
def test_a_notebook_runs_nothing_and_trains_nothing(path: Path) -> None:
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)

    assert not [word for word in (".run(", "import torch", "catalog.save") if word in text]


@every_notebook
def test_a_notebook_shows_a_finished_run_and_comes_to_its_decision(
    path: Path, pilot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEARN_DATA", str(pilot))
    monkeypatch.setenv("RELEARN_ENV", "test")
    notebook = nbformat.read(path, as_version=4)

    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": path.parent}})
    client.execute()

    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert sum("image/png" in out.get("data", {}) for out in shown) >= 4
    assert any("Keep the baseline" in str(out) or "keep the baseline" in str(out) for out in shown)
