"""External programs and coding agents as researchers: what they are told, what they may do, what counts of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as example
from hypothesis import strategies as st
from model_kit import answer, task

from autolab.errors import RecordError, ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import Stage
from autolab.researchers.base import AfterPause, Answer, Booked, Outage, Received, Sent, Task
from autolab.researchers.command import usage
from autolab.researchers.command.agent import MAX_RESULT_BYTES, RESULT
from autolab.researchers.command.presets import effective_preset, installation, presets
from autolab.researchers.researcher_names import load_researcher

AGENTS = Path(__file__).parents[1] / "agents"


def command(agent: str, **more: Any) -> Any:
    return load_researcher(ResearcherConfig(name="command", command=f"{AGENTS / agent} {{prompt_file}}", **more))


def contained(folder: Path, containment: str, lab: Path | None = None, data: tuple[Path, ...] = ()) -> Task:
    """A task whose program is enclosed."""
    request = task(folder)
    return replace(request, folders=replace(request.folders, containment=containment, lab=lab, data=data))


def given(folder: Path) -> dict[str, str]:
    rows = (folder / "workspace" / "environment.txt").read_text().splitlines()
    return dict(row.split("=", 1) for row in rows if "=" in row)


@pytest.mark.process
def test_a_program_that_answers_is_heard_and_its_file_taken_away(tmp_path: Path) -> None:
    said = answer(command("good").perform(task(tmp_path)).raw)
    assert (said.status, said.output) == ("complete", {"reason": "it holds", "decision": "stop"})
    assert (tmp_path / "workspace" / "prompt.txt").read_text() == "What next?\n"
    assert not (tmp_path / "workspace" / RESULT).exists()
    assert (tmp_path / "scratch-decide_repeat-1" / "agent_result.json").is_file()


@pytest.mark.process
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
        "TMPDIR",
        "AGENT_TOKEN",
        "AUTOLAB_STAGE",
        "AUTOLAB_PROMPT_FILE",
    }
    assert (seen["AGENT_TOKEN"], seen["AUTOLAB_STAGE"]) == ("meant for it", "decide_repeat")


@pytest.mark.process
@pytest.mark.parametrize("stale", ["file", "link", "folder"])
def test_a_stale_result_is_deleted_before_the_program_starts(tmp_path: Path, stale: str) -> None:
    ask = task(tmp_path)
    place = ask.folders.workspace / RESULT
    place.parent.mkdir()
    if stale == "file":
        place.write_text("{}")
    elif stale == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        (place / "inside").mkdir(parents=True)
    said = command("good").perform(ask)
    assert answer(said.raw).status == "complete"
    assert not (ask.folders.workspace / "stale.txt").exists()
    none = command("leaves_none").perform(task(tmp_path, number=2))
    assert none == Answer(None, f"the command left no {RESULT}"), "an answer is used for its own ask only"


@pytest.mark.process
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


@pytest.mark.process
def test_a_truncated_answer_is_handed_on_as_it_is(tmp_path: Path) -> None:
    said = command("truncated").perform(task(tmp_path))
    assert said.raw == '{"status": "complete", "summary": "do'
    with pytest.raises(RecordError, match="not JSON"):
        answer(said.raw)


@pytest.mark.process
def test_a_program_may_work_in_its_folder(tmp_path: Path) -> None:
    ask = task(tmp_path, Stage.IMPLEMENTATION)
    assert answer(command("edits").perform(ask).raw).changed_files == ("models/width.py",)
    assert (ask.folders.workspace / "models" / "width.py").read_text() == "WIDTH = 4.0\n"


@pytest.mark.process
def test_a_program_that_never_ends_is_ended_with_its_children(tmp_path: Path) -> None:
    said = command("endless", time_limit_s=1.0).perform(task(tmp_path))
    assert said.raw is None
    assert said.note.startswith("the command ended as timeout")
    for name in ("own", "child", "grandchild"):
        pid = int((tmp_path / "workspace" / f"{name}.pid").read_text())
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


@pytest.mark.process
def test_an_ask_that_was_answered_is_never_asked_again(tmp_path: Path) -> None:
    ask = task(tmp_path)
    first = command("good").perform(ask)
    (ask.folders.workspace / "environment.txt").unlink()
    assert command("good").perform(ask) == first
    assert not (ask.folders.workspace / "environment.txt").exists(), "the program did not run a second time"


@pytest.mark.parametrize("program", ["no-such-agent", "./no-such-agent", "/no/such/agent", str(AGENTS)])
def test_a_missing_program_is_what_no_retry_can_fix(tmp_path: Path, program: str) -> None:
    researcher = load_researcher(ResearcherConfig(name="command", command=f"{program} {{prompt_file}}"))
    with pytest.raises(ResearcherError, match="no such program"):
        researcher.perform(task(tmp_path))


@pytest.mark.process
def test_words_of_the_command_are_filled_in_one_by_one(tmp_path: Path) -> None:
    code = "import json,sys; json.dump(sys.argv[1:], open('words.json','w'))"
    words = f'{sys.executable} -c "{code}" {{stage}} "{{workspace}} x" {{prompt_file}} {{{{other}}}} "$HOME"'
    load_researcher(ResearcherConfig(name="command", command=words)).perform(task(tmp_path))
    ask = task(tmp_path)
    assert json.loads((ask.folders.workspace / "words.json").read_text()) == [
        "decide_repeat",
        f"{ask.folders.workspace} x",
        str(ask.folders.scratch / "prompt.md"),
        "{other}",
        "$HOME",
    ], "no shell reads them"


@pytest.mark.process
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
    researcher = load_researcher(ResearcherConfig(name="command", command=f"{program} {{prompt_file}}", **given))
    ask = contained(tmp_path, containment=level)
    said = researcher.perform(ask)
    assert said.raw is not None, said.note
    assert (ask.folders.workspace / "rules.txt").read_text() == "be brief"
    assert (ask.folders.workspace / "prompt.txt").read_text() == "What next?\n"
    assert "private" not in (ask.folders.workspace / "diary.txt").read_text()
    assert (tmp_path / "diary.txt").read_text() == "private"


@pytest.mark.process
@pytest.mark.parametrize("name", ["reads", "writes"])
@pytest.mark.parametrize(
    ("path", "how"), [("..", "holds the lab"), (".", "holds the lab"), (".git", "lies in the lab")]
)
def test_a_path_that_would_show_it_the_lab_is_refused(tmp_path: Path, name: str, path: str, how: str) -> None:
    lab = tmp_path / "home" / "lab"
    (lab / ".git").mkdir(parents=True)
    (tmp_path / "link").symlink_to(lab)
    for given in (lab / path, tmp_path / "link" / path):
        ask = contained(tmp_path, containment="full", lab=lab)
        with pytest.raises(ResearcherError, match=f"researcher: {name}: .* {how}, which an agent may not see; name"):
            command("good", **{name: (str(given),)}).perform(ask)
    assert not (tmp_path / "workspace" / "prompt.txt").exists()
    beside = contained(tmp_path, containment="full", lab=lab)
    (tmp_path / "home" / "notes").mkdir()
    said = command("good", **{"reads": (str(AGENTS),), name: (str(AGENTS), str(tmp_path / "home" / "notes"))})
    assert said.perform(beside).raw is not None


@pytest.mark.process
@pytest.mark.parametrize("level", ["full", "partial"])
def test_an_agent_that_is_installed_beside_autolab_does_not_see_the_labs_that_it_ships(
    tmp_path: Path, level: str
) -> None:
    package = tmp_path / "venv" / "lib" / "python3.11" / "site-packages" / "autolab"
    (package / "templates" / "digits").mkdir(parents=True)
    (package / "templates" / "digits" / "labels.npy").write_text("labels")
    (package / "errors.py").write_text("module")
    (tmp_path / "venv" / "bin").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    look = f"cat {package}/errors.py {package}/templates/digits/labels.npy > seen.txt"
    agent = fake(tmp_path / "venv" / "bin", "agent", f'#!/bin/sh\n{look}\nexec {AGENTS / "good"} "$1"\n')
    program = load_researcher(
        ResearcherConfig(name="command", command=f"{agent} {{prompt_file}}", reads=(str(AGENTS),))
    )
    ask = contained(tmp_path, containment=level)
    assert program.perform(ask).raw is not None
    assert (ask.folders.workspace / "seen.txt").read_text() == "module"


@pytest.mark.process
def test_training_data_that_its_folder_leads_to_can_be_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "lab" / "data").mkdir(parents=True)
    (tmp_path / "lab" / "data" / "x.txt").write_text("training")
    (tmp_path / "lab" / "labels.txt").write_text("labels")
    ask = contained(tmp_path, containment="full", lab=tmp_path / "lab", data=(tmp_path / "lab" / "data",))
    (ask.folders.workspace / "data").symlink_to(tmp_path / "lab" / "data")
    look = f"cat data/x.txt {tmp_path}/lab/labels.txt > seen.txt; echo y > data/x.txt"
    agent = fake(tmp_path / "bin", "agent", f'#!/bin/sh\n{look}; exec {AGENTS / "good"} "$1"\n')
    program = load_researcher(
        ResearcherConfig(name="command", command=f"{agent} {{prompt_file}}", reads=(str(AGENTS),))
    )
    assert program.perform(ask).raw is not None
    assert (ask.folders.workspace / "seen.txt").read_text() == "training"
    assert (tmp_path / "lab" / "data" / "x.txt").read_text() == "training"


# Words


SHOW = f"""{sys.executable} -c "import json,sys; json.dump(sys.argv[1:], open('words.json','w'))" """


def words(folder: Path, rest: str, ask: Task | None = None, **who: Any) -> list[str]:
    """What a program is given for the words `rest` of its command."""
    load_researcher(ResearcherConfig(name="command", command=SHOW + rest, **who)).perform(ask or task(folder))
    found: list[str] = json.loads((folder / "workspace" / "words.json").read_text())
    return found


@pytest.mark.process
def test_every_placeholder_has_its_value(tmp_path: Path) -> None:
    ask = task(tmp_path)
    (ask.folders.workspace / "train.py").write_text("")
    (ask.folders.workspace / "--yes.py").write_text("")
    (ask.folders.workspace / "models" / "width.py").write_text("")
    (ask.folders.workspace / ".hidden").mkdir()
    (ask.folders.workspace / ".hidden" / "x.py").write_text("")
    named = "{workspace}/x {result_file} {model} {time_limit_s} {folder} {files} {prompt} {{}} {{stage}}"
    assert words(tmp_path, named, model="m1", time_limit_s=7.5) == [
        f"{ask.folders.workspace}/x",
        f"{ask.folders.workspace}/{RESULT}",
        "m1",
        "7.5",
        str(ask.folders.scratch / "own"),
        "./--yes.py",
        "models/width.py",
        "train.py",
        "What next?",
        "{}",
        "{stage}",
    ]


@pytest.mark.process
def test_a_prompt_is_one_argument_as_it_stands(tmp_path: Path) -> None:
    text = "# ROLE\n`$(echo x)` \"q\" 'p' $HOME {folder} {scratch} {stage} {{x}} \\n ü\n\n- end\n"
    ask = replace(task(tmp_path), prompt=text, contract="stage: decide_repeat\nAnswer {folder}.\n")
    told = f"{text.rstrip()}\n\nstage: decide_repeat\nAnswer {{folder}}.\n"
    assert words(tmp_path, "-p {prompt} after", ask) == ["-p", told.rstrip("\n"), "after"]
    assert (ask.folders.scratch / "prompt.md").read_text() == told, "the contract follows the prompt"


@pytest.mark.process
def test_a_prompt_that_no_argument_holds_is_refused_and_nothing_is_started(tmp_path: Path) -> None:
    most = 128 * 1024 - 1
    ask = replace(task(tmp_path), prompt="x" * most)
    assert words(tmp_path, "{prompt}", ask) == ["x" * most]
    ask = replace(task(tmp_path, number=2), prompt="ü" * (64 * 1024))
    researcher = load_researcher(ResearcherConfig(name="command", command=SHOW + "{prompt}"))
    with pytest.raises(ResearcherError, match=r"the prompt's 131,072 bytes are more .* use \{prompt_file\}"):
        researcher.perform(ask)
    assert not (ask.folders.scratch / "jobs").exists() or not list((ask.folders.scratch / "jobs").iterdir())


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ({"command": "agent {promptfile}"}, r"\{promptfile\} is no placeholder; known: \{prompt\}"),
        ({"command": "agent {}"}, r"\{\} is no placeholder"),
        ({"command": "agent {x"}, "a single brace; to write a brace as it is, double it"),
        ({"command": "agent }"}, "a single brace"),
        ({"command": "agent -p={prompt}"}, r"\{prompt\} must occur once, as a word of its own"),
        ({"command": "agent {prompt} {prompt}"}, r"\{prompt\} must occur once"),
        ({"command": "agent x{files}"}, r"\{files\} must occur once"),
        ({"command": "agent {model}"}, r"it uses \{model\}, and no `model:` is given"),
        ({"command": "agent", "model": "m"}, r"`model:` is given, and the command does not use \{model\}"),
        (
            {"name": "claude", "command": "x"},
            "claude has no option command; it has: disk_mb, env, max_files, model, reads, ",
        ),
        ({"name": "codex", "script": "x"}, "codex has no option script"),
    ],
)
def test_words_that_cannot_be_filled_are_refused_when_it_starts(who: dict[str, Any], reason: str) -> None:
    with pytest.raises(ResearcherError, match=reason) as caught:
        load_researcher(ResearcherConfig(**{"name": "command"} | who))
    assert "\n" not in str(caught.value)


# Presets


def fake(folder: Path, name: str, text: str) -> Path:
    """A program `name` that is found before any other."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_a_whole_command_with_and_without_a_model(name: str) -> None:
    plain = effective_preset(ResearcherConfig(name=name))
    named = effective_preset(ResearcherConfig(name=name, model="m1"))
    assert plain.command[0] == name
    assert named.command[: len(plain.command)] == plain.command
    assert "{model}" in named.command[len(plain.command) :]
    assert {"{prompt}", "{prompt_file}"} & set(plain.command)
    assert plain.install and plain.checked
    assert load_researcher(ResearcherConfig(name=name)).name == name


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_whose_program_is_missing_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ResearcherError) as caught:
        load_researcher(ResearcherConfig(name=name)).perform(task(tmp_path))
    way = presets()[name].install
    assert str(caught.value) == (
        f"researcher: {name}: {name}: no such program, or not one that may be run; install it: {way}"
    )


