"""The engine's documents: old bytes stay, an entry goes in once, a kill anywhere loses and doubles nothing."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab import files
from autolab.errors import LabError, RecordError
from autolab.lab import crash_points
from autolab.reports.journal import KEPT, ROLL_OVER, DocumentEntry, Pending, Place, WrittenEntry, write
from autolab.reports.results_table import COLUMNS, WITHOUT_GEAR

ID = "2026-02-12T23-30-00Z_h1"
HEADER = "\t".join(COLUMNS).encode()
NASTY = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.sampled_from([b"\r\n", b"\n", b"text", b"\xff\xfe", b"## a", b"<!-- autolab:x -->\n", b"\xef\xbb\xbf"])
    ).map(b"".join),
)
SETTINGS = settings(max_examples=60, deadline=None)


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


def row(iteration: str = ID, run: str = "run_0001", arm: str = "baseline") -> str:
    return "\t".join(["c0ffee", iteration, run, "search", arm, *["1"] * (len(COLUMNS) - 5)])


def entry(
    name: str = ID, text: str = "words", place: Place = "top", path: str = "RESEARCH_JOURNAL.md"
) -> DocumentEntry:
    return DocumentEntry(name, path, text, place)


# old bytes


@SETTINGS
@given(old=NASTY, text=st.text(max_size=80))
def test_a_journal_keeps_its_old_bytes_as_suffix_and_takes_an_entry_once(old: bytes, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "RESEARCH_JOURNAL.md"
        path.write_bytes(old)
        added = entry("new.entry", text.encode("utf-8", "replace").decode())
        first = write(Path(folder), added)
        once = path.read_bytes()
        assert first.changed and once.endswith(old) and once.startswith(b"<!-- autolab:new.entry -->\n")
        second = write(Path(folder), added)
        assert not second.changed and path.read_bytes() == once
        assert second.sha256_before == second.sha256_after == first.sha256_after


@SETTINGS
@given(old=NASTY)
def test_a_paper_target_keeps_its_old_bytes_as_prefix_and_takes_a_section_once(old: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paper" / "ralph.md"
        path.parent.mkdir()
        path.write_bytes(old)
        added = entry("new", "text", "section", "paper/ralph.md")
        assert write(Path(folder), added).changed
        once = path.read_bytes()
        assert once.startswith(old) and once.endswith(b"<!-- autolab:new -->\ntext\n<!-- /autolab:new -->\n")
        assert not write(Path(folder), added).changed and path.read_bytes() == once


@SETTINGS
@given(old=NASTY, ending=st.sampled_from([b"\n", b"\r\n"]))
def test_the_table_keeps_its_old_bytes_as_prefix_and_takes_a_row_once(old: bytes, ending: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.tsv"
        before = HEADER + ending + old
        path.write_bytes(before)
        added = entry(text=row(), place="row", path="results.tsv")
        assert write(Path(folder), added).changed
        once = path.read_bytes()
        assert once.startswith(before) and once.endswith(b"\n" + row().encode() + b"\n")
        assert not write(Path(folder), added).changed and path.read_bytes() == once


@SETTINGS
@given(old=NASTY)
def test_a_file_that_exists_is_never_overwritten(old: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.md"
        path.write_bytes(old)
        assert not write(Path(folder), entry(place="file", path="report.md")).changed
        assert path.read_bytes() == old


def test_a_new_file_is_made_with_its_folders_and_its_id_at_the_end(tmp_path: Path) -> None:
    written = write(tmp_path, entry(text="# Report", place="file", path="9_reports/a/b.md"))
    assert written.changed and written.sha256_before is None
    assert (tmp_path / "9_reports/a/b.md").read_text() == f"# Report\n\n<!-- autolab:{ID} -->\n"


def test_a_row_takes_the_form_of_the_table_that_is_there(tmp_path: Path) -> None:
    old = "\t".join(WITHOUT_GEAR) + "\n" + "\t".join(["c0ffee", ID, "run_0001", "baseline", *["1"] * 10]) + "\n"
    (tmp_path / "results.tsv").write_text(old)
    both = f"{row(arm='baseline')}\n{row(arm='wide')}"
    assert write(tmp_path, entry(text=both, place="row", path="results.tsv")).changed
    added = "\t".join(["c0ffee", ID, "run_0001", "wide", *["1"] * 10])
    assert (tmp_path / "results.tsv").read_text() == old + added + "\n", "the other one is there"
    # An entry that has waited since before there was the column.
    write(tmp_path, entry(text=added, place="row", path="new.tsv"))
    write(tmp_path, entry(text=row(arm="wide"), place="row", path="new.tsv"))
    lines = (tmp_path / "new.tsv").read_text().split("\n")
    assert lines == ["\t".join(COLUMNS), "\t".join(["c0ffee", ID, "run_0001", "", "wide", *["1"] * 10]), ""]


def test_a_new_table_gets_its_header_and_only_the_rows_it_lacks(tmp_path: Path) -> None:
    write(tmp_path, entry("a", row(arm="baseline"), "row", "results.tsv"))
    both = f"{row(arm='baseline')}\n{row(arm='wide')}"
    assert write(tmp_path, entry("b", both, "row", "results.tsv")).changed
    lines = (tmp_path / "results.tsv").read_bytes().split(b"\n")
    assert lines == [HEADER, row().encode(), row(arm="wide").encode(), b""]


def test_a_table_with_other_columns_is_refused_in_one_line_and_kept(tmp_path: Path) -> None:
    (tmp_path / "results.tsv").write_text("commit\tbpb\n")
    with pytest.raises(LabError, match=r"^results\.tsv: line 1: other columns than commit .*: move the file away"):
        write(tmp_path, entry(text=row(), place="row", path="results.tsv"))
    assert (tmp_path / "results.tsv").read_text() == "commit\tbpb\n"


def test_words_of_an_answer_cannot_pass_for_another_entrys_id(tmp_path: Path) -> None:
    write(tmp_path, entry("first", "<!-- autolab:second --> hides the next"))
    assert write(tmp_path, entry("second", "is written all the same")).changed


def test_the_file_keeps_its_mode_and_a_leftover_of_a_killed_write_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "FINDINGS.md"
    path.write_text("old\n")
    path.chmod(0o640)
    (tmp_path / ".FINDINGS.md.autolab-tmp").write_text("half")
    write(tmp_path, entry(path="FINDINGS.md"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["FINDINGS.md"]


# what is refused


@pytest.mark.parametrize("path", ["../out.md", "/etc/out.md", "a/../../out.md", ""])
def test_a_path_outside_the_lab_is_no_entry(path: str) -> None:
    with pytest.raises(RecordError, match="not a path inside the lab"):
        entry(path=path)


@pytest.mark.parametrize("name", ["", "a b", "x-->", "é", "../x"])
def test_an_id_that_could_break_its_comment_is_no_entry(name: str) -> None:
    with pytest.raises(RecordError, match="is not an id"):
        entry(name)


def test_a_symbolic_link_is_refused_as_file_and_as_folder(tmp_path: Path) -> None:
    lab, outside = tmp_path / "lab", tmp_path / "outside"
    lab.mkdir()
    outside.mkdir()
    (outside / "file.md").write_text("theirs")
    (lab / "FINDINGS.md").symlink_to(outside / "file.md")
    (lab / "paper").symlink_to(outside)
    for path in ("FINDINGS.md", "paper/file.md"):
        with pytest.raises(LabError, match="is a symbolic link"):
            write(lab, entry(path=path))
    assert (outside / "file.md").read_text() == "theirs"


def test_a_folder_or_a_pipe_in_the_place_of_a_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "FINDINGS.md").mkdir()
    os.mkfifo(tmp_path / "RESEARCH_JOURNAL.md")
    for path in ("FINDINGS.md", "RESEARCH_JOURNAL.md"):
        with pytest.raises(LabError, match="not a plain file"):
            write(tmp_path, entry(path=path))


def test_a_full_disk_is_one_line_and_leaves_the_document_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "FINDINGS.md").write_text("old\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match=r"^FINDINGS\.md: cannot be written: No space left on device: make room"):
        write(tmp_path, entry(path="FINDINGS.md"))
    assert os.listdir(tmp_path) == ["FINDINGS.md"] and (tmp_path / "FINDINGS.md").read_text() == "old\n"


def test_a_line_that_the_user_adds_during_the_write_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, edits = tmp_path / "RESEARCH_JOURNAL.md", os.fsync, iter([b"private line\nold\n"])
    path.write_bytes(b"old\n")

    def editor(descriptor: int) -> None:
        real(descriptor)
        for content in edits:
            path.write_bytes(content)
            break

    monkeypatch.setattr(os, "fsync", editor)
    write(tmp_path, entry())
    assert path.read_bytes().endswith(b"words\n\nprivate line\nold\n")


def test_a_document_that_never_holds_still_is_given_up_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, count = tmp_path / "RESEARCH_JOURNAL.md", os.fsync, iter(range(1000))
    path.write_bytes(b"old\n")

    def restless(descriptor: int) -> None:
        real(descriptor)
        path.write_bytes(b"line\n" * next(count))

    monkeypatch.setattr(os, "fsync", restless)
    with pytest.raises(LabError, match="keeps changing"):
        write(tmp_path, entry())


# roll-over


def all_bytes(folder: Path) -> bytes:
    """The journal and its closed parts, newest first, as one text."""
    parts = sorted(folder.glob("RESEARCH_JOURNAL.[0-9]*.md"), key=lambda path: -int(path.name.split(".")[1]))
    return b"".join(path.read_bytes() for path in (folder / "RESEARCH_JOURNAL.md", *parts))


@settings(max_examples=15, deadline=None)
@given(old=NASTY, sizes=st.lists(st.integers(1_000, 150_000), min_size=3, max_size=9))
def test_a_roll_over_keeps_every_byte_in_order_and_bounds_the_journal(old: bytes, sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, expected = Path(name), old
        (folder / "RESEARCH_JOURNAL.md").write_bytes(old)
        for number, size in enumerate(sizes):
            added = entry(f"e{number}", "x" * size)
            written = write(folder, added)
            expected = f"{added.marker}\n{added.text}\n".encode() + (b"\n" + expected if expected else b"")
            assert written.changed and all_bytes(folder) == expected
            assert not write(folder, added).changed
            if written.closed is not None:
                part = (folder / written.closed.path).read_bytes()
                assert written.closed.sha256 == files.sha256_of(part)
            assert len((folder / "RESEARCH_JOURNAL.md").read_bytes()) <= ROLL_OVER


def test_the_newest_entries_stay_and_whole_ones_go(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path, entry(f"e{number}", "x" * 10_000))
    journal = (tmp_path / "RESEARCH_JOURNAL.md").read_bytes()
    closed = (tmp_path / "RESEARCH_JOURNAL.1.md").read_bytes()
    assert journal.startswith(b"<!-- autolab:e29 -->") and closed.startswith(b"<!-- autolab:e")
    assert closed.endswith(b"x\n") and b"<!-- autolab:e0 -->" in closed
    assert len(closed) > ROLL_OVER - KEPT - 20_000


def test_an_entry_that_went_into_the_closed_part_is_not_written_again(tmp_path: Path) -> None:
    entries = [entry(f"e{number}", "x" * 10_000) for number in range(30)]
    for one in entries:
        write(tmp_path, one)
    assert entries[20].marker.encode() in (tmp_path / "RESEARCH_JOURNAL.1.md").read_bytes()
    assert not write(tmp_path, entries[20]).changed


def test_a_roll_over_killed_at_any_point_is_finished_without_loss_or_doubling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = b"".join(f"<!-- autolab:e{n} -->\n{'x' * 10_000}\n\n".encode() for n in range(26))
    added = entry("new", "y" * 10_000)
    whole = f"{added.marker}\n{added.text}\n\n".encode() + old
    real = os.replace
    for kill_at in range(4):  # before and after the rename of the closed part, before and after the journal's
        folder, steps = tmp_path / str(kill_at), iter(range(4))
        folder.mkdir()
        (folder / "RESEARCH_JOURNAL.md").write_bytes(old)

        def killed(source: Path, target: Path, kill_at: int = kill_at, steps: Iterator[int] = steps) -> None:
            if next(steps) == kill_at:
                raise Killed
            real(source, target)
            if next(steps) == kill_at:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", killed)
            with pytest.raises(Killed):
                write(folder, added)
        write(folder, added)
        assert all_bytes(folder) == whole
        assert sorted(os.listdir(folder)) == ["RESEARCH_JOURNAL.1.md", "RESEARCH_JOURNAL.md"]


# the queue


def flush(pending: Pending, root: Path) -> list[WrittenEntry]:
    """Write what waits as the engine does: each entry, then its place in the queue."""
    written = []
    for one in pending.waiting():
        written.append(write(root, one))
        crash_points.point("document.after_write")
        pending.forget(one)
    return written


def killer(at: int) -> Callable[[str], None]:
    passed = iter(range(1, 1_000))

    def point(name: str) -> None:
        assert name in crash_points.POINTS
        if next(passed) == at:
            raise Killed

    return point


def queued() -> list[DocumentEntry]:
    return [
        entry("a", "first"),
        entry("a", row(), "row", "results.tsv"),
        entry("b", "second"),
        entry("b", "paper", "section", "paper/ralph.md"),
        entry("b", "# report", "file", "9_reports/x.md"),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_entries_wait_and_go_in_the_order_they_came(tmp_path: Path) -> None:
    pending, lab = Pending(tmp_path / "pending"), tmp_path / "lab"
    lab.mkdir()
    for one in queued():
        pending.add(one)
    pending.add(queued()[0])
    assert pending.waiting() == queued()
    assert [written.path for written in flush(pending, lab)] == [one.path for one in queued()]
    journal = (lab / "RESEARCH_JOURNAL.md").read_text()
    assert journal.index("second") < journal.index("first")
    assert pending.waiting() == [] and flush(pending, lab) == []


def test_killed_anywhere_the_queue_ends_with_the_same_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(folder: Path) -> dict[str, bytes]:
        pending, lab = Pending(folder / "pending"), folder / "lab"
        lab.mkdir(parents=True, exist_ok=True)
        for one in queued():
            pending.add(one)
        flush(pending, lab)
        return contents(lab)

    expected, kill_at = walk(tmp_path / "unbroken"), 0
    killed = True
    while killed:
        kill_at += 1
        folder = tmp_path / str(kill_at)
        with monkeypatch.context() as patched:
            patched.setattr(crash_points, "point", killer(kill_at))
            try:
                walk(folder)
                killed = False
            except Killed:
                pass
        assert walk(folder) == expected
    assert kill_at == 2 * len(queued()) + 1


def test_a_forgotten_entry_is_gone_and_its_namesake_for_another_document_stays(tmp_path: Path) -> None:
    pending = Pending(tmp_path)
    for one in queued():
        pending.add(one)
    pending.forget(queued()[0])
    pending.forget(queued()[0])
    assert pending.waiting() == queued()[1:]


def test_a_waiting_entry_that_was_damaged_is_named_and_kept(tmp_path: Path) -> None:
    pending = Pending(tmp_path)
    pending.add(entry())
    file = next(tmp_path.iterdir())
    for damage in ("{", "[]", '{"id": 1}', '{"id": "a", "path": "p", "text": "t", "place": "middle"}'):
        file.write_text(damage)
        with pytest.raises(RecordError, match=rf"{file.name}: not a waiting document entry"):
            pending.waiting()
        assert file.exists()
