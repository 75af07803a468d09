"""Researchers: what is asked, what counts as an answer, and what an external program may and may not do."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from autolab.errors import RecordError, ResearcherError
from autolab.records.lab import Stage, Who
from autolab.records.replies import AgentResult
from autolab.researchers import RESEARCHERS, Answer, Context, Task, load_researcher
from autolab.researchers.command import MAX_RESULT_BYTES, RESULT

AGENTS = Path(__file__).parent / "agents"


def task(folder: Path, stage: Stage = Stage.DECIDE_REPEAT, iteration: int = 1, number: int = 1) -> Task:
    workspace = folder / "workspace"
    (workspace / "models").mkdir(parents=True, exist_ok=True)
    return Task(
        key=f"0123abcd.i1.{stage}-{number}.a1",
        stage=stage,
        iteration_id="i1",
        iteration=iteration,
        number=number,
        prompt="What next?\n",
        workspace=workspace,
        scratch=folder / f"scratch-{stage}-{number}",
        context=_no_context,
    )


def _no_context() -> Context:
    raise AssertionError("this researcher reads its prompt")


def answer(raw: str | None) -> AgentResult:
    assert raw is not None
    return AgentResult.from_text(raw, "agent_result.json")


# Which one


def test_an_unknown_researcher_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ResearcherError) as caught:
        load_researcher(Who(name="oracle"))
    assert str(caught.value) == (
        "researcher: 'oracle' is not known; known: command, offline, scripted, or package.module:Class"
    )


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ({"name": "scripted"}, "scripted needs `script: FILE`"),
        ({"name": "command"}, "command needs `command:"),
        ({"name": "command", "command": "   "}, "command needs `command:"),
        ({"name": "command", "command": "agent 'half"}, "No closing quotation"),
        ({"name": "scripted", "script": "s.yaml", "model": "m"}, "scripted has no option model; it has: script"),
        ({"name": "command", "command": "c", "script": "s"}, "command has no option script; it has: command, env"),
    ],
)
def test_options_that_do_not_fit_are_refused_when_it_starts(who: dict[str, Any], reason: str) -> None:
    with pytest.raises(ResearcherError, match=reason):
        load_researcher(Who(**who))


OWN = """
class Mine:
    name = "mine"
    works_in_folder = False
    def __init__(self, who): self.model = who.model
    def perform(self, task): return f"{self.model} on {task.stage}"
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
    mine = load_researcher(Who(name="own_researcher:Mine", model="m1"))
    assert (mine.name, mine.perform(task(tmp_path))) == ("mine", "m1 on decide_repeat")


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
        load_researcher(Who(name=name))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_every_known_researcher_has_the_whole_protocol() -> None:
    for name, kind in RESEARCHERS.items():
        assert (kind.name, isinstance(kind.works_in_folder, bool), callable(kind.perform)) == (name, True, True)
        assert kind.options <= set(Who.model_fields), "an option is a key of the configuration"


# Scripted


def scripted(folder: Path, *iterations: dict[str, Any]) -> Any:
    path = folder / "script.yaml"
    path.write_text(yaml.safe_dump({"iterations": list(iterations)}))
    return load_researcher(Who(name="scripted", script=str(path)))


def test_the_nth_answer_answers_the_nth_ask_of_a_stage_in_its_iteration(tmp_path: Path) -> None:
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
    ), "the same ask has the same answer"


@pytest.mark.parametrize(("iteration", "number"), [(1, 2), (2, 1), (99, 1)])
def test_an_exhausted_script_asks_to_retry_and_says_where_it_ended(tmp_path: Path, iteration: int, number: int) -> None:
    researcher = scripted(tmp_path, {"design": [{"output": {}}]})
    said = answer(researcher.perform(task(tmp_path, Stage.DESIGN, iteration, number)).raw)
    assert said.status == "needs_retry"
    assert said.summary == f"the script has no answer for iteration {iteration}, stage design, ask {number}"


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
        load_researcher(Who(name="scripted", script=str(path)))


def test_a_missing_script_is_refused() -> None:
    with pytest.raises(RecordError, match=r"nowhere\.yaml: not found"):
        load_researcher(Who(name="scripted", script="nowhere.yaml"))


# Command


def command(agent: str, **more: Any) -> Any:
    return load_researcher(Who(name="command", command=f"{AGENTS / agent} {{prompt_file}}", **more))


def given(folder: Path) -> dict[str, str]:
    rows = (folder / "workspace" / "environment.txt").read_text().splitlines()
    return dict(row.split("=", 1) for row in rows if "=" in row)


def test_a_program_that_answers_is_heard_and_its_file_taken_away(tmp_path: Path) -> None:
    said = answer(command("good").perform(task(tmp_path)).raw)
    assert (said.status, said.output) == ("complete", {"reason": "it holds", "decision": "stop"})
    assert (tmp_path / "workspace" / "prompt.txt").read_text() == "What next?\n"
    assert not (tmp_path / "workspace" / RESULT).exists()
    assert (tmp_path / "scratch-decide_repeat-1" / "agent_result.json").is_file()


def test_a_program_sees_its_own_environment_and_nothing_of_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do not tell")
    monkeypatch.setenv("AGENT_TOKEN", "meant for it")
    command("good", env=("AGENT_TOKEN", "NOT_SET")).perform(task(tmp_path))
    seen = given(tmp_path)
    assert "do not tell" not in (tmp_path / "workspace" / "environment.txt").read_text()
    assert set(seen) - {"PWD", "OLDPWD", "SHLVL", "_", "LANG"} == {
        "PATH",
        "HOME",
        "AGENT_TOKEN",
        "AUTOLAB_STAGE",
        "AUTOLAB_PROMPT_FILE",
    }
    assert (seen["AGENT_TOKEN"], seen["AUTOLAB_STAGE"]) == ("meant for it", "decide_repeat")