@pytest.mark.process
@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_runs_with_its_own_keys_and_configuration_and_those_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    good = (AGENTS / "good").read_text().replace('cat "$1"', 'printf "%s\\n" "$@"')
    fake(tmp_path / "bin", name, good.replace("env >", 'touch "$HOME/diary" 2> refused.txt; env >'))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HF_TOKEN", "the lab's")
    own = presets()[name].env[0]
    monkeypatch.setenv(own, "its own")
    ask = contained(tmp_path, containment="full")
    said = load_researcher(ResearcherConfig(name=name, model="m1")).perform(ask)
    assert answer(said.raw).status == "complete"
    seen = given(tmp_path)
    assert seen[own] == "its own"
    assert "HF_TOKEN" not in seen
    assert {key: seen[key] for key in presets()[name].given} == presets()[name].given
    told = (ask.folders.workspace / "prompt.txt").read_text()
    assert "m1" in told
    assert "What next?" in told or str(ask.folders.scratch / "prompt.md") in told
    assert not (tmp_path / "home" / "diary").exists()
    for path in presets()[name].writes:
        assert path.endswith(".json") or Path(os.path.expanduser(path)).is_dir(), "its configuration can be written"


def test_a_program_of_a_virtual_environment_sees_the_environment_and_its_python(tmp_path: Path) -> None:
    (tmp_path / "base" / "bin").mkdir(parents=True)
    venv = tmp_path / "tools" / "agent"
    program = fake(venv / "bin", "agent", "#!x") if (venv / "bin").mkdir(parents=True) is None else venv
    (venv / "pyvenv.cfg").write_text(f"home = {tmp_path}/base/bin\nversion = 3.11\n")
    (tmp_path / "on_path").mkdir()
    link = tmp_path / "on_path" / "agent"
    link.symlink_to(program)
    assert installation(str(link)) == (str(link), str(program), str(venv), str(tmp_path / "base"))


