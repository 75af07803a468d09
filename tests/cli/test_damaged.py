"""Every file of a lab's record, damaged in every way: one line, no traceback, and `doctor --fix` fixes or says how."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from lab_kit import HELPS, NOTHING, Kept, LabKit, make_twin, script

from autolab.cli import command_line, doctor, fixes
from autolab.sandbox.collect import remove_tree

pytestmark = pytest.mark.process

LOOP = ("loop", "--max-iterations", "1", "--plain")


@pytest.fixture(scope="module")
def midway(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lab with one iteration finished and the second before its implementation, and an entry that waits."""
    kit = make_twin(tmp_path_factory.mktemp("midway"), script(HELPS, NOTHING, NOTHING))
    for words in (LOOP, ("run",), ("run",)):
        assert kit.autolab(*words).code == 0
    assert kit.state()["stage"] == "implementation"
    return Kept(kit)


def call(kit: LabKit, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """A command in this process; an exception that a user would see as a traceback fails the test."""
    monkeypatch.chdir(kit.root)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command_line.main(list(words))
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is not what is asked about here."""
    monkeypatch.setattr(doctor, "_examine_machine", lambda report: None)


def folder(path: Path) -> None:
    remove(path)
    path.mkdir()


def remove(path: Path) -> None:
    # An export is read-only, which holds a plain user's rmtree.
    remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


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


def unreadable(path: Path) -> None:
    path.chmod(0)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "folder": folder,
    "empty": holding(b""),
    "list": holding(b"[]"),
    "object": holding(b"{}"),
    "binary": holding(b"\xff\xfe\x00\x01\n"),
    "link": link,
    "unreadable": unreadable,
    "missing": remove,
}
STORE = (*fixes.PLAIN, "seals", "pending", "trials", "requests", "control", "exports")
"""Of the folders with many files of a kind, the first file stands for all."""
OWN = ("lock", "stop", "interpreter")


def places(kit: LabKit) -> dict[str, Path]:
    found = {f"store/{name}": kit.store / name for name in STORE}
    found |= {f"view/{name}": kit.root / ".autolab" / name for name in fixes.VIEWS}
    for name, pattern in {"seal": "seals/*.json", "trial": "trials/??/*.json", "prompt": "control/prompts/*"}.items():
        found[f"one/{name}"] = sorted(kit.store.glob(pattern))[0]
    return found


NAMES = (
    *(f"store/{name}" for name in STORE),
    *(f"view/{name}" for name in fixes.VIEWS),
    *("one/seal", "one/trial", "one/prompt"),
)


def complaints(midway: Kept, name: str, damages: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for damage in damages:
        if damage == "unreadable" and os.geteuid() == 0:
            continue  # to root everything is readable
        kit = midway.back()
        path = places(kit)[name]
        if not os.path.lexists(path):
            path.touch()
        DAMAGES[damage](path)
        yield from (f"{damage}: {said}" for said in trouble(kit, name, monkeypatch))


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_one_line_with_a_way_out_and_doctor_fixes_it_or_says_what_to_do(
    midway: Kept, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file in every third way, the next file in the next ways: every way meets many files."""
    damages = [damage for at, damage in enumerate(DAMAGES) if (at + NAMES.index(name)) % 3 == 0]
    told = list(complaints(midway, name, damages, monkeypatch))
    assert not told, "\n".join(told)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_any_damage_of_any_file_is_one_line_with_a_way_out(
    midway: Kept, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list(complaints(midway, name, DAMAGES, monkeypatch))
    assert not told, "\n".join(told)


def trouble(kit: LabKit, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What a user could complain of, a line each."""
    for command in ("status", "verify"):
        code, out, err = call(kit, monkeypatch, command)
        if err.count("\n") > 1 or code not in (0, 1):
            yield f"{command}: exit {code}: {err}"
        if code == 1 and not re.search(r"autolab |put it back|copy it|chmod", out + err):
            yield f"{command}: no way out: {out}{err}"
    code, out, err = call(kit, monkeypatch, "doctor", "--fix")
    theirs = kit.root.parent / "theirs.txt"
    if theirs.exists() and theirs.read_text() != "theirs\n":
        yield "what a link led to was changed"
    if name == "store/secret" and "permissions were " not in out:
        if code != 1 or "put it back from a copy" not in out + err:
            yield f"doctor --fix does not say what to do: {out}{err}"
        return
    if code or err:
        yield f"doctor --fix: exit {code}: {out}{err}"
        return
    code, out, err = call(kit, monkeypatch, "verify")
    if code or err:
        yield f"verify after doctor --fix: {out}{err}"


# a ledger of which nothing is left, manifests, the table, locks of others


@pytest.mark.parametrize("damage", ["missing", "empty", "binary"])
def test_a_ledger_that_is_gone_is_begun_anew_and_what_is_lost_is_said(midway: Kept, damage: str) -> None:
    kit = midway.back()
    lines = len((kit.store / "ledger.jsonl").read_bytes().splitlines())
    open_one = kit.state()["iteration_id"]
    DAMAGES[damage](kit.store / "ledger.jsonl")
    refused = kit.autolab("status")
    assert refused.code == 1 and refused.err.count("\n") == 1 and "autolab doctor --fix" in refused.err
    fixed = kit.autolab("doctor", "--fix")
    assert fixed.code == 0, fixed.out + fixed.err
    (said,) = [line for line in fixed.out.splitlines() if "was begun anew" in line]
    assert f"the open iteration {open_one}" in said and "taken over: 2 iterations, 1 lessons" in said
    verified = kit.autolab("verify")
    assert f"after {lines} lines were lost" in verified.out, "it is told for as long as the lab lives"
    assert kit.state()["stage"] == "hypothesis"
    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.out + ended.err
    assert len(kit.iterations()) == 3


def test_without_its_last_campaign_what_was_spent_is_said_to_be_lost(midway: Kept) -> None:
    kit = midway.back()
    for name in ("ledger.jsonl", "campaign.json"):
        (kit.store / name).unlink()
    fixed = kit.autolab("doctor", "--fix")
    assert fixed.code == 0 and "what the campaign had spent and claimed, its champions" in fixed.out, fixed.out
    assert kit.autolab("status").code == 0


def test_an_edited_manifest_is_noticed_and_brought_back(midway: Kept) -> None:
    kit = midway.back()
    path = kit.iterations()[0] / "runs" / "run_0001" / "run_manifest.json"
    whole = path.read_bytes()
    for broken in (whole.replace(b'"status": "completed"', b'"status": "failed"', 1), b"{}", whole[:200]):
        path.write_bytes(broken)
        verified = kit.autolab("verify")
        name = path.relative_to(kit.root)
        assert verified.code == 1 and f"FAIL  manifest: {name}: is not the one that the ledger recorded" in verified.out
        fixed = kit.autolab("doctor", "--fix")
        assert fixed.code == 0 and f"{name}: brought back from the record" in fixed.out, fixed.out
        assert path.read_bytes() == whole
        assert broken in [copy.read_bytes() for copy in (kit.store / "aside").iterdir()]
    assert kit.autolab("verify").out == "all is well\n"


def test_a_short_row_of_the_table_is_noticed_and_written_again(midway: Kept) -> None:
    kit = midway.back()
    path = kit.root / "results.tsv"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2][: len(lines[2]) // 2] + "\n", *lines[3:]]))
    verified = kit.autolab("verify")
    assert (
        verified.code == 1 and "FAIL  table: results.tsv: line 3: does not have the 15 cells of a row" in verified.out
    )
    fixed = kit.autolab("doctor", "--fix")
    assert fixed.code == 0 and "results.tsv: line 3: cells were missing; taken out, 1 rows written again" in fixed.out
    assert sorted(path.read_text().splitlines()) == sorted(whole.splitlines())
    assert kit.autolab("verify").out == "all is well\n"


def test_a_lock_of_another_machine_is_obeyed_until_doctor_takes_it(midway: Kept) -> None:
    kit = midway.back()
    held = {"pid": 4711, "command": "autolab loop --max-iterations 3", "since": "2026-01-01T00:00:00Z"}
    (kit.store / "lock").write_text(json.dumps(held | {"machine": "elsewhere"}))
    before = (kit.store / "ledger.jsonl").read_bytes()
    refused = kit.autolab(*LOOP)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    for part in ("`autolab loop --max-iterations 3` (pid 4711 on elsewhere", "end it there", "autolab doctor --fix"):
        assert part in refused.err
    assert (kit.store / "ledger.jsonl").read_bytes() == before
    assert kit.autolab("doctor", "--fix").code == 0
    assert kit.autolab(*LOOP).code == 0


def test_a_lock_that_is_a_link_is_refused_and_its_target_left_alone(midway: Kept) -> None:
    kit = midway.back()
    link(kit.store / "lock")
    refused = kit.autolab(*LOOP)
    assert (refused.code, refused.err.count("\n")) == (1, 1) and "autolab doctor --fix" in refused.err
    assert (kit.root.parent / "theirs.txt").read_text() == "theirs\n"
    assert kit.autolab("doctor", "--fix").code == 0
    assert (kit.root.parent / "theirs.txt").read_text() == "theirs\n"
    assert kit.autolab(*LOOP).code == 0


def test_a_clone_of_an_adopted_lab_hides_the_record_from_git(tmp_path: Path) -> None:
    first = LabKit(tmp_path / "first", tmp_path / "count.txt")
    first.root.mkdir()
    (first.root / "train.py").write_text('import os\nLR = 1.0\nprint(f"val_loss: {LR}", os.environ["AUTOLAB_SEED"])\n')
    first.git("init", "--quiet", "--initial-branch", "main")
    first.git("add", "--all")
    first.git("commit", "--quiet", "--message", "mine")
    assert first.autolab("init", "--from-existing", "--probe-seconds", "0").code == 0
    assert (first.root / "0_docs" / "problem.md").read_text().startswith("# The problem\n\nLower val_loss.\n")
    assert 'frozen: ["program.md", "meta_journal.md"]' in (first.root / ".autolab" / "config.yaml").read_text()
    first.git("add", "--all")
    first.git("commit", "--quiet", "--message", "the lab")
    first.git("clone", "--quiet", ".", "../second")
    second = LabKit(tmp_path / "second", tmp_path / "count.txt")
    assert second.autolab("init").code == 0
    for path in ("experiments/x/runs/run_0001/trials/a/metrics.json", "5_worktrees/x/train.py"):
        (second.root / path).parent.mkdir(parents=True)
        (second.root / path).write_text("{}")
    second.git("add", "--all")
    assert second.git("status", "--porcelain") == "", "nothing of the record would be committed"
