"""Notebooks read a finished run, carry no output, and can be executed from top to bottom."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from house import PROJECT
from nbclient import NotebookClient

from relearn.tracking.client import STORE

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """Return the storage root of one finished run of the test profile."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, root / STORE)
    command = [Path(sys.executable).with_name("kedro"), "run", "--env", "test"]
    command += ["--params", "seeds.count=2,tracking.enabled=false"]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, "RELEARN_DATA": str(root), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return root


@every_notebook
def test_a_notebook_shows_a_finished_run_and_comes_to_its_decision(
    path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEARN_DATA", str(finished))
    monkeypatch.setenv("RELEARN_ENV", "test")
    notebook = nbformat.read(path, as_version=4)

    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": path.parent}})
    client.execute()

    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert sum("image/png" in out.get("data", {}) for out in shown) >= 4
    assert any("Keep the baseline" in str(out) or "keep the baseline" in str(out) for out in shown)