def test_a_program_of_npm_sees_the_modules_around_it_and_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "lib" / "node_modules"
    (modules / "@x" / "agent").mkdir(parents=True)
    program = fake(modules / "@x" / "agent", "cli.js", "#!/usr/bin/env node")
    node = fake(tmp_path / "bin", "node", "#!x")
    (tmp_path / "bin" / "agent").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    link = str(tmp_path / "bin" / "agent")
    assert installation(link) == (link, str(program), str(modules), str(node), str(node))


# What it takes


@dataclass
class Record:
    """Calls as the engine keeps them: one that was answered is not sent again."""

    replies: list[Received] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    booked: list[Booked] = field(default_factory=list)
    at: int = 0

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        self.sent.append(sent)
        self.at += 1
        if len(self.replies) < self.at:
            self.replies.append(transmit())
        return self.replies[self.at - 1]

    def book(self, booked: Booked) -> None:
        self.booked.append(booked)

    def wait(self, seconds: float, why: str) -> None:
        raise AssertionError("a command waits for nothing")

    def pause_in_outage(self, outage: Outage, seconds: float) -> AfterPause:
        raise AssertionError("a command waits for nothing")

    def answers_again(self, service: str) -> None:
        raise AssertionError("a command waits for nothing")


CLAUDE = {"type": "result", "total_cost_usd": 0.0421, "result": "done"}
CLAUDE_USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000}
CODEX = {"type": "turn.completed", "usage": {"input_tokens": 50, "cached_input_tokens": 40, "output_tokens": 6}}
MINI = {
    "info": {"model_stats": {"instance_cost": 0.25, "api_calls": 2}},
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "assistant", "extra": {"response": {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}}},
        {"role": "tool", "extra": {}},
        {"role": "assistant", "extra": {"response": {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}}},
    ],
}


