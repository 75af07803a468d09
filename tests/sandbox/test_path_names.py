"""Paths that a model may name: bad ones are refused at every door before anything is written, honest ones are not."""

from __future__ import annotations

import string
import subprocess
from pathlib import Path
from typing import Any

import pytest
from edit_kit import apply
from edit_kit import candidate as candidate  # the fixture
from hypothesis import given
from hypothesis import strategies as st
from lab_kit import implementation, iteration, make_lab, script

from autolab.errors import RecordError
from autolab.lab.git import Change
from autolab.lab.schemas.config import Config
from autolab.sandbox import path_names
from autolab.verifiers.paths import path_policy

CONFIG = Config.from_text("metric: {primary: a, direction: minimize, success_delta: 1}\n", "config.yaml")
BAD = [
    # out of the lab, or so on another system
    *("../x", "a/../../x", "/etc/passwd", "//server/share", "\\\\server\\share\\x", "C:\\x", "C:x", "c:/x", "a\\..\\x"),
    *("a\\b.py", "\\x", "~/x", "~root/.ssh/x", "~", "./x.py", "a//x.py", "a/./x.py", "", ".", "..", "a/..", "a/"),
    *("%2e%2e/x", "%2E%2E%2Fx", "a/%2e%2e/x", "x%00.py", "%u002e%u002e/x", "..%2fx", "file:///etc/x"),
    # that look like it
    *("\uff0e\uff0e/x", "\u2024\u2024/x", "\u2025/x", "\ufe52\ufe52/x", "a\uff0fb.py", "a\u2215b.py", "a\u2044b.py"),
    *("a\uff3cb.py", "\u3002env", "C\uff1ax", "C\ua789x", "a\u29f8b", "\uff0eenv", "\u2024git/config"),
    # secrets and settings of the user
    *(
        ".env",
        ".env.local",
        ".env.production",
        "sub/.env",
        ".ENV",
        ".ssh/authorized_keys",
        ".netrc",
        "_netrc",
        ".pypirc",
    ),
    *(".aws/credentials", ".npmrc", ".bashrc", ".bash_profile", ".zshrc", ".zshenv", ".profile", ".inputrc", ".kshrc"),
    *(".gnupg/x", ".kube/config", ".docker/config.json", ".git-credentials", ".gitconfig", ".condarc", "pip.conf"),
    *("id_rsa", "keys/id_ed25519", ".config/fish/config.fish", ".hidden", ".cache/x", ".hg/hgrc", ".cargo/config.toml"),
    # git's own, spelled in every way
    *(
        ".git/config",
        ".git",
        ".GIT/config",
        ".g\u200cit/config",
        ".git\u200c/config",
        "git~1/config",
        "GIT~2",
        ".git./x",
    ),
    *(".git /x", ".git::$INDEX_ALLOCATION/x", ".\uff27it/config", "sub/.git/config", ".gitmodules", ".gitattributes"),
    *(".gitignore", ".github/workflows/ci.yml", ".githooks/pre-commit"),
    # options, devices, streams, short names, shell
    *("-rf", "--version", "a/-x.py", "\u2010x.py", "\u2212rf", "CON", "con.txt", "NUL", "nul.py", "COM1", "a/aux.txt"),
    *("aux/x.py", "PRN.tar.gz", "lpt9", "COM\u00b9", "conin$", "con .txt", "a:b", "x.py:stream", "x.py::$DATA"),
    *("PROGRA~1/x", "x.py~", "a?b", "a*b", 'a"b', "a<b", "a>b", "a|b", "$HOME/x", "$(id).py", "`id`.py", "a;b", "a&b"),
    # what cannot be seen
    *("a\nb.py", "a\rb.py", "a\tb.py", "a\x00b.py", "a\x1b[2Kb.py", "a\x7fb", "a\x85b", "a\u202egnp.py", "a\u2066b.py"),
    *(
        "a\u200bb.py",
        "a\ufeffb.py",
        "a\u00adb.py",
        "a\u00a0b.py",
        "a\u3164b.py",
        "a\u2800b.py",
        "a\ufe0fb.py",
        "a\ud83db",
    ),
    *("a\U000e0041b.py", "a\u2028b.py"),
    # lengths and ends
    *(
        "x" * 256,
        "\u00e9" * 130,
        "d/" * 40 + "x",
        "d" * 200 + "/" + "e" * 200 + "/" + "f" * 200 + "/" + "g" * 200 + "/" + "h" * 210,
    ),
    *("x.py.", "x.py ", " x.py", "a /x.py", "a./x.py", "...", "a/.../x"),
    # run without being asked
    *(".envrc", ".vscode/tasks.json", ".idea/x.xml", ".husky/pre-commit", ".pre-commit-config.yaml", ".tool-versions"),
    *("a.code-workspace", ".devcontainer/devcontainer.json", "conftest.py", "sitecustomize.py", "x.pth", ".direnv/x"),
    *(".mcp.json", ".claude/settings.json", "x.dist-info/entry_points.txt", "hooks/pre-commit", "HEAD"),
]
HONEST = [
    *("train2.py", "models/resnet.py", "models/__init__.py", "models/a/b/c.py", "README.md", "notes/2026-11-29.md"),
    *("configs/base.yaml", "configs/lr_0.1.toml", "data.json", "scripts/run.sh", "requirements.txt", "pyproject.toml"),
    *("Makefile", "Dockerfile", "justfile", "setup.cfg", "tests/test_model.py", "test_x.py", "src/pkg/module.py"),
    *(
        "models/with space.py",
        "models/\u00fcber.py",
        "models/\u6a21\u578b.py",
        "models/\u043c\u043e\u0434\u0435\u043b\u044c.py",
    ),
    *("e\u0301.md", "figures/plot (1).png", "data[0].csv", "a,b.csv", "x+y.py", "x=1.txt", "a@b.txt", "50%_off.csv"),
    *("100%.txt", "O'Neil.md", "x!.md", "#1.md", "{a}.txt", "_private.py", "__main__.py", "v1.2.3.md", "a..b.py"),
    *(
        ".env.example",
        ".env.template",
        ".gitkeep",
        "runs/.gitkeep",
        ".editorconfig",
        ".dockerignore",
        "environment.yml",
    ),
    *(
        "con_model.py",
        "auxiliary.py",
        "nullable.py",
        "common/x.py",
        "comp1.py",
        "lpt.py",
        "env.py",
        "git.py",
        "gitignore.md",
    ),
    *("x-1.py", "a/b-c.py", "X.PY", "d/" * 31 + "x", "x" * 227 + ".py", "weights.safetensors", "head.py", "hooks.py"),
]


