"""What comes home of an attempt: regular files within caps, under names that deceive nobody; and its removal."""

from __future__ import annotations

import ast
import json
import os
import socket
import stat
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.errors import ExecutorError
from autolab.sandbox.collect import ARCHIVE, LEFT_OUT_NAMES, Limits, OutputRules, collect, exceeded, remove_tree, stored

SOURCES = Path(__file__).parents[2] / "src" / "autolab"


@pytest.fixture
def home(tmp_path: Path) -> Callable[..., Path]:
    """Collects `tmp_path`/attempt with the given limits."""
    (tmp_path / "attempt").mkdir()
    (tmp_path / "exit").write_text("{}")

    def bring(**limits: int) -> Path:
        collect(tmp_path / "attempt", tmp_path / "exit", tmp_path / "got", Limits(**limits))
        return tmp_path / "got"

    return bring


@pytest.fixture
def attempt(tmp_path: Path, home: Callable[..., Path]) -> Path:
    return tmp_path / "attempt"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def archived(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(folder / ARCHIVE) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def left_out(folder: Path) -> dict[str, str]:
    told = json.loads((folder / "left_out.json").read_text())
    return {one["path"]: one["reason"] for one in told["left_out"]}


def deep(top: Path, depth: int, *, last: str = "file") -> None:
    """Folders inside each other, far beyond what a path can name, with a file in the innermost."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open(last, os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


# What is taken


def test_files_come_home_with_plain_modes_and_nothing_is_said_where_nothing_is_left_out(
    attempt: Path, home: Callable[..., Path]
) -> None:
    (attempt / "train" / "model").mkdir(parents=True)
    (attempt / "train" / "model" / "w").write_bytes(b"weights")
    (attempt / "train" / "run").write_text("#!/bin/sh\n")
    (attempt / "train" / "run").chmod(0o6755)
    (attempt / "train" / "model").chmod(0o777)
    got = home()
    assert files(got) == {"exit.json": b"{}", "train/model/w": b"weights", "train/run": b"#!/bin/sh\n"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in got.rglob("*")}
    assert (modes["run"] & ~0o644, modes["model"] & ~0o755) == (0, 0)
    assert exceeded(got) == ""


def test_links_pipes_sockets_and_shared_files_stay_out_and_are_named(
    attempt: Path, home: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (attempt / "link").symlink_to("/etc/passwd")
    (attempt / "folder").symlink_to("/etc")
    (attempt / "loop").symlink_to("loop")
    os.mkfifo(attempt / "pipe")
    monkeypatch.chdir(attempt)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    (attempt / "one").write_text("1")
    os.link(attempt / "one", attempt / "two")
    got = home()
    assert files(got).keys() == {"exit.json", "left_out.json"}
    links, special, shared = "a link", "a pipe, socket or device", "a file with 2 links"
    assert left_out(got) == {
        **dict.fromkeys(("link", "folder", "loop"), links),
        **dict.fromkeys(("pipe", "socket"), special),
        **dict.fromkeys(("one", "two"), shared),
    }


def test_what_cannot_be_read_is_named(
    attempt: Path, home: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root, who may run the tests, can read everything: the refusal is played."""
    (attempt / "closed").mkdir()
    (attempt / "closed" / "inside").touch()
    (attempt / "secret").touch()
    (attempt / "open").touch()
    opened = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if path in (b"closed", b"secret"):
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    got = home()
    assert left_out(got) == {"closed": "cannot be read", "secret": "cannot be read"}
    assert "open" in files(got)


def test_a_full_disk_is_no_fault_of_the_attempt(
    attempt: Path, home: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (attempt / "file").write_text("x")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        home()
    monkeypatch.undo()
    assert not (tmp_path / "got").exists()
    assert files(home()) == {"exit.json": b"{}", "file": b"x"}


def test_a_folder_exchanged_for_a_link_in_mid_collection_leads_nowhere(tmp_path: Path) -> None:
    """Somebody who still lives swaps a folder and a link to another's files, as fast as it can, fifty times over."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("the user's key")
    (tmp_path / "exit").write_text("{}")
    attempt = tmp_path / "attempt"
    (attempt / "a" / "in").mkdir(parents=True)
    (attempt / "a" / "in" / "key").write_text("mine")
    over = threading.Event()

    def swap() -> None:
        os.symlink(secret, attempt / "other")
        while not over.is_set():
            os.rename(attempt / "a" / "in", attempt / "away")
            os.rename(attempt / "other", attempt / "a" / "in")
            os.rename(attempt / "a" / "in", attempt / "other")
            os.rename(attempt / "away", attempt / "a" / "in")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for number in range(50):
            got = tmp_path / f"got{number}"
            collect(attempt, tmp_path / "exit", got, Limits())
            assert not [name for name, content in files(got).items() if content == b"the user's key"]
    finally:
        over.set()
        swapping.join()


@pytest.mark.parametrize("exchanged", ["folder", "file"])
def test_what_is_exchanged_between_look_and_opening_is_named(
    attempt: Path, home: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: str
) -> None:
    """The positive control of the race: exchanged at the worst moment, every time."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("the user's key")
    (attempt / "folder").mkdir()
    (attempt / "file").write_text("mine")
    opened = os.open

    def exchange(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if path == exchanged.encode() and not (attempt / exchanged).is_symlink():
            (attempt / exchanged).rename(attempt.parent / "was")
            (attempt / exchanged).symlink_to(tmp_path / "secret" / ("key" if exchanged == "file" else ""))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", exchange)
    got = home()
    assert left_out(got) == {exchanged: "exchanged while it was collected"}
    assert b"the user's key" not in files(got).values()


# What programs would run


EXECUTED = [
    *(".git/config", ".git/HEAD", ".git/objects/x", "HEAD", ".GIT/config", ".gitmodules", ".gitattributes"),
    *("conftest.py", "test_x.py", "x_test.py", "sitecustomize.py", "run.sh", "__init__.py", "a.pth", "x.pyc"),
    *("pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml", "noxfile.py", ".coveragerc"),
    *(
        ".envrc",
        ".direnv/bin/x",
        ".tool-versions",
        "mise.toml",
        ".vscode/tasks.json",
        ".idea/x.xml",
        "a.code-workspace",
    ),
    *(".devcontainer/devcontainer.json", ".husky/pre-commit", ".pre-commit-config.yaml", "hooks/pre-commit"),
    *(
        "Makefile",
        "GNUmakefile",
        "makefile",
        "justfile",
        "package.json",
        "CMakeLists.txt",
        "Dockerfile",
        "build.gradle",
    ),
    *(".claude/settings.json", ".mcp.json", "CLAUDE.md", "AGENTS.md", ".gdbinit", ".exrc", ".dir-locals.el", ".bashrc"),
    *("test_\n.py", "conftest.PY", "model/modeling.py", "model/conftest.py", "logs/conftest.py"),
]


def test_what_programs_run_or_read_settings_from_lies_in_one_archive_alone(
    attempt: Path, home: Callable[..., Path]
) -> None:
    for name in EXECUTED:
        (attempt / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (attempt / "train" / name).write_text(name)
    kept = ["metrics.json", "history.jsonl", "model/weights.pt", "model/config.json", "log.txt", "plot.png", "plain"]
    for name in kept:
        (attempt / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (attempt / "train" / name).write_text(name)
    got = home()
    loose = {str(path.relative_to(got)) for path in got.rglob("*") if path.is_file()}
    assert loose == {"exit.json", "left_out.json", ARCHIVE, *(f"train/{name}" for name in kept)}
    folders = {str(path.relative_to(got)) for path in got.rglob("*") if path.is_dir()}
    assert folders == {"train", "train/model", "train/hooks", "train/logs"}, "no empty .git either"
    assert {unquote_to_bytes(name).decode(): text.decode() for name, text in archived(got).items()} == {
        f"train/{name}": name for name in EXECUTED
    }
    assert all(reason.endswith(f"in {ARCHIVE} alone") for reason in left_out(got).values())
    assert "git runs what it names" in left_out(got)["train/.git/config"]
    assert len(left_out(got)) == len(EXECUTED) and exceeded(got) == ""
    assert stat.S_IMODE((got / ARCHIVE).stat().st_mode) == 0o644


def test_a_metrics_file_stays_loose_whatever_it_is_called_and_scratch_folders_stay_away(
    attempt: Path, tmp_path: Path
) -> None:
    for name in ("train/metrics.yaml", "train/other.yaml", "train/.git/config", "copy/train.py", "copy/data.txt"):
        (attempt / name).parent.mkdir(parents=True, exist_ok=True)
        (attempt / name).write_text(name)
    known = OutputRules(results=frozenset({"train/metrics.yaml", "train/.git/config"}), discarded=frozenset({"copy"}))
    collect(attempt, tmp_path / "exit", tmp_path / "got", Limits(), known)
    assert files(tmp_path / "got").keys() == {"exit.json", "left_out.json", ARCHIVE, "train/metrics.yaml"}
    assert archived(tmp_path / "got").keys() == {"train/other.yaml", "train/.git/config"}


def test_an_archive_of_its_own_is_kept_beside_ours(attempt: Path, home: Callable[..., Path]) -> None:
    (attempt / ARCHIVE).write_text("forged")
    (attempt / "conftest.py").write_text("x")
    got = home()
    assert archived(got) == {"conftest.py": b"x"}
    assert (got / f"%{ord(ARCHIVE[0]):02X}{ARCHIVE[1:]}").read_text() == "forged"


def test_the_archive_counts_and_a_file_with_holes_takes_little_room(attempt: Path, home: Callable[..., Path]) -> None:
    (attempt / "huge.py").touch()
    os.truncate(attempt / "huge.py", 8 << 20)
    (attempt / "more.py").write_bytes(bytes(100))
    got = home(total_bytes=8 << 20)
    assert archived(got).keys() == {"huge.py"} and (got / ARCHIVE).stat().st_size < 1 << 20
    assert exceeded(got) == f"it left more than {8 << 20} bytes"


# Caps


def test_a_file_beyond_the_bytes_stays_out_and_smaller_ones_come(attempt: Path, home: Callable[..., Path]) -> None:
    (attempt / "logs").mkdir()
    (attempt / "logs" / "train.err").write_bytes(b"why")
    (attempt / "a").mkdir()
    (attempt / "a" / "big").write_bytes(bytes(101))
    (attempt / "a" / "small").write_bytes(b"s")
    got = home(total_bytes=100)
    assert files(got).keys() == {"exit.json", "left_out.json", "logs/train.err", "a/small"}
    assert exceeded(got) == "it left more than 100 bytes"


def test_exactly_what_is_allowed_is_allowed(attempt: Path, home: Callable[..., Path]) -> None:
    (attempt / "a").mkdir()
    (attempt / "a" / "b").write_bytes(bytes(100))
    assert files(home(total_bytes=100, entries=2, depth=2)) == {"a/b": bytes(100), "exit.json": b"{}"}


def test_a_sparse_file_counts_by_its_length_and_stays_sparse(
    attempt: Path, home: Callable[..., Path], tmp_path: Path
) -> None:
    (attempt / "huge").touch()
    os.truncate(attempt / "huge", 1 << 40)
    (attempt / "holes").write_bytes(b"begin")
    os.truncate(attempt / "holes", 64 << 20)
    with open(attempt / "holes", "r+b") as file:
        file.seek(40 << 20)
        file.write(b"middle")
    got = home(total_bytes=100 << 20)
    assert left_out(got).keys() == {"huge"}
    assert exceeded(got) == f"it left more than {100 << 20} bytes"
    facts = (got / "holes").stat()
    assert facts.st_size == 64 << 20 and facts.st_blocks * 512 < 8 << 20
    assert (got / "holes").read_bytes() == (attempt / "holes").read_bytes()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("filled", [True, False])
def test_a_copy_has_every_byte(attempt: Path, home: Callable[..., Path], size: int, filled: bool) -> None:
    content = (os.urandom(size) if filled else bytes(size)) + b"end"
    (attempt / "file").write_bytes(content)
    (attempt / "zeros").write_bytes(bytes(size))
    got = files(home())
    assert (got["file"], got["zeros"]) == (content, bytes(size))


def test_too_many_entries_end_the_collection_and_logs_come_first(attempt: Path, home: Callable[..., Path]) -> None:
    for name in ("a", "logs", "z"):
        (attempt / name).mkdir()
    (attempt / "logs" / "train.err").write_text("why")
    for number in range(50):
        (attempt / "a" / f"{number:02}").touch()
    got = home(entries=20)
    assert exceeded(got) == "it left more than 20 files and folders"
    assert (got / "logs" / "train.err").read_text() == "why"
    assert len([path for path in got.rglob("*") if path.name not in ("exit.json", "left_out.json")]) == 20
    assert list(left_out(got).values()) == [exceeded(got)]


def test_a_name_that_does_not_fit_does_not_hide_that_there_are_too_many(
    attempt: Path, home: Callable[..., Path]
) -> None:
    for name in ("\x01" * 200, "\x02" * 200):
        (attempt / name).touch()
    assert exceeded(home(entries=1)) == "it left more than 1 files and folders"


def test_what_is_left_out_is_counted_and_only_so_many_are_named(attempt: Path, home: Callable[..., Path]) -> None:
    for number in range(150):
        (attempt / str(number)).symlink_to("/etc/passwd")
    told = json.loads((home() / "left_out.json").read_text())
    assert (told["count"], len(told["left_out"]), told["over"]) == (150, 100, "")


def test_a_tree_5000_deep_is_collected_to_its_cap_and_removed(
    attempt: Path, home: Callable[..., Path], tmp_path: Path
) -> None:
    deep(attempt, 5000)
    got = home()
    assert left_out(got) == {"/".join("d" * 33): "deeper than 32"}
    assert (got / "/".join("d" * 32)).is_dir()
    remove_tree(attempt)
    remove_tree(got)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exit"]


def test_a_path_that_no_program_could_open_stays_out(attempt: Path, home: Callable[..., Path]) -> None:
    here = os.open(attempt, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 255, dir_fd=here)
        inner = os.open("d" * 255, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    (reason,) = left_out(home()).values()
    assert reason == "its path is longer than 2000 bytes"


# Names

HOSTILE = [
    "line\nbreak",
    "tab\tand\x1b[2Jescape",
    "\u202egpj.exe",
    "\u2066isolated\u2069",
    "\uff0e\uff0e",
    "\u2025",
    "%2e%2e",
    "%",
    "a%41",
    'C:\\con|<aux>?"*',
    " ",
    "-rf",
    "--",
    ".hidden",
    "...",
    "e\u0301",
    "\u00e9",
    "\u0435xit.json",
]  # fmt: skip


def test_hostile_names_are_kept_apart_and_can_be_told_again(attempt: Path, home: Callable[..., Path]) -> None:
    raw = [*map(os.fsencode, HOSTILE), b"\xff\xfe not utf-8", b"\x80"]
    for number, name in enumerate(raw):
        (attempt / os.fsdecode(name)).write_text(str(number))
    got = home()
    ours = ("exit.json", "left_out.json", ARCHIVE)
    names = {path.name: int(path.read_text()) for path in got.iterdir() if path.name not in ours} | {
        name: int(text) for name, text in archived(got).items()
    }
    assert {unquote_to_bytes(name): number for name, number in names.items()} == dict(zip(raw, range(99), strict=False))
    assert all(name.isascii() and name.isprintable() and not set(name) & set('<>:"/\\|?*') for name in names)
    assert {".hidden", "-rf", "--", "..."} <= names.keys(), "plain names stay as they are"
    assert {"...", ".hidden"} <= archived(got).keys(), "hidden names are no results"


def test_names_that_are_ours_are_kept_beside_ours(attempt: Path, home: Callable[..., Path]) -> None:
    (attempt / "inner").mkdir()
    for place in (attempt, attempt / "inner"):
        for name in ("exit.json", "left_out.json", "%65xit.json", "EXIT.json"):
            (place / name).write_text("forged")
    got = home()
    assert (got / "exit.json").read_text() == "{}"
    assert not (got / "left_out.json").exists()
    top = ["%2565xit.json", "%45XIT.json", "%65xit.json", "%6Ceft_out.json", "exit.json"]
    assert sorted(path.name for path in got.iterdir() if path.is_file()) == top
    assert (got / "inner" / "exit.json").read_text() == "forged"


def test_a_name_too_long_to_be_stored_stays_out_and_is_named_in_short(attempt: Path, home: Callable[..., Path]) -> None:
    (attempt / ("ä" * 100)).touch()
    ((path, reason),) = left_out(home()).items()
    assert reason == "its name is longer than 255 bytes" and path == "%C3%A4" * 100


@given(st.sets(st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 47} & set(name)), min_size=2))
def test_two_names_never_become_one_and_each_can_be_told_again(names: set[bytes]) -> None:
    kept = {stored(name) for name in names}
    assert len(kept) == len(names)
    assert {unquote_to_bytes(name) for name in kept} == names


# Whole or not at all


def test_a_destination_that_holds_something_else_is_refused(attempt: Path, home: Callable[..., Path]) -> None:
    got = home()
    (attempt / "late").touch()
    assert home() == got and not (got / "late").exists(), "the same attempt again is left as it is"
    (got / "exit.json").write_text("another")
    with pytest.raises(ExecutorError, match="does not hold this attempt"):
        home()


def test_removing_a_tree_leaves_what_its_links_point_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    (tmp_path / "top" / "a" / "b" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "top")
    remove_tree(tmp_path / "top")
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept", "link"]


# Nothing is unpacked, nothing is unpickled

SAFE_LOADS = {name: ("allow_pickle", "False") for name in ("np.load", "numpy.load")}
SAFE_LOADS |= {"torch.load": ("weights_only", "True")}
# A user's command in their lab, not the engine's: a data set comes as a pickle, and nothing but data is built of it.
USERS_OWN = {"templates/cifar10/batches.py"}
FORBIDDEN = {"extractall", "unpack_archive", "pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}


def unsafe(source: str) -> list[str]:
    """Calls and imports by which a file of a stranger could write where it likes or run its own code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0], *(alias.name for alias in node.names)}
            found += sorted(names & FORBIDDEN)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            fixed = {word.arg: ast.unparse(word.value) for word in node.keywords}
            safe = SAFE_LOADS.get(called)
            if node.func.attr in FORBIDDEN or (safe is not None and fixed.get(safe[0]) != safe[1]):
                found.append(called)
    return found


def test_nothing_in_the_sources_unpacks_an_archive_or_unpickles() -> None:
    paths = {str(path.relative_to(SOURCES)): path for path in SOURCES.rglob("*.py")}
    assert len(paths) > 60
    assert {name for name, path in paths.items() if unsafe(path.read_text())} == USERS_OWN


@pytest.mark.parametrize(
    "line",
    [
        "tarfile.open(x).extractall(y)",
        "shutil.unpack_archive(x)",
        "import pickle",
        "from pickle import loads",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x)",
        "numpy.load(x, allow_pickle=True)",
    ],
)
def test_the_search_for_them_bites(line: str) -> None:
    assert unsafe(line)


def test_loading_without_pickle_is_allowed() -> None:
    assert unsafe("np.load(x, allow_pickle=False)\ntorch.load(x, weights_only=True)\njson.load(x)") == []


def test_the_default_caps_are_those_that_the_documents_name() -> None:
    assert (Limits().entries, Limits().depth, LEFT_OUT_NAMES) == (10_000, 32, 100)
