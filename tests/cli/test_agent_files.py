"""`autolab init --agent`: what is written for coding agents, and what of the user's stays."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest
from lab_kit import Finished, LabKit, make_lab, script

from autolab.cli.agent_files import plan_agent_files, server_command
from autolab.errors import LabError
from autolab.lab.front_matter import front_matter
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.record import parse_yaml

CLAUDE = ("CLAUDE.md", ".claude/skills/autolab/SKILL.md", ".mcp.json")
CODEX = ("AGENTS.md", ".agents/skills/autolab/SKILL.md", ".codex/config.toml")
BOTH = ("init", "--agent", "claude", "--agent", "codex")


@pytest.fixture
def repository(tmp_path: Path) -> LabKit:
    root = tmp_path / "project"
    root.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    (root / "train.py").write_text("print('loss 1')\n")
    return LabKit(root, tmp_path / "count.txt")


def well(done: Finished) -> Finished:
    assert done.code == 0, done.out + done.err
    return done


def written(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


# Without a lab


@pytest.mark.process
def test_both_agents_get_skill_instructions_and_tools_and_no_lab_is_made(repository: LabKit) -> None:
    done = well(repository.autolab(*BOTH))
    root = repository.root
    assert set(written(root)) == {*CLAUDE, *CODEX, "train.py"}
    assert not (root / ".git" / "autolab" / "head").exists()
    for name in (*CLAUDE, *CODEX):
        assert f"{name}: written" in done.out
    skill = (root / CLAUDE[1]).read_text()
    fields, _ = parse_yaml(front_matter(skill, "SKILL.md"), "SKILL.md")
    assert isinstance(fields, dict) and fields["name"] == "autolab" and len(fields["description"]) < 1024
    assert len(skill.splitlines()) < 60 and "This repository is a lab" not in skill
    for promise in ("autolab compare HEAD", "| 0 | 5 | 6 | 7 | 1 | 2 |", "`wait`", "Quote no score", "## Cost"):
        assert promise in skill
    assert (root / CODEX[1]).read_text() == skill
    assert (root / CODEX[0]).read_text() == (root / CLAUDE[0]).read_text()
    command, arguments = server_command()
    entry = {"command": command, "args": arguments}
    assert json.loads((root / ".mcp.json").read_text()) == {"mcpServers": {"autolab": entry}}
    assert tomllib.loads((root / ".codex/config.toml").read_text()) == {"mcp_servers": {"autolab": entry}}
    assert done.out.splitlines()[-1].startswith("next: git add CLAUDE.md ")


@pytest.mark.process
def test_again_is_byte_for_byte_the_same(repository: LabKit) -> None:
    well(repository.autolab(*BOTH))
    before = written(repository.root)
    done = well(repository.autolab(*BOTH))
    assert written(repository.root) == before
    assert "CLAUDE.md: unchanged" in done.out and done.out.splitlines()[-1] == "next: start the agent here"


def test_what_the_user_has_in_the_files_stays(tmp_path: Path) -> None:
    own = {
        "CLAUDE.md": "# Mine\r\n\r\nUse tabs.",
        ".mcp.json": '{"mcpServers": {"other": {"command": "x"}, "autolab": {"env": {"A": "1"}}}, "more": [1]}',
        ".codex/config.toml": '# mine\nmodel = "m"\n[mcp_servers.other]\ncommand = "y"  # kept\n',
    }
    for name, text in own.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    planned = {file.name: file for file in plan_agent_files(tmp_path, ("claude", "codex"), None)}
    assert planned["CLAUDE.md"].text.startswith(own["CLAUDE.md"] + "\n\n<!-- autolab:begin")
    servers = json.loads(planned[".mcp.json"].text)
    assert servers["more"] == [1] and servers["mcpServers"]["other"] == {"command": "x"}
    assert servers["mcpServers"]["autolab"]["env"] == {"A": "1"} and servers["mcpServers"]["autolab"]["args"]
    assert planned[".codex/config.toml"].text.startswith(own[".codex/config.toml"])
    value = tomllib.loads(planned[".codex/config.toml"].text)
    assert set(value["mcp_servers"]) == {"other", "autolab"} and value["model"] == "m"
    # An older section is replaced where it stands, with what is around it kept.
    (tmp_path / "CLAUDE.md").write_text("above\n" + planned["CLAUDE.md"].text.partition("\n\n")[2] + "below\n")
    text = (tmp_path / "CLAUDE.md").read_text().replace("Quote no score", "An older rule")
    (tmp_path / "CLAUDE.md").write_text(text)
    (again,) = (file for file in plan_agent_files(tmp_path, ("claude",), None) if file.name == "CLAUDE.md")
    assert again.text.startswith("above\n") and again.text.endswith("below\n")
    assert "Quote no score" in again.text and "An older rule" not in again.text


def test_a_link_from_one_file_of_instructions_to_the_other_stays_one(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("# Ours\n")
    (tmp_path / "CLAUDE.md").symlink_to("AGENTS.md")
    planned = plan_agent_files(tmp_path, ("claude", "codex"), None)
    (one,) = (file for file in planned if file.path == (tmp_path / "AGENTS.md").resolve())
    assert one.text.count("autolab:begin") == 1 and one.text.startswith("# Ours\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (".mcp.json", "{broken", "nothing was written"),
        (".mcp.json", '{"mcpServers": []}', "not of the form"),
        (".mcp.json", '{"a": 1, "a": 2}', "nothing was written"),
        (".codex/config.toml", "model = ", "no TOML"),
        (".codex/config.toml", '[mcp_servers.autolab]\ncommand = "mine"\n', "of its own"),
        (".codex/config.toml", "mcp_servers = {}\n", "config.toml"),
        ("CLAUDE.md", "<!-- autolab:end -->\n", "once each"),
        ("AGENTS.md", b"\xff\xfe", "not UTF-8"),
        (".claude/skills/autolab/SKILL.md", "---\nname: autolab\n---\nmine\n", "not Autolab's"),
    ],
)
def test_a_file_that_cannot_be_merged_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LabError, match=message) as refused:
        plan_agent_files(tmp_path, ("claude", "codex"), None)
    assert name in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.process
def test_a_refusal_leaves_every_file_as_it_was_and_makes_no_lab(repository: LabKit) -> None:
    (repository.root / ".mcp.json").write_text("{broken")
    before = written(repository.root)
    for words in (BOTH, ("init", "--from-existing", "--agent", "claude", "--yes")):
        done = repository.autolab(*words)
        assert done.code == 1 and ".mcp.json" in done.err and len(done.err.splitlines()) == 1
        assert written(repository.root) == before
    assert not (repository.root / ".git" / "autolab").exists()


def test_a_link_out_of_the_repository_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "CLAUDE.md").symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(LabError, match="leads out of the repository"):
        plan_agent_files(tmp_path / "inside", ("claude",), None)


# With a lab


@pytest.mark.process
def test_in_a_lab_the_rules_of_the_lab_are_written_too(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script())
    before = kit.events()
    well(kit.autolab(*BOTH))
    skill = (kit.root / CLAUDE[1]).read_text()
    assert len(skill.splitlines()) < 60
    for promise in ("This repository is a lab", "`eval.py`", "`data/eval`", "`human_journal.md`", "autolab propose"):
        assert promise in skill
    assert "Autolab lab" in (kit.root / "AGENTS.md").read_text()
    assert kit.events() == before
    assert well(kit.autolab("verify")).code == 0
    # They are no part of a candidate.
    (kit.root / "models" / "width.py").write_text("WIDTH = 3.0\n")
    value = json.loads(well(kit.autolab("propose", "--title", "x", "--json")).out)
    assert set(value["left_out"]) == {*CLAUDE, *CODEX}


@pytest.mark.process
def test_a_new_lab_is_made_with_them(tmp_path: Path) -> None:
    kit = LabKit(tmp_path, tmp_path / "count.txt")
    done = well(kit.autolab("init", "new", "--template", "empty", "--agent", "codex"))
    assert (tmp_path / "new" / ".git" / "autolab" / "head").exists()
    assert "This repository is a lab" in (tmp_path / "new" / CODEX[1]).read_text()
    assert not (tmp_path / "new" / "CLAUDE.md").exists()
    assert "AGENTS.md: written" in done.out and "next: cd new && autolab loop" in done.out


def test_the_skill_of_every_template_is_short(templates: list[Config], tmp_path: Path) -> None:
    for config in templates:
        planned = plan_agent_files(tmp_path, ("claude",), config)
        assert all(len(file.text.splitlines()) < 60 for file in planned)


@pytest.fixture
def templates() -> list[Config]:
    folder = Path(__file__).parents[2] / "src" / "autolab" / "templates"
    return [Config.load(path) for path in sorted(folder.glob("*/.autolab/config.yaml"))]
