"""Entries of `data`: the forms that a path has, and where the program looks for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolab.errors import RecordError
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.data_entry import DataEntry

HEAD = "metric: {primary: loss, direction: minimize, success_delta: 0.1}\n"
IN_COPY = HEAD + "train: {command: python train.py, in_copy: true}\n"


def config(data: str, head: str = IN_COPY) -> Config:
    return Config.from_text(f"{head}data: {data}\n", "config.yaml")


@pytest.mark.parametrize(
    ("entry", "place", "source"),
    [
        (DataEntry(path="data/x"), "data/x", "/lab/data/x"),
        (DataEntry(path="./data/x/"), "data/x", "/lab/data/x"),
        (DataEntry(path="../data"), "../data", "/data"),
        (DataEntry(path="~/corpora/x"), "~/corpora/x", "/home/me/corpora/x"),
        (DataEntry(path="/mnt/x", at="data/x"), "data/x", "/mnt/x"),
    ],
)
def test_an_entry_is_seen_at_its_own_path_or_where_at_says(
    entry: DataEntry, place: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert (entry.place, entry.source(Path("/lab"))) == (place, Path(source))


def test_caches_and_writable_entries_are_folders_of_links() -> None:
    linked = [DataEntry(path="~/.cache/torch"), DataEntry(path="x", writable=True), DataEntry(path="/x", at="~")]
    assert all(entry.is_linked_tree for entry in linked)
    assert not DataEntry(path="~/corpora").is_linked_tree


def test_one_path_a_list_and_entries_are_read() -> None:
    assert config("data/x").data_entries == (DataEntry(path="data/x"),)
    several = config("[data/x, {path: ~/y, at: data/y}]")
    assert several.data_entries == (DataEntry(path="data/x"), DataEntry(path="~/y", at="data/y"))
    assert several.data_in_repository == ("data/x",)
    assert config("null").data_entries == config("[]").data_entries == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("[a, {path: b, at: ./a}]", "data: two entries are seen at a; give one of them another `at`"),
        ("3", "data: Input should be a valid string, got 3"),
        ("{path: x, at: /usr/lib/x}", "data: at: /usr/lib/x belongs to the system; name another folder"),
        ("{path: x, at: /}", "data: at: / belongs to the system; name another folder"),
        ("[{at: x}]", "data.0.path: missing"),
        ("[x, {path: y, to: z}]", "data.1.to: unknown key"),
        ("{path: '~'}", "data: path: '~' is everything that you have; name the folder that the program needs"),
        ("~me/x", "data: path: '~me/x': write ~/… or the absolute path"),
        ("../../../../../x", "data: at: ../../../../../x leads too far up; use the absolute path"),
    ],
)
def test_an_entry_that_cannot_be_shown_is_refused_with_the_reason(data: str, reason: str) -> None:
    with pytest.raises(RecordError) as refusal:
        _ = config(data).data_entries
    assert reason in str(refusal.value)


def test_without_a_copy_of_the_code_only_the_first_folder_can_lie_in_it() -> None:
    with pytest.raises(RecordError, match=r"data: data/y: the code of trials is read-only; set train.in_copy"):
        config("[data/x, data/y]", HEAD)
    assert len(config("[data/x, ~/y, /z]", HEAD).data_entries) == 3


def test_labels_in_any_entry_are_refused() -> None:
    sealed = IN_COPY + "predict: {command: python predict.py}\nevaluate: {eval: more/eval}\n"
    with pytest.raises(RecordError, match=r"more/eval lies in data \(more\), which trainings read: move it out"):
        config("[data/x, more]", sealed)
