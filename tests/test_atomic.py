"""A file is whole or absent, whatever stops its writer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from relearn.atomic import PREFIX, write_text, written_atomically


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_writer_that_is_stopped_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "f.txt"
    write_text(path, "old")

    def write():
        with written_atomically(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_killed_between_two_lines_leaves_the_old_file_and_the_next_one_sweeps(tmp_path):
    path = tmp_path / "f.txt"
    write_text(path, "old")
    code = (
        "import os, sys; from pathlib import Path; from relearn.atomic import written_atomically\n"
        "with written_atomically(Path(sys.argv[1])) as t:\n"
        "    t.write_text('ne'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_living_process_or_another_machine_writes_is_not_swept(tmp_path):
    path = tmp_path / "f.txt"
    mine = tmp_path / f"{PREFIX}{socket.gethostname()}-{os.getppid()}-f.txt"
    other = tmp_path / f"{PREFIX}another-machine-{2**22 + 1}-f.txt"
    for left in (mine, other):
        left.write_text("half")
    write_text(path, "new")
    assert mine.exists()
    assert other.exists()


def test_the_folder_of_a_file_is_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "f.txt", "x")
    assert (tmp_path / "a" / "b" / "f.txt").read_text() == "x"
