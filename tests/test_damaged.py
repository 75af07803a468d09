"""Every file of a lab's record, damaged in every way: one line, no traceback, and `doctor --fix` mends or says how."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_kit import HELPS, NOTHING, Kept, LabKit, make_twin, script

from autolab import cli, doctor, mending

LOOP = ("loop", "--max-iterations", "1", "--plain")


@pytest.fixture(scope="module")
def midway(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lab with one iteration finished and the second before its implementation, and an entry that waits."""
    kit = make_twin(tmp_path_factory.mktemp("midway"), script(HELPS, NOTHING))
    for words in (LOOP, ("run",), ("run",)):
        assert kit.autolab(*words).code == 0
    assert kit.state()["stage"] == "implementation"
    return Kept(kit)


def call(kit: LabKit, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """A command in this process; an exception that a person would see as a traceback fails the test."""
    monkeypatch.chdir(kit.root)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(words))
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is not what is asked about here."""
    monkeypatch.setattr(doctor, "_machine", lambda: [])


def folder(path: Path) -> None:
    remove(path)
    path.mkdir()


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def holding(content: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        remove(path)
        path.write_bytes(content)

    return spoil


def link(path: Path) -> None:
    """A link to a file of somebody's, which is to stay as it is."""
    remove(path)
    theirs = path.parent.parent.parent.parent / "theirs.txt"
    theirs.write_text("theirs\n")
    path.symlink_to(theirs)


def dangling(path: Path) -> None:
    remove(path)
    path.symlink_to("/nonexistent/nothing")


def unreadable(path: Path) -> None:
    path.chmod(0)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "folder": folder,
    "empty": holding(b""),
    "list": holding(b"[]"),
    "object": holding(b"{}"),
    "binary": holding(b"\xff\xfe\x00\x01\n"),
    "link": link,
    "dangling link": dangling,
    "unreadable": unreadable,
    "missing": remove,
}
STORE = (*mending.PLAIN, "seals", "pending", "trials", "asks", "control", "exports")
"""Of the folders with many files of a kind, the first file stands for all."""
OWN = ("lock", "stop", "interpreter")


def places(kit: LabKit) -> dict[str, Path]:
    found = {f"store/{name}": kit.store / name for name in STORE}
    found |= {f"view/{name}": kit.root / ".autolab" / name for name in mending.VIEWS}
    for name, pattern in {"seal": "seals/*.json", "trial": "trials/??/*.json", "prompt": "control/prompts/*"}.items():
        found[f"one/{name}"] = sorted(kit.store.glob(pattern))[0]
    return found


NAMES = (
    *(f"store/{name}" for name in STORE),
    *(f"view/{name}" for name in mending.VIEWS),
    *("one/seal", "one/trial", "one/prompt"),
)


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_one_line_with_a_way_out_and_doctor_mends_it_or_says_what_to_do(
    midway: Kept, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for damage, spoil in DAMAGES.items():
        if damage == "unreadable" and os.geteuid() == 0:
            continue  # to root everything is readable
        kit = midway.back()
        path = places(kit)[name]
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        spoil(path)
        case = f"{name} as {damage}"
        for command in ("status", "verify", "run"):
            code, out, err = call(kit, monkeypatch, command)
            assert err.count("\n") <= 1, f"{case}: {command}: {err}"
            assert code in (0, 1), f"{case}: {command}: {code}"
            if code == 1 and command != "verify":
                assert re.search(r"autolab |put it back|copy it|chmod", err), f"{case}: {command}: no way out: {err}"
        kit = midway.back()
        path = places(kit)[name]
        if not os.path.lexists(path):
            path.touch()
        spoil(path)
        code, out, err = call(kit, monkeypatch, "doctor", "--fix")
        assert err.count("\n") <= 1 and "Traceback" not in err, f"{case}: {err}"
        theirs = kit.root.parent / "theirs.txt"
        assert not theirs.exists() or theirs.read_text() == "theirs\n", f"{case}: what a link led to was changed"
        if name == "store/secret":
            assert code == 1 and "put it back from a copy" in out + err, f"{case}: {out}{err}"
            continue
        assert code == 0, f"{case}: {out}{err}"
        again, out, err = call(kit, monkeypatch, "verify")
        assert again == 0, f"{case}: verify after doctor --fix: {out}{err}"
        code, out, err = call(kit, monkeypatch, "run")
        assert code == 0, f"{case}: run after doctor --fix: {out}{err}"