def paid(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, prints: str, agent: str = "good") -> Any:
    """The booking, the answer and the record of one ask of the preset `name`, whose program prints `prints`."""
    (folder / "said.txt").write_text(prints)
    if name == "mini":
        tell = f'for word; do case "$word" in */trajectory.json) cp {folder}/said.txt "$word";; esac; done\n'
    else:
        tell = f"cat {folder}/said.txt\n"
    fake(folder / "bin", name, f'#!/bin/sh\n{tell}exec {AGENTS / agent} "$AUTOLAB_PROMPT_FILE"\n')
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(folder))
    record = Record()
    said = load_researcher(ResearcherConfig(name=name)).perform(replace(task(folder), calls=record))
    return record.booked[-1], said, record


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "prints", "took"),
    [
        ("claude", json.dumps(CLAUDE | {"usage": CLAUDE_USAGE | {"output_tokens": 55}}), (3210, 55, 0.0421)),
        (
            "claude",
            "warned\n" + json.dumps(CLAUDE | {"usage": {"input_tokens": 1, "output_tokens": 2}}),
            (1, 2, 0.0421),
        ),
        ("codex", '{"type": "thread.started"}\n' + f"{json.dumps(CODEX)}\n{json.dumps(CODEX)}\n", (100, 12, None)),
        ("mini", json.dumps(MINI), (16, 5, 0.25)),
        ("mini", json.dumps(MINI | {"info": {"model_stats": {"instance_cost": 0.0}}}), (16, 5, None)),
    ],
)
def test_what_it_took_is_read_from_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, prints: str, took: tuple[int, int, float | None]
) -> None:
    booked, said, record = paid(tmp_path, monkeypatch, name, prints)
    assert (booked.input_tokens, booked.output_tokens, booked.dollars) == took
    assert (booked.reason, booked.detail, said.note) == ("ok", "", "")
    assert [(sent.model, sent.body, sent.tokens, sent.dollars) for sent in record.sent] == [
        (name, b"What next?\n", 0, None)
    ]
    assert record.replies[0].status == 200
    assert record.replies[0].seconds > 0


