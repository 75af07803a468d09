"""A program that asks git is adopted with a repository for its trials: by its text, or by what it did when it ran."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from adoption_kit import TRAIN, adopted, repository

from autolab.adoption import probe_hook
from autolab.lab.schemas.config import Config

ASKS = """\
import subprocess

commit = subprocess.check_output({words}, text=True)
print(f"of {{len(commit)}} signs")
"""


@pytest.mark.process
def test_the_text_of_a_program_shows_that_it_asks_git(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": ASKS.format(words='["git", "rev-parse", "HEAD"]') + TRAIN})
    said = adopted(kit)
    assert 'train.repository      true  (train.py: "git", "rev-parse"; trials get a read-only repository' in said
    assert Config.load(kit.root / Config.FILE).train.repository


@pytest.mark.process
def test_the_first_run_shows_it_where_the_text_does_not(tmp_path: Path) -> None:
    words = '"gi" + "t rev-parse HEAD", shell=True'
    kit = repository(tmp_path / "mine", {"train.py": ASKS.format(words=words) + TRAIN})
    made = kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "30")
    assert made.code == 0, made.out + made.err
    assert "it asks git, which found no repository" in made.out and made.out.count("trying ") == 2
    assert Config.load(kit.root / Config.FILE).train.repository


@pytest.mark.process
@pytest.mark.parametrize(
    "call",
    [
        'subprocess.run(["git", "version"])',
        'subprocess.run("git version", shell=True)',
        'os.system("git version")',
        'subprocess.run([b"git", b"version"])',
    ],
)
def test_the_hook_notes_that_git_is_started(tmp_path: Path, call: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(Path(probe_hook.__file__).read_text())
    report = tmp_path / "report"
    environment = {"PYTHONPATH": str(tmp_path), "AUTOLAB_PROBE": str(report), "PATH": "/usr/bin:/bin"}
    code = f"import os, subprocess\nsubprocess.run(['true', 'git'])\n{call}"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert report.read_text().count('["git", ""]') == 1