def test_there_are_enough_of_them_and_none_twice() -> None:
    assert len(set(BAD)) == len(BAD) >= 84 and len(set(HONEST)) == len(HONEST) >= 40


def everything(root: Path) -> set[str]:
    """Files and folders of the worktree and of all beside it, ignored ones too."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def refusal(candidate: Any, path: str) -> str:
    """Why an answer with this file is refused: as an answer, where it is no text at all, else at the edit's door."""
    try:
        return apply(candidate, files=[{"path": "good.py", "content": "x"}, {"path": path, "content": "x"}])
    except RecordError as error:
        return str(error)


@pytest.mark.process
def test_of_the_bad_paths_none_is_written_and_each_gets_one_line(candidate: Any) -> None:
    before = everything(candidate.lab.root.parent)
    accepted, long = [], []
    for path in BAD:
        said = refusal(candidate, path)
        accepted += [path] if not said else []
        long += [path] if "\n" in said or len(said) > 1_500 or not said.isprintable() else []
    assert (accepted, long) == ([], [])
    assert everything(candidate.lab.root.parent) == before


@pytest.mark.process
def test_of_the_honest_paths_all_are_written(candidate: Any) -> None:
    said = {path: apply(candidate, files=[{"path": path, "content": path}]) for path in HONEST}
    assert {path: why for path, why in said.items() if why} == {}
    assert {path: (candidate.worktree / path).read_text() for path in HONEST} == {path: path for path in HONEST}


@pytest.mark.process
def test_an_agents_commit_is_held_to_the_same(candidate: Any) -> None:
    """The policy alone, for what git can hold: without the spellings that no commit has, such as `a//x`."""
    never = {"./x.py", "a//x.py", "a/./x.py", "", ".", "a/", "a\x00b.py", "x\x00.py"}
    passed = []
    for path in BAD:
        found = path_policy([Change("A", path, "000000", "100644", "", "")], CONFIG)
        passed += [path] if not any(finding.severity == "blocking" for finding in found) else []
    assert set(passed) <= never
    refused = [path for path in HONEST if path_policy([Change("A", path, "000000", "100644", "", "")], CONFIG)]
    assert refused == []


def test_a_secret_of_the_base_is_not_changed_and_an_odd_name_of_it_may_be() -> None:
    def blocked(path: str) -> bool:
        return bool(path_policy([Change("M", path, "100644", "100644", "", "")], CONFIG, existing=[path]))

    assert blocked(".env") and blocked("conf/.netrc") and blocked(".npmrc")
    assert not blocked("aux.py") and not blocked(".flake8") and not blocked("a&b.py") and not blocked(".env.example")


@given(st.text(string.ascii_letters + string.digits + "_", min_size=5, max_size=40))
def test_plain_names_are_never_refused(name: str) -> None:
    assert path_names.unfit(f"{name}.py") is None and path_names.unsafe(name) is None


@given(st.text(max_size=30))
def test_any_text_has_an_answer(path: str) -> None:
    for asked in (path_names.unsafe, path_names.secret, path_names.unfit):
        said = asked(path)
        assert said is None or said.isprintable()


@pytest.mark.process
def test_through_the_command_line_a_bad_path_goes_back_to_its_author(tmp_path: Path) -> None:
    bad = [{"path": path, "content": "x"} for path in ("-rf", "aux.py", ".env", "\uff0e\uff0e/x")]
    answers = [implementation(files=[one]) for one in bad]
    kit = make_lab(
        tmp_path,
        script(iteration(implementation=answers)),
        config={"attempts": {"stage": len(bad), "same_idea": 100, "rethink": 0}},
    )
    done = kit.autolab("loop", "--max-iterations", "1")
    assert done.code == 3, done.err
    states = [line["data"]["state"] for line in kit.events("transition")]
    reasons = [state["reason"] for state in states if state["reason"]]
    for sign in ("begins with a dash", "device on Windows", "the user's own", "looks like a dot"):
        assert any(sign in reason for reason in reasons), (sign, reasons)
    (worktree,) = (kit.root / "5_worktrees").glob("*/")
    listed = subprocess.run(["git", "status", "--porcelain", "-uall", "--ignored"], cwd=worktree, capture_output=True)
    assert listed.stdout == b""
