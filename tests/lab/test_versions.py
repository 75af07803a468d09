"""A lab of another version of Autolab is refused in a line that names both, and nothing of it is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_kit import NOTHING, LabKit, make_lab, script

from autolab import __version__
from autolab.lab.ledger import BEFORE_VERSIONS, READABLE

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    return make_lab(tmp_path_factory.mktemp("old"), script(NOTHING))


@pytest.mark.parametrize("version", [None, "9.9.9"])
@pytest.mark.parametrize(
    "words", [("status",), ("verify",), ("doctor", "--fix"), ("run",), ("loop", "--max-iterations", "1"), ("review",)]
)
def test_a_lab_of_another_version_is_refused_and_left_as_it_is(
    kit: LabKit, words: tuple[str, ...], version: str | None
) -> None:
    path = kit.store / "head"
    head = json.loads(path.read_text())
    assert head["version"] == __version__
    made_by = {} if version is None else {"version": version}
    spoiled = json.dumps({key: value for key, value in head.items() if key != "version"} | made_by)
    before = _content(kit.store)
    try:
        path.write_text(spoiled)
        ended = kit.autolab(*words)
        assert path.read_text() == spoiled
    finally:
        path.write_text(json.dumps(head))
    assert ended.code == 1, ended.out + ended.err
    said = ended.out + ended.err
    assert (version or BEFORE_VERSIONS) in said and __version__ in said and "Traceback" not in said
    assert _content(kit.store) == before


def test_this_version_reads_its_own_records() -> None:
    assert __version__ in READABLE and BEFORE_VERSIONS not in READABLE


def _content(store: Path) -> dict[str, bytes]:
    names = ("ledger.jsonl", "secret", "documents.json")
    return {name: (store / name).read_bytes() for name in names}
