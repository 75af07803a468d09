"""What a failed first run shows to be missing: the cause in one line, and the line that fixes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from autolab.adoption.probe_findings import cause, findings
from autolab.adoption.program_probe import Probed
from autolab.adoption.repository import Repository
from autolab.lab.git import Git
from autolab.lab.schemas.data_entry import DataEntry
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


COMMITTED = ["data/chars/readme.md", "data/chars/prepare.py", "mine/__init__.py", "mine/loader.py"]

TEXTS: dict[str, str] = {}


class Committed:
    """What git holds, without a git."""

    def files(self, commit: str) -> list[str]:
        return [*COMMITTED, *TEXTS]

    def text(self, commit: str, path: str) -> str | None:
        if not path.endswith(".py"):
            return TEXTS.get(path)
        return "base = os.environ.get('MINE_BASE_DIR', '~/.cache/mine')\n"


class Checkout(Repository):
    """A checkout of which git holds some files beside the data."""

    def holds(self, path: str) -> bool:
        return path in COMMITTED or path in TEXTS


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "mine"
    (root / "data" / "chars").mkdir(parents=True)
    (root / "data" / "chars" / "train.bin").write_bytes(b"1")
    return Checkout(root, cast(Git, Committed()), "", ())


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
    assert found.data == (DataEntry(path="data/chars"),)
    line = "data/chars/train.bin: not there: git does not hold it, so trials need it: --data data/chars"
    assert str(found) == line


def test_a_path_in_the_copy_of_the_code_is_one_of_the_checkout(repository: Repository) -> None:
    place = repository.root / ".git" / "autolab.probe" / "attempt" / "copy" / "data" / "chars" / "train.bin"
    (found,) = findings(ended(f"Error: could not open {place}\n"), repository, "python3")
    assert found.data == (DataEntry(path="data/chars"),)


def test_a_file_that_is_nowhere_has_to_be_made(repository: Repository) -> None:
    (line,) = said(repository, "FileNotFoundError: [Errno 2] No such file or directory: 'data/chars/val.bin'\n")
    way_out = "make it once, with network: autolab fetch -- python data/chars/prepare.py"
    assert line == f"data/chars/val.bin: not there: {way_out}"


def test_a_folder_outside_is_named_as_the_data(repository: Repository, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus" / "text.txt"
    corpus.parent.mkdir()
    corpus.write_text("a")
    (line,) = said(repository, f"FileNotFoundError: [Errno 2] No such file or directory: '{corpus}'\n")
    assert line == f"{corpus}: a trial does not see it: name it as data: --data {corpus.parent}"


def test_a_file_in_the_home_is_named_by_its_tilde(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "corpora" / "x").mkdir(parents=True)
    (tmp_path / "home" / "corpora" / "x" / "a.txt").write_text("a")
    # At containment full the home of a trial is /tmp.
    (line,) = said(repository, "FileNotFoundError: [Errno 2] No such file or directory: '/tmp/corpora/x/a.txt'\n")
    assert line == "~/corpora/x/a.txt: a trial does not see it: name it as data: --data ~/corpora/x"


def test_a_file_beside_the_repository_is_named_as_the_program_names_it(repository: Repository) -> None:
    (repository.root.parent / "corpus").mkdir()
    (repository.root.parent / "corpus" / "a.txt").write_text("a")
    place = repository.root / ".git" / "autolab.probe" / "attempt" / "corpus" / "a.txt"
    for name in ("../corpus/a.txt", place):
        (line,) = said(repository, f"FileNotFoundError: [Errno 2] No such file or directory: '{name}'\n")
        assert line == "../corpus/a.txt: a trial does not see it: name it as data: --data ../corpus"


def test_a_folder_with_code_in_it_stays_the_commits_and_its_other_files_are_bound(repository: Repository) -> None:
    for name in ("loader.py", "rows.bin", "words.txt"):
        (repository.root / "mine").mkdir(exist_ok=True)
        (repository.root / "mine" / name).write_text("1")
    (found,) = findings(ended("FileNotFoundError: No such file or directory: 'mine/rows.bin'\n"), repository, "python3")
    assert found.data == (DataEntry(path="mine/rows.bin"), DataEntry(path="mine/words.txt"))


def test_a_file_at_the_top_is_bound_alone(repository: Repository) -> None:
    (repository.root / "input.txt").write_text("1")
    (repository.root / "results.txt").write_text("1")
    (found,) = findings(ended("FileNotFoundError: No such file or directory: 'input.txt'\n"), repository, "python3")
    assert found.data == (DataEntry(path="input.txt"),)


def test_an_error_that_names_no_file_is_explained_by_what_the_program_tried_to_read(repository: Repository) -> None:
    opened = ("/usr/x", "data/chars/train.bin", "notes.txt")
    (found,) = findings(ended("RuntimeError: Dataset not found.\n", opened=opened), repository, "python3")
    assert found.data == (DataEntry(path="data/chars"),)


def test_what_a_program_below_the_top_tried_to_read_is_bound_at_its_place(repository: Repository) -> None:
    below = replace(repository, folder="data")
    (found,) = findings(ended("AssertionError\n", looked=("data/chars/train.bin",)), below, "python3")
    assert found.data == (DataEntry(path="data/chars"),)


def test_data_that_a_compiled_program_names_is_bound_once_where_its_error_names_another_file(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = 'open("data/chars/train.bin"); open("missing.bin"); open("mine/loader.py");\n'
    monkeypatch.setitem(TEXTS, "train.c", source)
    error, command = "Error: failed to glob pattern: other/train.bin\n", "sh -c 'cc train.c -o train && ./train'"
    (found,) = findings(ended(error), repository, "python3", command=command)
    assert found.data == (DataEntry(path="data/chars"),)
    assert (
        found.bound == "data/chars/train.bin: train.c names it; git does not hold it: data/chars is bound as the data"
    )
    (found,) = findings(ended(error), repository, "python3", found.data, command)
    assert found.problem == "the program exited with status 1"


@pytest.mark.parametrize(
    ("entry", "name", "makes_writable"),
    [
        (DataEntry(path="data/chars"), "data/chars/processed/x.pt", True),
        (DataEntry(path="data/chars"), "data/chars/train.bin", False),
        (DataEntry(path="data/chars", writable=True), "data/chars/processed", False),
        (DataEntry(path="~/x", at="/data/x"), "/data/x/cache", False),
    ],
)
def test_a_program_that_writes_beside_its_data_gets_a_folder_of_links_where_that_helps(
    repository: Repository, entry: DataEntry, name: str, makes_writable: bool
) -> None:
    error = f"OSError: [Errno 30] Read-only file system: '{name}'\n"
    (found,) = findings(ended(error), repository, "python3", [entry])
    assert found.problem == f"{name}: it writes into its data, which trials only read"
    if makes_writable:
        assert found.data == (entry.model_copy(update={"writable": True}),)
    else:
        assert found.data == () and "let it write to another folder" in found.way_out


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
    assert line.startswith(
        "it wants a.b, and a trial has no network: fetch once what it downloads: autolab fetch -- CMD"
    )


def test_the_cache_that_holds_what_a_host_serves_is_named(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (line,) = said(repository, "ConnectionError: no\n", hosts=("huggingface.co",))
    assert "if ~/.cache/huggingface has what it loads: --data ~/.cache/huggingface; else fetch once" in line


def test_a_gpu_that_is_not_there_is_said(repository: Repository) -> None:
    (line,) = said(repository, "AssertionError: Torch not compiled with CUDA enabled\n")
    assert line == (
        "it wants a GPU, and there is none here: a flag of the program for the CPU, such as --device cpu, if it has"
        " one; else a machine with a GPU"
    )


def test_a_terminal_that_a_program_asks_for_is_said_with_the_command_that_gives_one(repository: Repository) -> None:
    error = "stty: 'standard input': Inappropriate ioctl for device\nValueError: not enough values to unpack\n"
    (line,) = said(repository, error)
    assert line.startswith("it asks for the size of its terminal, and a trial has none: --train-command")
    assert "script -qec" in line


@pytest.mark.parametrize("path", ["/root/.cache", "../data"])
def test_a_folder_outside_that_a_program_makes_is_said_with_what_names_another(
    repository: Repository, path: str
) -> None:
    (line,) = said(repository, f"OSError: [Errno 30] Read-only file system: '{path}'\n")
    assert line == (
        f"{path}: outside of the repository, where a trial cannot write: env MINE_BASE_DIR=FOLDER before the command;"
        f" or if it is data, fetch it once (autolab fetch -- CMD), or name where it lies: --data FOLDER={path}"
    )


def test_a_line_that_begins_as_an_error_comes_before_one_that_speaks_of_something_not_found(
    repository: Repository,
) -> None:
    printed = "NCCL is not found, disabling multi-GPU support\nError: no files match the pattern x*.bin\n"
    assert cause(ended(out=printed)) == "Error: no files match the pattern x*.bin"


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
