"""What a failed first run shows to be missing: the cause in one line, and the line that fixes it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from autolab.adoption.probe_findings import cause, findings
from autolab.adoption.program_probe import Probed
from autolab.adoption.repository import Repository
from autolab.lab.git import Git
from autolab.sandbox.exit_record import TrialOutcome

TRACEBACK = """\
INFO start
Traceback (most recent call last):
  File "/x/train.py", line 3, in <module>
    main()
  File "/x/train.py", line 2, in main
    raise RuntimeError("shapes 3 and 4")
RuntimeError: shapes 3 and 4
  do not fit
HINT 1: look at the model
HINT 2: look at the data
"""


def ended(err: str = "", out: str = "", outcome: TrialOutcome = TrialOutcome.FAILED, **more: object) -> Probed:
    message = "train exited with status 1"
    return Probed(outcome, message, 1.0, out.encode(), err.encode(), **more)  # type: ignore[arg-type]


class Checkout(Repository):
    """A checkout of which git holds one file beside the data, without a git."""

    def holds(self, path: str) -> bool:
        return path in ("data/chars/readme.md", "mine/__init__.py")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "mine"
    (root / "data" / "chars").mkdir(parents=True)
    (root / "data" / "chars" / "train.bin").write_bytes(b"1")
    return Checkout(root, cast(Git, None), "", ())


def said(repository: Repository, err: str, **more: object) -> list[str]:
    return [str(finding) for finding in findings(ended(err, **more), repository, "python3")]


@pytest.mark.parametrize(
    ("err", "line"),
    [
        (TRACEBACK, "RuntimeError: shapes 3 and 4 do not fit"),
        ("loading\nError: bad batch size\nusage: train [-b N]\n", "Error: bad batch size"),
        ("one\ntwo\n\n", "two"),
        ("", ""),
    ],
)
def test_the_cause_is_the_errors_first_lines_and_not_the_last_line(err: str, line: str) -> None:
    assert cause(ended(err)) == line


def test_a_program_that_prints_its_error_on_standard_output_has_a_cause_too() -> None:
    assert cause(ended(out="epoch 1\nfatal: no corpus\nbye\n")) == "fatal: no corpus"


def test_a_module_that_is_not_installed_is_named_with_the_interpreter(repository: Repository) -> None:
    (line,) = said(repository, "ModuleNotFoundError: No module named 'tiktoken'\n")
    assert line.startswith("python3 has no module tiktoken: install it there, or name the Python that has it: --python")


def test_a_module_of_the_repository_is_told_apart(repository: Repository) -> None:
    (line,) = said(repository, "ModuleNotFoundError: No module named 'mine'\n")
    assert line.startswith("it does not find mine, which lies in this repository: put `env PYTHONPATH=.` before")


def test_data_that_git_does_not_hold_is_found_beside_committed_files(repository: Repository) -> None:
    error = "FileNotFoundError: [Errno 2] No such file or directory: 'data/chars/train.bin'\n"
    (found,) = findings(ended(error), repository, "python3")
    assert found.data == "data/chars"
    assert (
        str(found)
        == "data/chars/train.bin: not there: git does not hold it, so trials need the folder: --data data/chars"
    )


def test_a_path_in_the_copy_of_the_code_is_one_of_the_checkout(repository: Repository) -> None:
    place = repository.root / ".git" / "autolab.probe" / "attempt" / "copy" / "data" / "chars" / "train.bin"
    (found,) = findings(ended(f"Error: could not open {place}\n"), repository, "python3")
    assert found.data == "data/chars"


def test_a_file_that_is_nowhere_has_to_be_made(repository: Repository) -> None:
    (line,) = said(repository, "FileNotFoundError: [Errno 2] No such file or directory: 'data/chars/val.bin'\n")
    assert line == "data/chars/val.bin: not there: run the program that makes it, such as prepare.py, then this again"


def test_a_folder_outside_is_named_as_the_data(repository: Repository, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus" / "text.txt"
    corpus.parent.mkdir()
    corpus.write_text("a")
    (line,) = said(repository, f"FileNotFoundError: [Errno 2] No such file or directory: '{corpus}'\n")
    assert line == f"{corpus}: a trial does not see it: name its folder: --data {corpus.parent}"


@pytest.mark.parametrize(
    "err",
    [
        "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>\n",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='a.b')\n",
        "curl: (6) Could not resolve host: a.b\n",
    ],
)
def test_a_download_says_that_a_trial_has_no_network(repository: Repository, err: str) -> None:
    (line,) = said(repository, err, hosts=("a.b",))
    assert line.startswith("it wants a.b, and a trial has no network: run what downloads once yourself")


def test_a_gpu_that_is_not_there_is_said(repository: Repository) -> None:
    (line,) = said(repository, "AssertionError: Torch not compiled with CUDA enabled\n")
    assert line == "it wants a GPU, and there is none here: --train-command with a flag such as --device cpu"


def test_all_that_is_missing_is_said_at_once(repository: Repository) -> None:
    error = (
        "urlopen error [Errno -3] Temporary failure in name resolution\n"
        "FileNotFoundError: [Errno 2] No such file or directory: 'data/chars/train.bin'\n"
    )
    assert len(said(repository, error, hosts=("a.b",))) == 2


def test_any_other_end_is_told_with_its_cause(repository: Repository) -> None:
    assert said(repository, TRACEBACK) == ["the program exited with status 1: RuntimeError: shapes 3 and 4 do not fit"]


@pytest.mark.parametrize("outcome", [TrialOutcome.COMPLETED, TrialOutcome.TIMEOUT])
def test_a_program_that_ended_well_or_was_still_running_misses_nothing(
    repository: Repository, outcome: TrialOutcome
) -> None:
    warning = "UserWarning: CUDA driver version is too old; No such file or directory: 'cache/x.bin'\n"
    assert findings(ended(warning, outcome=outcome), repository, "python3") == []
    assert findings(ended(warning, stopped=True), repository, "python3") == []
