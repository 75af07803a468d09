"""A script of the user's own as agent, in every form that a command can name it: shown read-only, or refused early."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from agent_kit import configure
from lab_kit import Finished, Kept, LabKit, make_lab, script

from autolab.errors import ResearcherError
from autolab.researchers.command.program_files import located, modules_beside, require_files, shown_files

pytestmark = pytest.mark.process

ANSWER = {
    "title": "A steeper slope",
    "mechanism": "A steeper slope fits better.",
    "success": "val_loss falls by 0.05",
    "risk_bounds": ["none"],
}
WRITES = f"""
import json, os, sys
from pathlib import Path
Path("seen.json").write_text(json.dumps(SEEN))
Path(".autolab").mkdir(exist_ok=True)
result = {{"status": "complete", "summary": SEEN, "changed_files": [], "completion_token_seen": True}}
Path(".autolab/agent_result.json").write_text(json.dumps(result | {{"output": {ANSWER!r}}}))
"""
ALONE = f"SEEN = 'alone'\n{WRITES}"
"""An agent that needs nothing but itself, and answers the stage hypothesis."""


@dataclass
class Place:
    """A lab that asks for a hypothesis, and a folder outside of it for agents."""

    kept: Kept
    folder: Path

    def agent(self, text: str, name: str = "agent.py", mode: int = 0o644) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        path = self.folder / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def ask(self, command: str, containment: str = "full") -> tuple[LabKit, Finished]:
        """One request, of an agent that config.yaml names."""
        kit = self.kept.back()
        configure(kit, containment=containment, researcher={"name": "command", "command": command})
        return kit, kit.autolab("run")

    def loop(self, command: str, cwd: str = ".") -> tuple[LabKit, Finished]:
        """A loop whose option names the agent, started in a folder of the lab."""
        kit = self.kept.back()
        (kit.root / "untracked.py").write_text(ALONE)
        words = ["loop", "--max-iterations", "1", "--containment", "full", "--command", command]
        return kit, replace(kit, root=kit.root / cwd).autolab(*words)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("scripts")
    kit = make_lab(folder, script())
    yield Place(Kept(kit), folder / "my agents")


def summary(kit: LabKit, ended: Finished) -> str:
    assert ended.code == 0, ended.out + ended.err
    assert kit.state()["stage"] == "design", kit.state()["reason"]
    reply = json.loads((kit.root / ".autolab" / "agent_result.json").read_text())
    return str(reply["summary"])


def refusal(kit: LabKit, ended: Finished) -> str:
    assert ended.code == 1, ended.out
    assert not (kit.store / "ledger.jsonl").exists() or not kit.events("asked"), "before anything was asked"
    lines = [line for line in ended.err.splitlines() if "researcher:" in line]
    assert len(lines) == 1 and "Traceback" not in ended.err, ended.err
    return lines[0]


# Forms of a command


@pytest.mark.parametrize("containment", ["full", "partial", "none"])
def test_a_script_behind_its_interpreter_runs_at_every_level_and_is_named_once(place: Place, containment: str) -> None:
    path = place.agent(ALONE)
    kit, ended = place.ask(f"python3 {shlex.quote(str(path))}", containment)
    assert summary(kit, ended) == "alone"
    assert ended.out.count(f"agent: {path} is shown to the program, read-only") == 1


@pytest.mark.parametrize("containment", ["full", "partial"])
def test_modules_that_it_imports_from_beside_are_shown_and_nothing_else_of_its_folder(
    place: Place, containment: str
) -> None:
    look = "\n".join(
        [
            "import helper, tools.inner, os",
            "keys = Path('KEYS')",
            "try: word = (HERE / '.env').read_text()",
            "except OSError: word = 'hidden'",
            "try: inner = (HERE / 'tools' / 'keys.txt').read_text()",
            "except OSError: inner = 'hidden'",
            "SEEN = f'{helper.WORD} {tools.inner.WORD} {word} {inner}'",
        ]
    )
    path = place.agent(f"from pathlib import Path\nHERE = Path(__file__).parent\n{look}\n{WRITES}")
    (path.parent / "helper.py").write_text("from deep import WORD\n")
    (path.parent / "deep.py").write_text("WORD = 'deep'\n")
    (path.parent / "unused.py").write_text("")
    (path.parent / ".env").write_text("KEY=1")
    (path.parent / "tools").mkdir()
    (path.parent / "tools" / "inner.py").write_text("WORD = 'inner'\n")
    (path.parent / "tools" / "keys.txt").write_text("KEY=2")
    kit, ended = place.ask(f"python3 {shlex.quote(str(path))} {{prompt_file}}", containment)
    assert summary(kit, ended) == "deep inner hidden hidden"
    assert "deep.py" in ended.out and "unused.py" not in ended.out


def test_a_script_that_is_started_by_its_first_line_runs_too(place: Place) -> None:
    path = place.agent(f"#!/usr/bin/env python3\nimport helper\nSEEN = helper.WORD\n{WRITES}", mode=0o755)
    (path.parent / "helper.py").write_text("WORD = 'by its first line'\n")
    kit, ended = place.ask(shlex.quote(str(path)))
    assert summary(kit, ended) == "by its first line"
    shell = place.agent(f'#!/usr/bin/env bash\nexec python3 - <<"END"\n{ALONE}\nEND\n', "agent", 0o755)
    kit, ended = place.ask(shlex.quote(str(shell)))
    assert summary(kit, ended) == "alone"


def test_a_virtual_environments_python_runs_it_with_its_packages(place: Place) -> None:
    path = place.agent(f"import only_here\nSEEN = only_here.WORD\n{WRITES}")
    venv = path.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "only_here.py").write_text("WORD = 'of the venv'\n")
    kit, ended = place.ask(f"{shlex.quote(str(venv / 'bin' / 'python'))} {shlex.quote(str(path))}")
    assert summary(kit, ended) == "of the venv"


def test_a_variable_may_be_set_before_the_program(place: Place) -> None:
    path = place.agent(f"import os\nSEEN = os.environ['WORD']\n{WRITES}")
    kit, ended = place.ask(f"env WORD=set python3 {shlex.quote(str(path))}")
    assert summary(kit, ended) == "set"


def test_a_relative_path_is_found_from_where_the_user_stands_and_from_the_lab(place: Place) -> None:
    path = place.agent(ALONE)
    name = shlex.quote(path.parent.name)
    kit, ended = place.ask(f"python3 ../{name}/agent.py")
    assert summary(kit, ended) == "alone"
    for cwd, command in (("models", f"python3 ../../{name}/agent.py"), ("models", f"python3 ../{name}/agent.py")):
        _, ended = place.loop(command, cwd)
        assert f"agent: {path} is shown to the program, read-only" in ended.out, ended.err


def test_a_script_of_the_labs_own_commit_is_the_copy_in_the_workspace(place: Place) -> None:
    kit = place.kept.back()
    (kit.root / "tools").mkdir()
    (kit.root / "tools" / "agent.py").write_text(ALONE)
    kit.git("add", "-A")
    kit.git("commit", "-qm", "an agent")
    configure(kit, containment="full", researcher={"name": "command", "command": "python3 tools/agent.py"})
    ended = kit.autolab("run")
    assert summary(kit, ended) == "alone"
    assert "agent:" not in ended.out


# What is refused


REFUSED = {
    "python3 {folder}/gone.py": "gone.py: no such file; name an existing file; a place that the program may write in",
    "python3 gone.py": "gone.py: no such file",
    "no-such-agent {{prompt_file}}": "no-such-agent: no such program, or not one that may be run",
    "python3 {lab}/eval.py": "eval.py lies in the lab, which an agent may not see; write eval.py, which is the copy",
    "python3 {lab}/.autolab/script.yaml": "lies in the lab, which an agent may not see; ",
    "cat {lab}/data/eval/labels.npy": "lies in the lab, which an agent may not see; ",
    "cat data/eval/labels.npy": "lies in the lab, which an agent may not see; ",
    "python3 untracked.py": "untracked.py lies in the lab, which an agent may not see; move it to a folder outside",
    "cat {folder}/link.py": "link.py lies in the lab, which an agent may not see",
    "python3 {folder}/home/.ssh/agent.py": "holds keys of yours, which no agent is shown; name the variables",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_it_could_not_run_is_refused_before_anything_is_asked(
    place: Place, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, folder = place.kept.kit.root, place.folder
    path = place.agent(ALONE)
    (path.parent / "link.py").symlink_to(lab / "data" / "eval" / "labels.npy")
    (folder / "home" / ".ssh").mkdir(parents=True)
    (folder / "home" / ".ssh" / "agent.py").write_text(ALONE)
    monkeypatch.setenv("HOME", str(folder / "home"))
    kit, ended = place.loop(command.format(lab=lab, folder=shlex.quote(str(folder))))
    assert REFUSED[command] in refusal(kit, ended)


def test_a_module_that_was_not_shown_fails_with_the_way_to_show_it(place: Place) -> None:
    path = place.agent(f"import importlib\nSEEN = importlib.import_module('hel' + 'per').WORD\n{WRITES}")
    (path.parent / "helper.py").write_text("WORD = 'x'\n")
    kit, ended = place.ask(f"python3 {shlex.quote(str(path))}")
    assert ended.code == 0, ended.err
    reason = kit.state()["reason"]
    assert "No module named 'helper'" in reason
    assert "it sees only what it was given: name what it needs in `reads:` or `writes:` of the researcher" in reason


def test_doctor_says_where_the_program_is_and_what_it_is_shown(place: Place) -> None:
    path = place.agent(ALONE)
    kit = place.kept.back()
    configure(
        kit, researcher={"name": "command", "command": f"sh {shlex.quote(str(path))}", "reads": [str(path.parent)]}
    )
    told = kit.autolab("doctor").out
    assert f"researcher command: program {shutil.which('sh')}; reads {path}, {path.parent}" in told
    configure(kit, researcher={"name": "claude"})
    told = kit.autolab("doctor", PATH="/usr/bin:/bin")
    assert told.code == 1
    assert "researcher: claude: claude: no such program, or not one that may be run; install it: npm" in told.out


# Words alone


def test_words_that_are_no_paths_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "gpt-5").write_text("")
    words = ["agent", "--model", "openai/gpt-5", "-p", "{prompt}", "see /x.py {files}", "7", "fast"]
    assert located(words, tmp_path) == words
    require_files(words, tmp_path, lambda path: False)
    assert shown_files(words).all == ()


def test_a_link_to_a_script_is_the_script_and_one_to_an_interpreter_stays(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "agent.py").write_text("")
    (tmp_path / "agent.py").symlink_to("real/agent.py")
    (tmp_path / "python").symlink_to(sys.executable)
    words = ["../python", "../agent.py", "../real/", "..", "./"]
    absolute = [str(tmp_path / name) for name in ("python", "real/agent.py", "real")]
    assert located(words, lab) == [*absolute, "..", "./"], "what holds the lab is left alone"
    assert shown_files([str(tmp_path / "python"), "x"]).all == ()


def test_modules_of_a_script_in_a_crowded_folder_are_those_that_it_imports(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"m{number}.py").write_text("")
    (tmp_path / "json.py").write_text("")
    (tmp_path / "broken.py").write_text("def (")
    script = tmp_path / "agent.py"
    script.write_text("import json, m7, broken, not_there\nfrom . import m8\n")
    assert [path.name for path in modules_beside(script)] == ["broken.py", "m7.py"]
    script.write_text("\n".join(f"import m{number}" for number in range(600)))
    assert modules_beside(script) == []


def test_a_lab_beside_the_script_is_no_module_of_it(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "secret.py").write_text("")
    script = tmp_path / "agent.py"
    script.write_text("import lab.secret\n")
    assert shown_files(["python3", str(script)], tmp_path / "lab").modules == ()
    with pytest.raises(ResearcherError, match="lies in the lab"):
        require_files(["python3", str(tmp_path / "lab" / "secret.py")], tmp_path / "lab", lambda path: False)
    assert os.path.exists(script)
