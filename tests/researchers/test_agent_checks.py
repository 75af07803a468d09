"""Agents that check their own work: the command that their prompt names is run in their sandbox, and is true."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from agent_kit import AGENTS
from lab_kit import Kept, LabKit, make_lab, script

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
