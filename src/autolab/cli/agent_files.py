"""What `autolab init --agent` writes: the rules and the tools, where coding agents read them.

All of it is made from the templates in `templates/agent/`. In a file of the user's only a marked section, or the entry
`autolab`, is Autolab's; everything else keeps its bytes. All files are read and merged before the first is written, so
that one which cannot be merged leaves the others as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from autolab import files
from autolab.errors import LabError, RecordError
from autolab.lab.create import TEMPLATES
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.record import parse_json
from autolab.verifiers.paths import protected

AGAIN = "autolab init --agent writes this section again"
MARKDOWN = (f"<!-- autolab:begin ({AGAIN}) -->", "<!-- autolab:end -->")
TOML = (f"# autolab:begin ({AGAIN})", "# autolab:end")
SERVER = "autolab"


@dataclass(frozen=True)
class AgentProgram:
    """A coding agent: where it reads instructions, skills and servers, as paths of the repository."""

    name: str
    instructions: str
    skill: str
    servers: str
    next_step: str


AGENTS = {
    "claude": AgentProgram(
        name="Claude Code",
        instructions="CLAUDE.md",
        skill=".claude/skills/autolab/SKILL.md",
        servers=".mcp.json",
        next_step="Claude Code asks once whether it may start the server `autolab`",
    ),
    "codex": AgentProgram(
        name="Codex",
        instructions="AGENTS.md",
        skill=".agents/skills/autolab/SKILL.md",
        servers=".codex/config.toml",
        next_step="Codex reads .codex/config.toml in a project that you trust",
    ),
}
"""Where each reads, as of November 2026; neither program has been run on these files."""


@dataclass(frozen=True)
class PlannedFile:
    """A file with its text after the merge. `before` is its text now; None: there is no such file."""

    name: str
    path: Path
    before: str | None
    text: str

    @property
    def change(self) -> str:
        if self.before is None:
            return "written"
        return "unchanged" if self.before == self.text else "Autolab's part written"


def plan_agent_files(root: Path, names: Iterable[str], config: Config | None) -> list[PlannedFile]:
    """The files for these agents in the repository at `root`; with a lab's configuration, its rules too. Reads only.

    LabError: a file cannot be merged: it is no JSON, no TOML or no text, has half of a marked section, an entry
    `autolab` of its own, or a link leads out of the repository.
    """
    planned: dict[Path, PlannedFile] = {}
    for name in dict.fromkeys(names):
        agent = AGENTS[name]
        for place in (agent.instructions, agent.skill, agent.servers):
            path = _place(root, place)
            known = planned.get(path)
            before = known.before if known else _text(path, place)
            # A link from CLAUDE.md to AGENTS.md is one file for both.
            text = known.text if known else before
            planned[path] = PlannedFile(place, path, before, _merged(agent, place, text, config))
    return list(planned.values())


def write_agent_files(planned: Iterable[PlannedFile]) -> None:
    """Write the planned files that differ."""
    for file in planned:
        if file.text != file.before:
            mode = None if file.before is None else file.path.stat().st_mode & 0o777
            files.write_whole(file.path, file.text, mode=mode)


def server_command() -> tuple[str, list[str]]:
    """The program and its arguments with which an agent starts the tools.

    The bare name, which every checkout shares, only if a shell finds this Autolab without an activated environment. An
    agent that is started from a menu, or from another shell, has no environment activated: then the path of this one.
    """
    program = Path(sys.executable).with_name("autolab")
    if not program.is_file():
        return sys.executable, ["-m", "autolab", "mcp"]
    environments = [os.environ.get(name, "") for name in ("VIRTUAL_ENV", "CONDA_PREFIX")]
    inside = any(folder and program.is_relative_to(folder) for folder in environments)
    on_path = shutil.which("autolab")
    if on_path is not None and not inside and Path(on_path).resolve() == program.resolve():
        return "autolab", ["mcp"]
    return str(program), ["mcp"]


# Where the texts come from


def _merged(agent: AgentProgram, place: str, text: str | None, config: Config | None) -> str:
    if place == agent.servers:
        merge = _with_json_server if place.endswith(".json") else _with_toml_server
        return merge(place, text or "")
    if place == agent.skill:
        return _with_skill(place, text, _skill(config))
    return _with_section(place, text or "", _instructions(config), MARKDOWN)


def _template(name: str) -> Template:
    return Template((TEMPLATES / "agent" / f"{name}.md").read_text(encoding="utf-8"))


def _skill(config: Config | None) -> str:
    lab = "" if config is None else _template("skill_lab").substitute(sealed=_sealed(config))
    begin, end = MARKDOWN
    return _template("skill").substitute(begin=begin, end=end, lab=lab)


def _instructions(config: Config | None) -> str:
    text = _template("instructions").substitute()
    return text if config is None else text + _template("instructions_lab").substitute()


def _sealed(config: Config) -> str:
    """The protected paths of a lab as a list, a line for each kind."""
    kinds: dict[str, list[str]] = {}
    for rule in protected(config):
        # The closed parts of a journal go with the journal.
        if "[" not in rule.pattern:
            kinds.setdefault(rule.kind, []).append(f"`{rule.pattern}`")
    lines = [f"  - {kind}: {', '.join(dict.fromkeys(paths))}" for kind, paths in kinds.items()]
    return "\n".join(lines)


# How they get into files that are there


def _place(root: Path, place: str) -> Path:
    """The file behind a path of the repository. LabError: a link leads out of it."""
    path = (root / place).resolve()
    if not path.is_relative_to(root.resolve()):
        raise LabError(f"{place}: a link that leads out of the repository; put a file of its own in its place")
    return path


def _text(path: Path, place: str) -> str | None:
    """The text of a file, its line ends as they are; None if there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise LabError(f"{place}: not UTF-8, so that nothing can be added; convert it, then try again") from None


