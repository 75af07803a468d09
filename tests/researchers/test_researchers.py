"""Researchers: which one is meant, what it may be told, and what the scripted one answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from model_kit import answer, task

from autolab.errors import RecordError, ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import Stage
from autolab.researchers.base import Answer, ResearcherDefaults
from autolab.researchers.researcher_names import RESEARCHERS, load_researcher, recorded_defaults

# Which one


def test_an_unknown_researcher_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ResearcherError) as caught:
        load_researcher(ResearcherConfig(name="oracle"))
    said = str(caught.value)
    assert said.startswith("researcher: 'oracle' is not known; known: aider, claude, codex, command, ")
    assert said.endswith(", offline, scripted, or package.module:Class")


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ({"name": "scripted"}, "scripted needs `script: FILE`"),
        ({"name": "command"}, "command needs `command:"),
        ({"name": "command", "command": "   "}, "command needs `command:"),
        ({"name": "command", "command": "agent 'half"}, "No closing quotation"),
        ({"name": "scripted", "script": "s.yaml", "model": "m"}, "scripted has no option model; it has: script"),
        (
            {"name": "command", "command": "c", "script": "s"},
            "command has no option script; it has: command, disk",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_when_it_starts(who: dict[str, Any], reason: str) -> None:
    with pytest.raises(ResearcherError, match=reason):
        load_researcher(ResearcherConfig(**who))


OWN = """
class Mine:
    name = "mine"
    works_in_folder = False
    def __init__(self, who): self.model = who.model
    def perform(self, task): return f"{self.model} on {task.kind}"
class Says(Mine):
    contract = "llm"
    counts = frozenset({"tokens"})
    notes = ("be patient",)
    chooses_families = names_author = True
class Lacks:
    def __init__(self, who): pass
class Breaks:
    def __init__(self, who): raise RuntimeError("two\\nlines")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_researcher.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("def (")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own")
def test_a_users_own_class_is_used_with_all_its_options(tmp_path: Path) -> None:
    mine = load_researcher(ResearcherConfig(name="own_researcher:Mine", model="m1"))
    assert (mine.name, mine.perform(task(tmp_path))) == ("mine", "m1 on decide_repeat")
    assert (mine.contract, mine.counts, mine.notes) == (None, frozenset(), ())
    assert (mine.chooses_families, mine.names_author) == (False, False)


@pytest.mark.usefixtures("own")
def test_what_a_users_own_class_says_of_itself_is_taken() -> None:
    config = ResearcherConfig(name="own_researcher:Says")
    mine, recorded = load_researcher(config), recorded_defaults(config)
    assert (mine.contract, mine.counts, mine.notes) == ("llm", {"tokens"}, ("be patient",))
    assert (mine.chooses_families, mine.names_author) == (True, True)
    assert (recorded.chooses_families, recorded.names_author) == (True, True), "a replay goes the same way"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["own_researcher:Mine", "own_broken:Mine", "own_nowhere:Mine", "llm", "command"])
def test_a_replay_believes_no_class_that_does_not_say_so_or_is_gone(name: str) -> None:
    recorded = recorded_defaults(ResearcherConfig(name=name))
    assert (recorded.chooses_families, recorded.names_author) == (False, False)