@pytest.mark.parametrize("stale", ["file", "link", "folder"])
def test_a_stale_result_is_deleted_before_the_program_starts(tmp_path: Path, stale: str) -> None:
    ask = task(tmp_path)
    place = ask.workspace / RESULT
    place.parent.mkdir()
    if stale == "file":
        place.write_text("{}")
    elif stale == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        (place / "inside").mkdir(parents=True)
    said = command("good").perform(ask)
    assert answer(said.raw).status == "complete"
    assert not (ask.workspace / "stale.txt").exists()
    none = command("leaves_none").perform(task(tmp_path, number=2))
    assert none == Answer(None, f"the command left no {RESULT}"), "an answer is used for its own ask only"


@pytest.mark.parametrize(
    ("agent", "note"),
    [
        ("leaves_none", f"the command left no {RESULT}"),
        ("huge", f"{RESULT}: larger than {MAX_RESULT_BYTES} bytes"),
        ("link", f"{RESULT}: not a regular file"),
        ("folder", f"{RESULT}: not a regular file"),
        ("pipe", f"{RESULT}: not a regular file"),
        ("fails", "the command ended as failed: "),
    ],
)
def test_what_is_no_answer_is_said_in_a_word_and_again_the_same(tmp_path: Path, agent: str, note: str) -> None:
    said = command(agent).perform(task(tmp_path))
    assert said.raw is None
    assert said.note.startswith(note)
    assert "\n" not in said.note
    assert command(agent).perform(task(tmp_path)) == said, "an engine that comes later finds the same"


def test_a_truncated_answer_is_handed_on_as_it_is(tmp_path: Path) -> None:
    said = command("truncated").perform(task(tmp_path))
    assert said.raw == '{"status": "complete", "summary": "do'
    with pytest.raises(RecordError, match="not JSON"):
        answer(said.raw)


def test_a_program_may_work_in_its_folder(tmp_path: Path) -> None:
    ask = task(tmp_path, Stage.IMPLEMENTATION)
    assert answer(command("edits").perform(ask).raw).changed_files == ("models/width.py",)
    assert (ask.workspace / "models" / "width.py").read_text() == "WIDTH = 4.0\n"


def test_a_program_that_never_ends_is_ended_with_its_children(tmp_path: Path) -> None:
    said = command("endless", time_limit_s=1.0).perform(task(tmp_path))
    assert said.raw is None
    assert said.note.startswith("the command ended as timeout")
    for name in ("own", "child", "grandchild"):
        pid = int((tmp_path / "workspace" / f"{name}.pid").read_text())
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_an_ask_that_was_answered_is_never_asked_again(tmp_path: Path) -> None:
    ask = task(tmp_path)
    first = command("good").perform(ask)
    (ask.workspace / "environment.txt").unlink()
    assert command("good").perform(ask) == first
    assert not (ask.workspace / "environment.txt").exists(), "the program did not run a second time"


@pytest.mark.parametrize("program", ["no-such-agent", "./no-such-agent", "/no/such/agent", str(AGENTS)])
def test_a_missing_program_is_what_no_retry_can_mend(tmp_path: Path, program: str) -> None:
    researcher = load_researcher(Who(name="command", command=f"{program} {{prompt_file}}"))
    with pytest.raises(ResearcherError, match="no such program"):
        researcher.perform(task(tmp_path))


def test_words_of_the_command_are_filled_in_one_by_one(tmp_path: Path) -> None:
    code = "import json,sys; json.dump(sys.argv[1:], open('words.json','w'))"
    words = f'{sys.executable} -c "{code}" {{stage}} "{{workspace}} x" {{prompt_file}} {{other}} "$HOME"'
    load_researcher(Who(name="command", command=words)).perform(task(tmp_path))
    ask = task(tmp_path)
    assert json.loads((ask.workspace / "words.json").read_text()) == [
        "decide_repeat",
        f"{ask.workspace} x",
        str(ask.scratch / "prompt.md"),
        "{other}",
        "$HOME",
    ], "no shell reads them"


@pytest.mark.parametrize("level", ["full", "partial"])
def test_a_contained_agent_works_in_its_workspace_and_sees_what_it_is_given(tmp_path: Path, level: str) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "rules.txt").write_text("be brief")
    (tmp_path / "diary.txt").write_text("private")
    program = tmp_path / "agent"
    look = "cat ../given/rules.txt > rules.txt; cat ../diary.txt > diary.txt 2>&1; echo x >> ../diary.txt; "
    program.write_text(f'#!/bin/sh\n{look}exec {AGENTS / "good"} "$1"\n')
    program.chmod(0o755)
    given = {"reads": (str(tmp_path / "given"), str(AGENTS))}
    researcher = load_researcher(Who(name="command", command=f"{program} {{prompt_file}}", **given))
    ask = replace(task(tmp_path), containment=level)
    said = researcher.perform(ask)
    assert said.raw is not None, said.note
    assert (ask.workspace / "rules.txt").read_text() == "be brief"
    assert (ask.workspace / "prompt.txt").read_text() == "What next?\n"
    assert "private" not in (ask.workspace / "diary.txt").read_text()
    assert (tmp_path / "diary.txt").read_text() == "private"
