"""Crash points cost nothing when they are off, and kill at exactly the point asked for when they are on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autolab.lab import crash_points

PASSES = "from autolab.lab.crash_points import *\nfor name in POINTS[:4]: point(name)\nprint('lived')"


def passing(tmp_path: Path, code: str = PASSES, **env: str) -> tuple[int, str, list[str]]:
    """Exit code, output, and the points that the process passed."""
    log = tmp_path / "points.log"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(crash_points.__file__).parents[2]), "AUTOLAB_FAULT_LOG": str(log)} | env,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr, log.read_text().split() if log.exists() else []


def test_off_a_point_does_nothing_and_knows_nothing() -> None:
    assert crash_points.point is crash_points._off
    crash_points.point("a name that nobody knows")


@pytest.mark.process
def test_on_without_a_number_the_points_are_only_counted(tmp_path: Path) -> None:
    assert passing(tmp_path, AUTOLAB_FAULT="0") == (0, "lived\n", list(crash_points.POINTS[:4]))


@pytest.mark.process
@pytest.mark.parametrize("number", [1, 3])
def test_the_process_dies_at_the_nth_point_by_a_signal_that_nothing_softens(tmp_path: Path, number: int) -> None:
    code = "import signal, atexit\natexit.register(print, 'softened')\n" + PASSES
    ended = passing(tmp_path, code, AUTOLAB_FAULT=str(number))
    assert ended == (-signal.SIGKILL, "", list(crash_points.POINTS[:number]))


@pytest.mark.process
def test_a_point_that_is_not_in_the_list_is_a_bug(tmp_path: Path) -> None:
    code, said, _ = passing(
        tmp_path, "from autolab.lab import crash_points\ncrash_points.point('nowhere')", AUTOLAB_FAULT="0"
    )
    assert code == 1
    assert "nowhere is not in crash_points.POINTS" in said


def test_the_list_names_every_point_of_the_source_and_no_other(repository: Path) -> None:
    source = repository / "src" / "autolab"
    used = [
        name
        for path in sorted(source.rglob("*.py"))
        for name in re.findall(r'crash_points\.point\("([^"]+)"\)', path.read_text(encoding="utf-8"))
    ]
    assert set(used) == set(crash_points.POINTS)
    assert len(set(crash_points.POINTS)) == len(crash_points.POINTS)