USAGE = {"input_tokens": 1, "output_tokens": 1}
KEYS = (
    *("usage", "input_tokens", "output_tokens", "cache_read_input_tokens", "total_cost_usd", "type"),
    *("messages", "extra", "response", "prompt_tokens", "completion_tokens", "info", "model_stats", "instance_cost"),
)


@pytest.mark.parametrize(
    ("name", "prints"),
    [
        ("claude", ""),
        ("claude", "not json"),
        ("claude", "[]"),
        ("claude", "null"),
        ("claude", '"usage"'),
        ("claude", "[" * 100_000),
        ("claude", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")),
        ("claude", json.dumps(CLAUDE)),
        ("claude", json.dumps(CLAUDE | {"usage": None})),
        ("claude", json.dumps(CLAUDE | {"usage": USAGE | {"input_tokens": -1}})),
        ("claude", json.dumps(CLAUDE | {"usage": USAGE | {"input_tokens": True}})),
        ("claude", json.dumps(CLAUDE | {"usage": USAGE | {"input_tokens": "7"}})),
        ("claude", json.dumps(CLAUDE | {"usage": USAGE | {"output_tokens": 1.5}})),
        ("claude", json.dumps({"usage": USAGE, "total_cost_usd": -1})),
        ("claude", json.dumps({"usage": USAGE, "total_cost_usd": "free"})),
        ("claude", '{"usage": {"input_tokens": 1, "output_tokens": 1}, "total_cost_usd": NaN}'),
        ("claude", '{"usage": {"input_tokens": 1, "output_tokens": 1}, "total_cost_usd": 1e999}'),
        ("codex", ""),
        ("codex", '{"type": "turn.failed"}'),
        ("codex", '{"type": "turn.completed"}'),
        ("codex", '{"type": "turn.completed", "usage": []}'),
        ("codex", '"turn.completed"'),
        ("codex", 'x "turn.completed"'),
        ("mini", ""),
        ("mini", "{}"),
        ("mini", json.dumps(MINI | {"messages": [3]})),
        ("mini", json.dumps(MINI | {"messages": None})),
        ("mini", json.dumps(MINI | {"info": None})),
    ],
)
def test_what_it_says_in_no_known_form_counts_nothing_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, prints: str
) -> None:
    (tmp_path / "trajectory.json").write_text(prints)
    assert usage.read(presets()[name].usage or "", prints.encode(), tmp_path) is None


PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3),
    lambda part: st.lists(part, max_size=2) | st.dictionaries(st.sampled_from(KEYS), part, max_size=4),
    max_leaves=12,
)


@example(PARTS, st.sampled_from(["claude_json", "codex_json", "mini"]))
def test_whatever_it_says_is_a_count_or_nothing(tmp_path_factory: pytest.TempPathFactory, said: Any, way: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = json.dumps({"type": "turn.completed", **said} if isinstance(said, dict) else said)
    (folder / "trajectory.json").write_text(text)
    found = usage.read(way, text.encode(), folder)
    if found is not None:
        assert 0 <= found.input_tokens <= 3 * usage.MOST and 0 <= found.output_tokens <= usage.MOST
        assert found.dollars is None or 0 <= found.dollars <= usage.MOST


def test_a_trajectory_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(MINI))
    (tmp_path / "trajectory.json").symlink_to(tmp_path / "elsewhere.json")
    assert usage.read("mini", b"", tmp_path) is None


@pytest.mark.process
def test_that_its_costs_are_not_known_is_told_once(tmp_path: Path) -> None:
    record, agent = Record(), command("good")
    first = agent.perform(replace(task(tmp_path), calls=record))
    again = agent.perform(replace(task(tmp_path, number=2), calls=record))
    assert (
        first.note == "  command: the cost of this request is not known: the program does not report it in a known form"
    )
    assert (again.raw, again.note) == (first.raw, "")
    assert [(one.input_tokens, one.output_tokens, one.dollars) for one in record.booked] == [(0, 0, None)] * 2


@pytest.mark.parametrize(
    ("name", "counts"),
    [("claude", {"tokens", "dollars"}), ("codex", {"tokens"}), ("mini", {"tokens", "dollars"}), ("aider", set())],
)
def test_it_says_which_caps_can_be_held(name: str, counts: set[str]) -> None:
    assert load_researcher(ResearcherConfig(name=name)).counts == counts
    assert command("good").counts == frozenset()


