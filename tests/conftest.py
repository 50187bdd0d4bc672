"""One tracking store for all tests, made once and copied, and the option that rewrites pages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relearn.tracking.client import STORE, absolute_address, open_client


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option with which tests write the pages that they generate."""
    parser.addoption(
        "--rewrite-pages",
        action="store_true",
        help="write the pages that tests generate (which architectures grow) instead of comparing",
    )


@pytest.fixture(scope="session")
def rewrite_pages(request: pytest.FixtureRequest) -> bool:
    """Return whether tests write the pages that they generate instead of comparing."""
    return bool(request.config.getoption("--rewrite-pages"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SQLite store without runs."""
    folder = tmp_path_factory.mktemp("store")
    open_client(absolute_address("", folder)).search_experiments(max_results=1)
    return folder / STORE


@pytest.fixture
def storage(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a storage root with an empty store, which the configuration points to."""
    root = tmp_path / "storage"
    root.mkdir()
    shutil.copy(empty_store, root / STORE)
    monkeypatch.setenv("RELEARN_DATA", str(root))
    return root


@pytest.fixture(scope="session")
def pilot(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """Return a storage root in which the pilot has been run, small; it is shared, so only read it.

    ``tests/test_run.py``, which comes last, runs on in it.
    """
    from kedro_runs import run

    root = tmp_path_factory.mktemp("pilot")
    shutil.copy(empty_store, root / STORE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEARN_DATA", str(root))
        run()
    return root