def test_the_built_in_researcher_alone_chooses_families_and_names_the_author() -> None:
    assert {name for name, kind in RESEARCHERS.items() if kind.chooses_families} == {"offline"}
    assert {name for name, kind in RESEARCHERS.items() if kind.names_author} == {"offline"}
    recorded = recorded_defaults(ResearcherConfig(name="offline"))
    assert (recorded.chooses_families, recorded.names_author) == (True, True)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("own_researcher:Nobody", "AttributeError"),
        ("own_researcher:Lacks", "is no researcher: it lacks name, works_in_folder, perform"),
        ("own_researcher:Breaks", "RuntimeError: two lines"),
        ("own_researcher:sys", "AttributeError"),
        ("own_broken:Mine", "SyntaxError"),
        ("own_nowhere:Mine", "ModuleNotFoundError"),
        (":Mine", "is not known"),
        ("own_researcher:", "is not known"),
        ("own_researcher", "is not known"),
    ],
)
def test_a_users_own_class_that_does_not_load_is_one_line(name: str, reason: str) -> None:
    with pytest.raises(ResearcherError, match=reason) as caught:
        load_researcher(ResearcherConfig(name=name))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_every_known_researcher_has_the_whole_protocol() -> None:
    for name, kind in RESEARCHERS.items():
        assert (kind.name, isinstance(kind.works_in_folder, bool), callable(kind.perform)) == (name, True, True)
        assert issubclass(kind, ResearcherDefaults)
        assert kind.options <= set(ResearcherConfig.model_fields), "an option is a key of the configuration"


# Scripted


def scripted(folder: Path, *iterations: dict[str, Any]) -> Any:
    path = folder / "script.yaml"
    path.write_text(yaml.safe_dump({"iterations": list(iterations)}))
    return load_researcher(ResearcherConfig(name="scripted", script=str(path)))


def test_the_nth_answer_answers_the_nth_request_of_a_kind_in_its_iteration(tmp_path: Path) -> None:
    first = {"design": [{"output": {"a": 1}}, {"output": {"a": 2}}], "launch": []}
    second = {"design": [{"output": {"a": 3}, "status": "failed", "summary": "no way"}]}
    researcher = scripted(tmp_path, first, second)
    asked = [(1, 1), (1, 2), (2, 1)]
    found = [answer(researcher.perform(task(tmp_path, Stage.DESIGN, *ask)).raw) for ask in asked]
    assert [(a.output, a.status, a.summary) for a in found] == [
        ({"a": 1}, "complete", "answered from a script"),
        ({"a": 2}, "complete", "answered from a script"),
        ({"a": 3}, "failed", "no way"),
    ]
    assert researcher.perform(task(tmp_path, Stage.DESIGN, 1, 2)) == researcher.perform(
        task(tmp_path, Stage.DESIGN, 1, 2)
    ), "the same request has the same answer"


@pytest.mark.parametrize(("iteration", "number"), [(1, 2), (2, 1), (99, 1)])
def test_an_exhausted_script_asks_to_retry_and_says_where_it_ended(tmp_path: Path, iteration: int, number: int) -> None:
    researcher = scripted(tmp_path, {"design": [{"output": {}}]})
    said = answer(researcher.perform(task(tmp_path, Stage.DESIGN, iteration, number)).raw)
    assert said.status == "needs_retry"
    assert said.summary == f"the script has no answer for iteration {iteration}, design, request {number}"


def test_a_raw_answer_is_given_back_as_it_is(tmp_path: Path) -> None:
    researcher = scripted(tmp_path, {"design": [{"raw": "{not json"}, {"raw": ""}]})
    assert researcher.perform(task(tmp_path, Stage.DESIGN, 1, 1)) == Answer("{not json")
    assert researcher.perform(task(tmp_path, Stage.DESIGN, 1, 2)) == Answer("")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("iterations: {}\n", "iterations: Input should be a valid array"),
        ("iterations:\n  - desing: []\n", "line 2: iterations.0.desing"),
        ("iterations:\n  - design:\n      - {outputs: {}}\n", "line 3: iterations.0.design.0.outputs: unknown key"),
        ("iterations:\n  - design:\n      - {status: done}\n", "line 3: iterations.0.design.0.status"),
    ],
)
def test_a_malformed_script_is_refused_with_line_and_field(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(RecordError, match=reason):
        load_researcher(ResearcherConfig(name="scripted", script=str(path)))


def test_a_missing_script_is_refused() -> None:
    with pytest.raises(RecordError, match=r"nowhere\.yaml: not found"):
        load_researcher(ResearcherConfig(name="scripted", script="nowhere.yaml"))
