"""The commands as a newcomer meets them: help in plain words, the same options everywhere, the same refusal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autolab.cli import command_line
from autolab.cli.command_line import COMMANDS

WORK_IN_A_LAB = {
    "run": (),
    "loop": ("--max-iterations", "1"),
    "calibrate": (),
    "status": (),
    "verify": (),
    "review": (),
    "stop": (),
    "reproduce": ("run_0001",),
    "replay": ("1",),
    "registry": (),
    "publish": (),
}
"""Commands that work in a lab, with the arguments that they need. `doctor` and `fetch` work outside of one, too."""
MAKE_A_LAB = ("init", "demo")


def help_of(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    try:
        assert command_line.main([name, "--help"]) == 0
    except SystemExit as end:  # argparse of `status` ends so
        assert end.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", [*WORK_IN_A_LAB, *MAKE_A_LAB, "doctor", "fetch"])
def test_help_names_values_in_words_and_gives_a_folder_in_one_way(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(name, monkeypatch, capsys)
    for internal in ("None", "STR", "INT", "FLOAT", "PATH", "''", "--no-plain", "--no-json"):
        assert internal not in text, internal
    assert ("--dir DIR" in text) == (name not in MAKE_A_LAB)
    assert ("[DIR]" in text) == (name in MAKE_A_LAB)


@pytest.mark.parametrize("name", WORK_IN_A_LAB)
def test_outside_of_a_lab_every_command_says_the_same_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_line.main([name, *WORK_IN_A_LAB[name]]) == 1
    printed = capsys.readouterr()
    assert command_line.main(["status"]) == 1
    assert printed == capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert "not in a lab" in printed.err and "`autolab init" in printed.err


def test_every_command_has_a_line_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([]) == 0
    text = capsys.readouterr().out
    for name, line in COMMANDS.items():
        assert f"  {name:<11} {line}\n" in text


@pytest.mark.parametrize(("option", "choices"), [("--containment", "full"), ("--direction", "minimize")])
def test_a_wrong_choice_names_those_that_there_are(
    option: str, choices: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "loop" if option == "--containment" else "init"
    assert command_line.main([command, option, "wrong"]) == 2
    error = capsys.readouterr().err
    assert f"'{choices}'" in error and "None" not in error and error.count("\n") == 1


@pytest.mark.process
def test_python_m_autolab_is_autolab(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("autolab")
    for words in (["--version"], ["status"], ["nonsense"]):
        ends = []
        for command in ([script], [sys.executable, "-m", "autolab"]):
            done = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
            ends.append((done.returncode, done.stdout, done.stderr))
        assert ends[0] == ends[1]
