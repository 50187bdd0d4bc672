"""The Makefile and CI: set-up runs once, is repaired when interrupted, and says what it lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from house import PROJECT

FAKE = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in
  -c*) exit "${FITS:-0}" ;;
  "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *requirements.lock*) if [ -e interrupt ]; then rm interrupt; exit 1; fi ;;
  "-m relearn.tracking init") mkdir -p data; touch data/mlflow.db ;;
esac
"""


class Checkout:
    """A folder with the Makefile and a Python that only writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        for name in ("Makefile", "requirements.lock", "pyproject.toml"):
            shutil.copy(PROJECT / name, folder / name)
        self.python = folder / "fake" / "python3.12"
        self.python.parent.mkdir()
        self.python.write_text(FAKE, encoding="utf-8")
        self.python.chmod(0o755)

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make here; the log starts anew."""
        self.log.write_text("", encoding="utf-8")
        inherited: Mapping[str, str] = {"PATH": os.environ["PATH"], "LOG": str(self.log)}
        return subprocess.run(
            [str(shutil.which("make")), *words],
            cwd=self.folder,
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def asked(self) -> list[str]:
        """What Python was asked since the last make."""
        return [line for line in self.log.read_text("utf-8").splitlines() if line[:2] == "-m"]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_setting_up_twice_installs_once(checkout: Checkout) -> None:
    first = checkout.make("setup", f"PYTHON={checkout.python}")
    made = checkout.asked
    second = checkout.make("setup", f"PYTHON={checkout.python}")

    assert first.returncode == 0, first.stderr
    assert [line.split()[1] for line in made] == ["venv", "pip", "pip", "relearn.tracking"]
    assert "--require-hashes -r requirements.lock" in made[1]
    assert "--no-deps" in made[2]
    assert second.returncode == 0
    assert checkout.asked == []


def test_an_interrupted_install_starts_from_an_empty_environment(checkout: Checkout) -> None:
    (checkout.folder / "interrupt").touch()

    first = checkout.make("setup", f"PYTHON={checkout.python}")
    (checkout.folder / ".venv" / "half").touch()
    second = checkout.make("setup", f"PYTHON={checkout.python}")

    assert first.returncode != 0
    assert second.returncode == 0, second.stderr
    assert checkout.asked[0] == "-m venv --clear .venv"
    assert not (checkout.folder / ".venv" / "half").exists()


def test_a_changed_lock_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.make("setup", f"PYTHON={checkout.python}")
    lock = checkout.folder / "requirements.lock"
    later = lock.stat().st_mtime + 3600
    os.utime(lock, (later, later))

    checkout.make("setup", f"PYTHON={checkout.python}")

    assert [line.split()[1] for line in checkout.asked] == ["pip", "pip"]


def test_without_a_python_that_fits_it_says_what_to_install(checkout: Checkout) -> None:
    none = checkout.make("setup", "PYTHON=")
    unfit = checkout.make("setup", PATH=_path(checkout), FITS="1")

    for done in (none, unfit):
        assert done.returncode != 0
        assert "No Python 3.11, 3.12 or 3.13" in done.stdout


def test_a_python_that_fits_is_found_by_itself(checkout: Checkout) -> None:
    done = checkout.make("setup", PATH=_path(checkout))

    assert done.returncode == 0, done.stderr
    assert f"Creating .venv with {checkout.python}" in done.stdout


def _path(checkout: Checkout) -> str:
    """Return a search path with the fake Python and the shell's own tools, and no other Python."""
    tools = checkout.folder / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("sh", "rm", "touch", "mkdir", "cp", "test"):
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(str(shutil.which(name)))
    return f"{checkout.python.parent}:{tools}"


def test_nothing_is_sent_home_and_no_pickle_is_loaded() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")

    assert "export DO_NOT_TRACK := 1" in makefile
    assert "export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false" in makefile
    assert (PROJECT / ".telemetry").read_text(encoding="utf-8").strip() == "consent: false"


def test_ci_runs_lint_types_and_test_and_can_be_executed() -> None:
    path = PROJECT / ".ci" / "run"
    last = path.read_text(encoding="utf-8").strip().splitlines()[-1]

    assert os.access(path, os.X_OK)
    assert last.split()[0] == "exec"
    assert re.findall(r"\b(lint|types|test)\b", last) == ["lint", "types", "test"]


def test_hooks_before_a_commit_are_the_projects_own_tools() -> None:
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))

    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}
    assert {hook["language"] for repo in hooks["repos"] for hook in repo["hooks"]} == {"system"}