def _with_skill(place: str, text: str | None, skill: str) -> str:
    """The skill; of one that is there, its marked section, so that its first lines stay as the user has them."""
    if text is None:
        return skill
    begin, end = MARKDOWN
    if begin not in text:
        raise LabError(f"{place}: a skill of this name that is not Autolab's; move it away, then try again")
    section = skill[skill.index(begin) + len(begin) : skill.index(end)]
    return _with_section(place, text, section.strip("\n") + "\n", MARKDOWN)


def _with_section(place: str, text: str, section: str, marks: tuple[str, str]) -> str:
    """The text with the marked section in the place of an earlier one, else at its end. LabError: half a section."""
    begin, end = marks
    marked = f"{begin}\n{section}{end}"
    counts = (text.count(begin), text.count(end))
    if counts == (0, 0):
        if text and not text.endswith("\n"):
            text += "\n"
        gap = "\n" if text else ""
        return f"{text}{gap}{marked}\n"
    start, stop = text.find(begin), text.find(end)
    if counts != (1, 1) or stop < start:
        raise LabError(f"{place}: {begin!r} and {end!r} do not stand there once each; take them out, then try again")
    return f"{text[:start]}{marked}{text[stop + len(end) :]}"


def _with_json_server(place: str, text: str) -> str:
    try:
        value = parse_json(text, place) if text.strip() else {}
    except RecordError as error:
        raise LabError(f"{error}; fix it, then try again: nothing was written") from None
    servers = value.get("mcpServers", {}) if isinstance(value, dict) else None
    entry = servers.get(SERVER, {}) if isinstance(servers, dict) else None
    if not isinstance(value, dict) or not isinstance(servers, dict) or not isinstance(entry, dict):
        raise LabError(f'{place}: not of the form {{"mcpServers": {{"NAME": {{...}}}}}}; fix it, then try again')
    command, arguments = server_command()
    # What the user added to the entry, such as variables, stays.
    new_entry = entry | {"command": command, "args": arguments}
    new_value = value | {"mcpServers": servers | {SERVER: new_entry}}
    if text.strip() and new_value == value:
        return text
    return json.dumps(new_value, indent=2, ensure_ascii=False) + "\n"


def _with_toml_server(place: str, text: str) -> str:
    before = _toml(place, text)
    command, arguments = server_command()
    # A JSON string is a TOML string, too.
    words = json.dumps(arguments, ensure_ascii=False)
    entry = f"[mcp_servers.{SERVER}]\ncommand = {json.dumps(command, ensure_ascii=False)}\nargs = {words}\n"
    begin, _ = TOML
    servers = before.get("mcp_servers", {})
    if begin not in text and isinstance(servers, dict) and SERVER in servers:
        raise LabError(f"{place}: has an entry [mcp_servers.{SERVER}] of its own; remove it, then try again")
    merged = _with_section(place, text, entry, TOML)
    after = _toml(place, merged)
    if _without_server(after) != _without_server(before):
        raise LabError(f"{place}: [mcp_servers.{SERVER}] does not fit into it as a table; write it there by hand")
    return merged


def _toml(place: str, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"{place}: no TOML: {error}; fix it, then try again: nothing was written") from None


def _without_server(value: dict[str, object]) -> dict[str, object]:
    servers = value.get("mcp_servers")
    if not isinstance(servers, dict):
        return value
    others = {name: entry for name, entry in servers.items() if name != SERVER}
    rest = {key: entry for key, entry in value.items() if key != "mcp_servers"}
    return rest | {"mcp_servers": others} if others else rest