@pytest.mark.process
@pytest.mark.parametrize(
    ("agent", "reason", "said"),
    [
        ("good", "ok", ""),
        ("leaves_none", "no_result", f"the command left no {RESULT}"),
        ("link", "no_result", f"{RESULT}: not a regular file"),
        ("fails", "failed", "the command ended as failed: "),
        ("endless", "timeout", "the command ended as timeout: "),
        ("token", "no_result", f"the command left no {RESULT}"),
    ],
)
def test_each_run_is_booked_as_one_call_with_its_reason(tmp_path: Path, agent: str, reason: str, said: str) -> None:
    record = Record()
    limit = {"time_limit_s": 0.5} if agent == "endless" else {}
    heard = command(agent, **limit).perform(replace(task(tmp_path), calls=record))
    assert [one.reason for one in record.booked] == [reason]
    assert record.booked[0].detail.startswith(said)
    assert (heard.raw is None) == (reason != "ok")


@pytest.mark.process
def test_a_run_that_is_on_record_is_answered_from_there_and_its_result_from_the_scratch(tmp_path: Path) -> None:
    record = Record()
    ask = replace(task(tmp_path), calls=record)
    first = command("good").perform(ask)
    (ask.folders.workspace / "environment.txt").unlink()
    again = command("good").perform(replace(ask, calls=Record(replies=record.replies)))
    assert again.raw == first.raw
    assert not (ask.folders.workspace / "environment.txt").exists(), "the program did not run a second time"


@pytest.mark.process
def test_a_run_under_way_when_the_engine_died_is_adopted_and_booked(tmp_path: Path) -> None:
    ask = task(tmp_path)
    command("good").perform(ask)  # ended, but never recorded
    (ask.folders.workspace / "environment.txt").unlink()
    record = Record()
    said = command("good").perform(replace(ask, calls=record))
    assert answer(said.raw).status == "complete"
    assert [one.reason for one in record.booked] == ["ok"]
    assert not (ask.folders.workspace / "environment.txt").exists()


@pytest.mark.process
def test_a_program_that_fails_is_quoted_in_one_line(tmp_path: Path) -> None:
    told = "printf 'Traceback\\n\\033[31mNoKey: %0300d\\n\\n' 7 >&2; exit 3"
    agent = fake(tmp_path / "bin", "agent", f"#!/bin/sh\n{told}\n")
    said = load_researcher(ResearcherConfig(name="command", command=str(agent))).perform(task(tmp_path))
    assert said.note.startswith("the command ended as failed: agent exited with status 3: \\x1b[31mNoKey: 000")
    assert said.note.endswith("000 [cut]") and len(said.note) < 300
    assert len(said.note.rpartition("status 3: ")[2]) == 200


# What it may not do


@pytest.mark.process
def test_a_result_behind_a_link_is_neither_taken_nor_deleted(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    kept = lab / "agent_result.json"
    kept.write_text('{"status": "complete", "summary": "", "changed_files": [], "completion_token_seen": true}')
    ask = task(tmp_path)
    link = fake(tmp_path / "bin", "link", f"#!/bin/sh\nrm -rf .autolab; ln -s {lab} .autolab\n")
    said = load_researcher(ResearcherConfig(name="command", command=str(link))).perform(ask)
    assert said == Answer(None, f"{RESULT}: lies behind a link")
    assert kept.exists()
    folders = replace(ask.folders, scratch=tmp_path / "s2")
    assert answer(command("good").perform(replace(ask, key="0123abcd.i1.x-2.a1", folders=folders)).raw)
    assert kept.exists(), "an older link is taken away, and nothing behind it"


@pytest.mark.process
def test_a_daemon_that_it_leaves_behind_is_ended_and_changes_nothing_more(tmp_path: Path) -> None:
    ask = task(tmp_path)
    said = command("daemon").perform(ask)
    assert answer(said.raw).status == "complete"
    pid = int((ask.folders.workspace / "daemon.pid").read_text())
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
