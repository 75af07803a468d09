"""The ledger loses no line, doubles none, and finds every change that it did not make itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.errors import LedgerError
from autolab.lab.ledger import Head, Ledger, Line, parse, seal


def made(folder: Path, count: int = 6) -> Ledger:
    """A ledger of `count` lines in `folder`; every third one is a transition."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder)
    ledger.create("0123abcd", folder)
    for n in range(count):
        ledger.append("transition" if n % 3 == 0 else "trial", {"state": n, "text": "Größe \n\u2028 x" * n})
    return ledger


def reopened(ledger: Ledger, *, repair: bool = False) -> Ledger:
    again = Ledger(ledger.path.parent)
    again.open(repair=repair)
    return again


def data(ledger: Ledger) -> list[Any]:
    return [line.data["state"] for line in ledger.lines()]


def refusal(ledger: Ledger, *, repair: bool = True) -> str:
    with pytest.raises(LedgerError) as caught:
        reopened(ledger, repair=repair)
    message = str(caught.value)
    assert "\n" not in message
    assert "autolab doctor --fix" in message, "a refusal names the way out"
    return message


# What is appended is there


def test_lines_come_back_in_order_with_number_time_and_chain(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    lines = list(reopened(ledger).lines())
    assert [line.n for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.prev for line in lines[1:]] == [line.hash for line in lines[:-1]]
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert data(ledger) == [0, 1, 2, 3, 4, 5]
    assert lines[4].data["text"] == "Größe \n\u2028 x" * 4


def test_a_line_is_one_line_of_plain_json_a_user_can_read(tmp_path: Path) -> None:
    raw = made(tmp_path).path.read_text(encoding="utf-8")
    assert raw.count("\n") == 6
    assert "Größe" in raw
    assert json.loads(raw.split("\n")[3])["event"] == "transition"


def test_the_newest_transition_is_found_without_reading_what_lies_before(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    found = reopened(ledger).transition()
    assert found is not None
    assert (found.n, found.data["state"]) == (4, 3)


def test_a_ledger_without_transition_says_so(tmp_path: Path) -> None:
    assert made(tmp_path, 0).transition() is None


def test_lines_from_an_offset_begin_there(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    third = list(ledger.lines())[2]
    assert [line.n for line in ledger.lines(third.offset)] == [3, 4, 5, 6]
    second = ledger.line_before(third.offset)
    assert second is not None and second.n == 2
    assert ledger.line_before(0) is None


@pytest.mark.parametrize("size", [1, 4094, 4095, 4096, 4097, 9000])
def test_the_line_before_is_found_however_long_it_is(tmp_path: Path, size: int) -> None:
    ledger = made(tmp_path, 1)
    ledger.append("trial", {"state": "long", "text": "x" * size})
    last = ledger.append("trial", {"state": "last"})
    before = ledger.line_before(last.offset)
    assert before is not None and before.data["state"] == "long"


def test_numbers_that_json_lacks_are_never_written(tmp_path: Path) -> None:
    ledger = made(tmp_path, 2)
    with pytest.raises(ValueError, match="JSON"):
        ledger.append("trial", {"state": float("nan")})
    assert data(reopened(ledger)) == [0, 1]


# The end: torn, behind, ahead


@given(count=st.integers(0, 4), draw=st.data())
def test_a_crash_at_any_byte_of_the_last_line_loses_that_line_alone(
    count: int, draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = made(tmp_path_factory.mktemp("torn"), count)
    head, size = ledger.head_path.read_bytes(), ledger.path.stat().st_size
    ledger.append("transition", {"state": "new", "text": "ä\n"})
    whole = ledger.path.read_bytes()
    cut = draw.draw(st.integers(size, len(whole)))
    ledger.path.write_bytes(whole[:cut])
    ledger.head_path.write_bytes(head)  # the crash came before the head was moved
    written = [*range(count), "new"] if cut == len(whole) else list(range(count))

    files = {path: path.read_bytes() for path in ledger.path.parent.iterdir()}
    reader = reopened(ledger)
    assert data(reader) == written
    assert reader.head.n == len(written)
    assert files == {path: path.read_bytes() for path in ledger.path.parent.iterdir()}, "a reader repairs nothing"

    writer = reopened(ledger, repair=True)
    torn = list(ledger.path.parent.glob("ledger.torn.*"))
    assert b"".join(path.read_bytes() for path in torn) == (b"" if cut == len(whole) else whole[size:cut])
    writer.append("trial", {"state": "after"})
    assert data(reopened(ledger)) == [*written, "after"]
    assert reopened(ledger).check() == len(written) + 1


def test_a_head_that_is_one_line_behind_is_moved_up_by_the_writer_only(tmp_path: Path) -> None:
    ledger = made(tmp_path, 3)
    before = ledger.head_path.read_bytes()
    ledger.append("transition", {"state": 3})
    ledger.head_path.write_bytes(before)
    reader = reopened(ledger)
    found = reader.transition()
    assert found is not None
    assert (reader.head.n, found.n) == (4, 4), "a reader sees the line"
    assert ledger.head_path.read_bytes() == before, "and repairs nothing"
    assert reopened(ledger, repair=True).head.n == 4
    assert json.loads(ledger.head_path.read_text())["n"] == 4


def test_a_head_that_is_two_lines_behind_is_refused(tmp_path: Path) -> None:
    ledger = made(tmp_path, 3)
    before = ledger.head_path.read_bytes()
    ledger.append("trial", {"state": 3})
    ledger.append("trial", {"state": 4})
    ledger.head_path.write_bytes(before)
    assert "has 5 lines, its head counts 3: not written here" in refusal(ledger)


def test_a_ledger_that_was_rolled_back_is_refused(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    old = ledger.path.read_bytes()
    ledger.append("trial", {"state": 6})
    ledger.path.write_bytes(old)
    assert "has 6 lines, its head counts 7: the end is missing or torn" in refusal(ledger)


def test_a_last_line_torn_after_its_head_was_saved_is_refused(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    ledger.path.write_bytes(ledger.path.read_bytes()[:-2])
    assert "has 5 lines, its head counts 6: the end is missing or torn" in refusal(ledger)


def test_a_last_line_replaced_by_another_sound_one_is_refused(tmp_path: Path) -> None:
    ledger = made(tmp_path, 3)
    lines = list(ledger.lines())
    other = seal(3, lines[2].time, "trial", {"state": "other"}, lines[1].hash)
    body = {"n": 3, "time": lines[2].time, "event": "trial", "data": {"state": "other"}, "prev": lines[1].hash}
    raw = ledger.path.read_bytes()[: lines[2].offset] + json.dumps(body | {"hash": other}).encode() + b"\n"
    ledger.path.write_bytes(raw)
    assert "line 3 is not the one its head knows" in refusal(ledger)


def test_a_missing_ledger_is_refused(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    ledger.path.unlink()
    assert "missing, though its head counts 6 lines" in refusal(ledger)


def test_an_emptied_ledger_is_refused(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    ledger.path.write_bytes(b"")
    assert "has 0 lines, its head counts 6" in refusal(ledger)


def test_a_missing_head_is_refused(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    ledger.head_path.unlink()
    assert "head: missing" in refusal(ledger)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"lab_id": "x"}', '{"lab_id": 1, "path": "/", "machine": "m"}', "[" * 9000, "\ud800"],
)
def test_a_broken_head_is_refused(tmp_path: Path, text: str) -> None:
    ledger = made(tmp_path)
    ledger.head_path.write_bytes(text.encode(errors="surrogatepass"))
    assert "not a head of a ledger" in refusal(ledger)


@pytest.mark.parametrize("change", [{"n": 5}, {"n": 7}, {"hash": "0" * 64}, {"n": "6"}, {"size": 1.5}])
def test_an_edited_head_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    ledger = made(tmp_path)
    ledger.head_path.write_text(json.dumps(json.loads(ledger.head_path.read_text()) | change))
    assert "head" in refusal(ledger)


@pytest.mark.parametrize("offset", [-1, 1, 5_000_000])
def test_a_head_that_names_no_transition_is_set_right_from_the_chain(tmp_path: Path, offset: int) -> None:
    ledger = made(tmp_path)
    value = json.loads(ledger.head_path.read_text())
    ledger.head_path.write_text(json.dumps(value | {"transition": offset}))
    if offset == -1:  # no way to see it without reading everything: the file's own time has to differ
        os.utime(ledger.path)
    found = reopened(ledger, repair=True).transition()
    assert found is not None
    assert found.n == 4
    assert json.loads(ledger.head_path.read_text())["transition"] == value["transition"]


# The middle: changed, missing, doubled, swapped


@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_any_changed_byte_is_found_with_its_line(
    place: int, change: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = made(tmp_path_factory.mktemp("byte"), 4)
    raw = bytearray(ledger.path.read_bytes())
    place %= len(raw)
    number = raw[:place].count(b"\n") + 1
    raw[place] ^= change
    ledger.path.write_bytes(bytes(raw))
    if bytes(raw).endswith(b"\n"):
        assert f"line {number}:" in refusal(ledger)
    else:
        assert "has 3 lines, its head counts 4" in refusal(ledger)


def test_a_changed_word_is_found_with_its_line(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    content = ledger.path.read_bytes()
    assert content.count(b'"state":3') == 1
    ledger.path.write_bytes(content.replace(b'"state":3', b'"state":8'))
    assert "line 4: changed since it was written" in refusal(ledger)


def _lines_of(ledger: Ledger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("edit", "where", "reason"),
    [
        (lambda rows, i: rows[:i] + rows[i + 1 :], 0, "a line before it is missing or was replaced"),
        (lambda rows, i: rows[: i + 1] + rows[i:], 1, "doubled"),
        (lambda rows, i: [*rows[:i], rows[i + 1], rows[i], *rows[i + 2 :]], 0, "missing or was replaced"),
        (lambda rows, i: [*rows[:i], b"\n", *rows[i:]], 0, "not a line of a ledger"),
        (lambda rows, i: [*rows[:i], b'{"n": 1}\n', *rows[i + 1 :]], 0, "not a line of a ledger"),
    ],
    ids=["missing", "doubled", "swapped", "empty", "foreign"],
)
def test_a_line_out_of_place_is_found_with_its_number(
    tmp_path: Path, number: int, edit: Callable[[list[bytes], int], list[bytes]], where: int, reason: str
) -> None:
    ledger = made(tmp_path)
    ledger.path.write_bytes(b"".join(edit(_lines_of(ledger), number - 1)))
    message = refusal(ledger)
    assert f"line {number + where}: " in message
    assert reason in message


def test_a_line_rewritten_with_a_new_hash_breaks_the_next_one(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    rows = _lines_of(ledger)
    value = json.loads(rows[2])
    value["data"]["state"] = "forged"
    value["hash"] = seal(3, value["time"], value["event"], value["data"], value["prev"])
    rows[2] = json.dumps(value).encode() + b"\n"
    ledger.path.write_bytes(b"".join(rows))
    assert "line 4: a line before it is missing or was replaced" in refusal(ledger)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"n":1,"time":"t","event":"e","data":{"x":NaN},"prev":"p","hash":"h"}',
        b'{"n":1,"time":"t","event":"e","data":{"x":1e999},"prev":"p","hash":"h"}',
        b'{"n":1,"time":"t","event":"e","data":{"x":"\\ud800"},"prev":"p","hash":"h"}',
        b'{"n":true,"time":"t","event":"e","data":{},"prev":"p","hash":"h"}',
        b'{"n":1,"time":"t","event":"e","data":{},"prev":"p","hash":["h"]}',
        b'{"n":1,"time":"t","event":"e","data":[],"prev":"p","hash":"h"}',
        b'{"n":1,"time":"t","event":"e","data":{},"prev":"p","hash":"h","more":1}',
        b'{"n":1,"data":{}}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
    ],
)
def test_what_append_never_writes_is_no_line(raw: bytes) -> None:
    assert parse(raw, 0) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_line_or_none(raw: bytes) -> None:
    found = parse(raw, 0)
    assert found is None or isinstance(found, Line)


# The cost of opening


def test_opening_reads_the_tail_only_and_check_reads_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte changed in the middle with size and time put back passes `open`, which is why `verify` calls `check`."""
    ledger = made(tmp_path, 3)
    for n in range(3, 200):
        ledger.append("trial", {"state": n, "text": "x" * 100})
    facts = ledger.path.stat()
    raw = ledger.path.read_bytes()
    ledger.path.write_bytes(raw.replace(b'"state":100', b'"state":101', 1))
    os.utime(ledger.path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    numbers: list[int] = []
    monkeypatch.setattr("autolab.lab.ledger.parse", lambda raw, offset: numbers.append(offset) or parse(raw, offset))
    assert reopened(ledger).head.n == 200
    assert len(numbers) == 2, "the last line and the newest transition"
    monkeypatch.undo()
    with pytest.raises(LedgerError, match="line 101: changed since it was written"):
        reopened(ledger).check()


def test_a_file_that_was_touched_is_checked_whole_and_accepted(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    os.utime(ledger.path)
    assert reopened(ledger, repair=True).head.n == 6
    assert reopened(ledger).head.mtime_ns == ledger.path.stat().st_mtime_ns


# Rebuilding


def test_rebuilding_keeps_a_copy_and_every_readable_line_but_a_trial_that_was_changed(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    ledger.append("note", {"state": 6})
    rows = _lines_of(ledger)
    changed = [rows[4].replace(b'"state":4', b'"state":9'), rows[6].replace(b'"state":6', b'"state":9')]
    assert b'"event":"trial"' in changed[0]
    rows = [rows[0], rows[1], rows[1], b"rubbish\n", rows[2], *changed, rows[5][:-5]]
    ledger.path.write_bytes(b"".join(rows))
    ledger.head_path.unlink()
    made_anew = Ledger(tmp_path).rebuild("0123abcd", tmp_path)
    copy = made_anew.copy
    assert copy.read_bytes() == b"".join(rows)
    again = reopened(ledger)
    assert again.check() == 5
    lines = list(again.lines())
    assert [line.data.get("state") for line in lines] == [0, 1, 2, 9, None]
    assert lines[-1].event == "ledger_rebuilt"
    left_out = ["line 4 (unknown event): cannot be read as a line of a ledger"]
    left_out += [
        "line 6 (trial): changed since it was measured",
        "line 8 (trial): cannot be read as a line of a ledger",
    ]
    kept = made_anew.kept
    assert kept is not None and kept.read_bytes().split(b"\n")[:-1] == [b"rubbish", changed[0][:-1], rows[7]]
    known = {"copy": copy.name, "lines": 4, "unverified": [4], "dropped": 3, "kept": kept.name, "left_out": left_out}
    assert lines[-1].data == known
    again.append("trial", {"state": "on"})
    assert reopened(ledger).check() == 6


@given(order=st.lists(st.integers(0, 5), max_size=8), rubbish=st.binary(max_size=30))
def test_any_wreck_is_rebuilt_into_a_sound_chain(
    order: list[int], rubbish: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("wreck")
    ledger = made(folder)
    rows = _lines_of(ledger)
    wreck = rubbish + b"\n" + b"".join(rows[i] for i in order)
    ledger.path.write_bytes(wreck)
    copy = ledger.rebuild("0123abcd", folder).copy
    assert copy.read_bytes() == wreck
    kept = [line.data["state"] for line in reopened(ledger).lines() if line.event != "ledger_rebuilt"]
    assert kept == list(dict.fromkeys(order)), "each readable line once, in the order found"
    assert reopened(ledger, repair=True).check() == len(kept) + 1


def test_a_rebuilt_ledger_knows_where_the_iteration_begins(tmp_path: Path) -> None:
    ledger = made(tmp_path, 2)
    begins = ledger.head.size
    ledger.append("transition", {"state": "opened", "campaign": {"iteration_offset": begins}})
    rows = _lines_of(ledger)
    ledger.path.write_bytes(b"".join(rows[1:]))
    ledger.rebuild("0123abcd", tmp_path)
    found = ledger.transition()
    assert found is not None
    lines = ledger.lines(found.data["campaign"]["iteration_offset"])
    assert [line.data["state"] for line in lines if line.event == "transition"] == ["opened"]


# The disk and other processes


_APPENDS = """
import resource, sys
from pathlib import Path
from autolab.lab.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.open(repair=True)
limit = ledger.path.stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    ledger.append("trial", {"state": "too long", "text": "x" * 10_000})
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.process
@pytest.mark.parametrize("room", [0, 1, 500, 5_000])
def test_a_write_that_finds_no_room_leaves_the_file_as_it_was(tmp_path: Path, room: int) -> None:
    ledger = made(tmp_path)
    before = ledger.path.read_bytes()
    ended = _python(_APPENDS, str(tmp_path), str(room))
    assert (ended.stdout.strip(), ended.stderr) == ("OSError", "")
    assert ledger.path.read_bytes() == before
    again = reopened(ledger, repair=True)
    again.append("trial", {"state": 6})
    assert data(reopened(ledger)) == list(range(7))


def _python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


_WRITER = """
import sys
from pathlib import Path
from autolab.lab.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.open(repair=True)
for n in range(6, 206):
    ledger.append("transition", {"state": n})
"""


@pytest.mark.process
def test_a_reader_beside_a_writer_sees_what_is_or_what_was_just_before(tmp_path: Path) -> None:
    ledger = made(tmp_path)
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)])
    seen = []
    while writer.poll() is None:
        known = Ledger(tmp_path).load_head().n
        reader = reopened(ledger)
        found = reader.transition()
        assert found is not None
        assert found.event == "transition"
        assert reader.head.n >= known
        seen.append(reader.head.n)
    assert writer.returncode == 0
    assert seen == sorted(seen), "time does not run backwards for a reader"
    assert len(set(seen)) > 2, "the reader was there while lines were written"
    assert reopened(ledger).check() == 206


def test_where_a_lab_stands_is_in_the_head_and_not_in_the_chain(tmp_path: Path) -> None:
    ledger = made(tmp_path / "a")
    raw = ledger.path.read_bytes()
    ledger.relocate(tmp_path / "b")
    ledger.rename("ffffffff")
    again = reopened(ledger)
    assert (again.head.path, again.head.lab_id) == (str(tmp_path / "b"), "ffffffff")
    assert ledger.path.read_bytes() == raw
    assert isinstance(again.head, Head)
