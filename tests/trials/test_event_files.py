"""TensorBoard's event files: scalars by their tags, as torch and TensorFlow write them, from hostile bytes too."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.lab.schemas.config import Config
from autolab.trials import metrics
from autolab.trials.evaluator import Problem
from autolab.trials.event_files import is_event_file, scalars


def field(number: int, content: bytes) -> bytes:
    """A field of bytes; short lengths alone."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def value(tag: str, rest: bytes) -> bytes:
    return field(5, field(1, field(1, tag.encode()) + rest))


def simple(tag: str, number: float) -> bytes:
    return value(tag, b"\x15" + struct.pack("<f", number))


def tensor(tag: str, dtype: int, rest: bytes) -> bytes:
    return value(tag, field(8, bytes([8, dtype]) + rest))


def record(event: bytes) -> bytes:
    event = b"\x09" + struct.pack("<d", 1.0) + b"\x10\x03" + event
    return struct.pack("<Q", len(event)) + b"crc1" + event + b"crc2"


def file_of(*events: bytes) -> bytes:
    return b"".join(map(record, events))


def test_both_forms_of_a_scalar_are_read_and_other_values_are_passed_over() -> None:
    content = file_of(
        field(3, b"brain.Event:2"),
        simple("val/loss", 0.1),
        tensor("acc", 1, field(5, struct.pack("<f", 0.8))),
        tensor("acc", 1, field(4, struct.pack("<f", 0.85))),
        tensor("acc", 2, field(6, struct.pack("<d", 0.1 + 0.2))),
        tensor("n", 9, b"\x50\x07"),
        tensor("note", 7, field(8, b"a text")),
        tensor("two", 1, field(5, struct.pack("<ff", 1, 2))),
        simple("val/loss", math.nan),
    )
    assert list(scalars(content)) == [
        (2, "val/loss", "0.1"),
        (3, "acc", "0.8"),
        (4, "acc", "0.85"),
        (5, "acc", "0.30000000000000004"),
        (6, "n", "7"),
        (9, "val/loss", "nan"),
    ]


def test_a_file_that_is_cut_off_gives_what_came_before() -> None:
    content = file_of(simple("a", 1), simple("a", 2))
    for end in range(len(content)):
        assert list(scalars(content[:end])) == list(scalars(content))[: end // len(record(simple("a", 1)))]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(content: bytes) -> None:
    list(scalars(content))
    list(scalars(record(content)))
    list(scalars(record(value("a", field(8, content[:100])))))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_as_it_was_written(number: float) -> None:
    ((_, _, text),) = scalars(file_of(simple("a", number)))
    assert struct.pack("<f", float(text)) == struct.pack("<f", number)


def attempt(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / "train" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return folder


PATTERN = "runs/*/events.out.tfevents.*"


def test_a_pattern_names_the_one_file_that_matches(tmp_path: Path) -> None:
    content = file_of(simple("val/loss", 0.5), simple("val/loss", 0.25), simple("val/loss", 0.75))
    folder = attempt(tmp_path, {"runs/Nov30_14-02-11_host/events.out.tfevents.1796.host.1.0": content})
    assert metrics.read(folder, metrics.stored_source(PATTERN), ["val/loss"]) == {"val/loss": 0.75}
    lowest = metrics.Primary("val/loss", "min")
    assert metrics.read(folder, PATTERN, ["val/loss"], None, lowest) == {"val/loss": 0.25}
    absent = metrics.read(folder, PATTERN, ["acc"])
    assert isinstance(absent, Problem) and absent.message.endswith("in the form a scalar with the tag acc")


def test_several_files_and_none_are_refused_in_one_line(tmp_path: Path) -> None:
    name = "events.out.tfevents.1796.host.1.0"
    content = file_of(simple("a", 1))
    several = attempt(tmp_path / "several", {f"runs/one/{name}": content, f"runs/two/{name}": content})
    problem = metrics.read(several, PATTERN, ["a"])
    assert isinstance(problem, Problem)
    assert problem.message.startswith(f"{PATTERN}: 2 files have such a name (runs/one/{name}, runs/two/{name});")
    none = metrics.read(attempt(tmp_path / "none", {"runs.csv": b"a\n1\n"}), PATTERN, ["a"])
    assert isinstance(none, Problem) and none.message.startswith(f"{PATTERN}: not found; ")
    assert metrics.malformed(several, PATTERN) == ""


def test_an_event_file_has_no_lines_for_a_pattern() -> None:
    assert is_event_file(PATTERN) and not is_event_file("events.out.tfevents.1/readme.txt")
    value = {"metric": {"primary": "a", "direction": "minimize", "success_delta": 1}}
    train = {"command": "{python} train.py", "metrics": PATTERN}
    Config.from_value(value | {"train": train}, Config.FILE)
    with pytest.raises(Exception, match="is no text"):
        Config.from_value(value | {"train": train | {"pattern": "(a)"}}, Config.FILE)
    with pytest.raises(Exception, match="write one \\* in each folder"):
        Config.from_value(value | {"train": train | {"metrics": "runs/**/m.csv"}}, Config.FILE)
