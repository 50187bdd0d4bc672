"""Keeping freed memory: only where the C library offers it, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys

from relearn.training import memory


def test_it_works_on_glibc_and_says_so():
    code = "from relearn.training.memory import keep_freed_memory as k; print(k())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(sys.platform.startswith("linux"))


def test_another_system_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.keep_freed_memory() is False


def test_another_c_library_is_left_as_it_is(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    assert memory.keep_freed_memory() is False
