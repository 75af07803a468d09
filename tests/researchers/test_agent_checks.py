"""Agents that check their own work: the command that their prompt names is run in their sandbox, and is true."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent_kit import AGENTS, KEY, configure
from lab_kit import Kept, LabKit, decision, design, docs, hypothesis, make_lab, script
from standin import StandIn

from autolab.researchers.command.agent import RESULT

pytestmark = pytest.mark.process

TEST = """from models.width import WIDTH


def test_the_slope_is_no_cliff():
    assert WIDTH <= 5, "a width above 5 overflows"
"""


def with_test(kit: LabKit) -> LabKit:
    """The tiny lab with a test of its own, and without the count that a contained training cannot keep."""
    (kit.root / "tests").mkdir()
    (kit.root / "tests" / "test_width.py").write_text(TEST)
    (kit.root / "counter.txt").unlink()
    policy = kit.root / ".autolab" / "verifier_policy.yaml"
    checks = yaml.safe_load(policy.read_text()) | {"test_command": "{python} -m pytest -q -p no:cacheprovider"}
    policy.write_text(yaml.safe_dump(checks))
    kit.git("add", "-A")
    kit.git("commit", "-qm", "A test")
    return kit


@dataclass
class Place:
    kept: Kept
    folder: Path

    def home(self, **programs: str) -> dict[str, str]:
        """A home and a PATH of the user's, with these programs (name -> file of tests/agents) on it."""
        shutil.rmtree(self.folder / "home", ignore_errors=True)
        bin_folder = self.folder / "home" / "bin"
        bin_folder.mkdir(parents=True)
        for name, file in programs.items():
            shutil.copy(AGENTS / file, bin_folder / name)
        return {"HOME": str(bin_folder.parent), "PATH": f"{bin_folder}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("self checks")
    yield Place(Kept(with_test(make_lab(folder, script()))), folder)


def stages(kit: LabKit) -> list[str]:
    return [line["data"]["stage"] for line in kit.events("answered")]


STAGES = ["hypothesis", "design", "implementation", "implementation_review", "update_docs", "decide_repeat"]


@pytest.mark.parametrize("containment", ["full", "none"])
def test_claude_breaks_a_test_and_fixes_it_by_itself(place: Place, containment: str) -> None:
    kit = place.kept.back()
    home = place.home(claude="fake_claude")
    words = ("loop", "--max-iterations", "1", "--researcher", "claude", "--containment", containment)
    ended = kit.autolab(*words, timeout=300, **home)
    assert ended.code == 0, ended.out + ended.err
    assert stages(kit) == STAGES, "each stage was asked once"
    assert [line["data"]["checks"]["tests"] for line in kit.events("checked")] == ["pass"]
    seen = (place.folder / "home" / ".claude" / "seen.txt").read_text()
    statuses = re.findall(r"(?m)^(\w+): status (\d)$", seen)
    assert statuses == [("implementation", "1")] * 2 + [("implementation", "0"), ("implementation_review", "0")]
    assert "a width above 5 overflows" in seen
    assert seen.count("tests: FAIL (status 1)") == 2
    for name in ("paths", "env_smoke", "dry_run", "summary"):
        assert seen.count(f"{name}: pass") == 4, seen
    assert "check: FAIL: tests" in seen and "check: all passed" in seen
    assert "steep is supported" in ended.out


def tool(command: str) -> dict[str, Any]:
    return {"tool_call": {"name": "bash", "arguments": json.dumps({"command": command})}}


def leave(output: dict[str, Any]) -> dict[str, Any]:
    result = {"status": "complete", "summary": "s", "changed_files": [], "completion_token_seen": True}
    text = json.dumps(result | {"output": output})
    return tool(f"cat > {RESULT} <<'END'\n{text}\nEND")


CHECK = """eval "$(grep -o "sh .*check.sh'*" "$AUTOLAB_PROMPT_FILE" | head -n 1)" """
"""The command that the prompt names, as it stands there."""
SUBMIT = tool("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")
WORK = (
    tool("cat models/width.py tests/test_width.py; ls data/eval ../../program.md"),
    tool("echo 'WIDTH = 9.0' > models/width.py"),
    tool(CHECK),
    tool("echo 'WIDTH = 4.0' > models/width.py"),
    tool(CHECK),
    tool(
        'export AUTOLAB_TRIAL_DIR="$TMPDIR/try"; sh "$AUTOLAB_CHECK" run python3 -S -B train.py &&'
        ' cat "$AUTOLAB_TRIAL_DIR/metrics.json"'
    ),
    leave({"plan": "Set the slope."}),
    SUBMIT,
)
SCRIPT = [
    *(leave(hypothesis()["output"]), SUBMIT),
    *(leave(design()["output"]), SUBMIT),
    *WORK,
    *(leave({"findings": []}), SUBMIT),
    *(leave(docs()["output"]), SUBMIT),
    *(leave(decision()["output"]), SUBMIT),
]


@pytest.mark.slow
def test_the_real_mini_swe_agent_breaks_a_test_and_fixes_it_by_itself(place: Place) -> None:
    kit = place.kept.back()
    home = place.home()
    home["PATH"] = f"{Path(sys.executable).parent}:{home['PATH']}"
    configure(kit, containment="full", researcher={"name": "mini", "model": "openai/scripted", "time_limit_s": 300})
    with StandIn(SCRIPT) as server:
        place_of_model = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        ended = kit.autolab("loop", "--max-iterations", "1", timeout=600, **home, **place_of_model)
    assert ended.code == 0, ended.out + ended.err
    assert stages(kit) == STAGES, "each stage was asked once"
    assert len(server.requests) == len(SCRIPT)
    assert [line["data"]["checks"]["tests"] for line in kit.events("checked")] == ["pass"]
    assert "steep is supported" in ended.out
    (trajectory,) = kit.store.glob("requests/*/implementation-1/work/own/trajectory.json")
    messages = [str(message.get("content")) for message in json.loads(trajectory.read_text())["messages"]]
    printed = [text for text in messages if "<returncode>" in text or "returncode" in text]
    broken, fixed = [text for text in printed if "check: " in text]
    assert "a width above 5 overflows" in broken and "check: FAIL: tests" in broken
    assert "check: all passed" in fixed
    assert any('"train_loss": 0.25' in text.replace("\\", "") for text in printed), "a short training of its own"


# The agent of docs/agents.md


def sh(*commands: str) -> dict[str, Any]:
    return {"text": "Let me see.\n<sh>\n" + "\n".join(commands) + "\n</sh>\n"}


def result(output: dict[str, Any]) -> str:
    whole = {"status": "complete", "summary": "s", "changed_files": [], "completion_token_seen": False}
    return f"cat > {RESULT} <<'END'\n{json.dumps(whole | {'output': output})}\nEND"


@pytest.mark.parametrize("containment", ["full", "partial"])
def test_the_agent_of_the_documents_works_as_they_say(place: Place, containment: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "agents.md"
    (source,) = re.findall(r"(?s)```python\n(.*?)```", page.read_text())
    kit = place.kept.back()
    (kit.root.parent / "agent.py").write_text(source)
    replies = [
        sh(result(hypothesis()["output"])),
        sh(result(design()["output"])),
        {"text": "I would look first."},
        sh("echo 'WIDTH = 9.0' > models/width.py", 'sh "$AUTOLAB_CHECK"'),
        sh(
            "echo 'WIDTH = 4.0' > models/width.py", 'sh "$AUTOLAB_CHECK" tests && ' + result({"plan": "Set the slope."})
        ),
        sh(result({"findings": []})),
        sh(result(docs()["output"])),
        sh(result(decision()["output"])),
    ]
    configure(kit, researcher={"name": "command", "command": "python3 ../agent.py", "env": ["MODEL_URL"]})
    with StandIn(replies) as server:
        words = ("loop", "--max-iterations", "1", "--containment", containment)
        ended = kit.autolab(*words, timeout=300, MODEL_URL=server.url)
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count(f"note: agent: {kit.root.parent / 'agent.py'} is shown to the program, read-only") == 1
    assert stages(kit) == STAGES and len(server.requests) == len(replies)
    assert [line["data"]["checks"]["tests"] for line in kit.events("checked")] == ["pass"]
    (output,) = kit.store.glob("requests/*/implementation-1/work/**/agent.out")
    assert "There was nothing between" in output.read_text() and "check: FAIL: tests" in output.read_text()
