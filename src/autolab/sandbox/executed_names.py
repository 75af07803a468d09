"""File names that programs run, or take their settings from, although the user did not ask for it.

A candidate's commit (`verifiers/paths.py`) may hold no name that `runs_by_itself`. Of what a trial left, `collect.py`
stores no such name as it is, and no code or settings either (`not_a_result`): a commit needs those, a folder of results
does not, and there test runners, editors and build tools would find them.

Not covered: a program that runs files of ordinary names (`data.json`) because its user set it up so. Standard library
only.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

_BY_PYTHON = "Python runs it by itself when it starts; call the code from the lab's own programs"
_BY_OTHERS = "programs run it by themselves when the folder is opened or tested; leave it out"
_BY_GIT = "git runs what it names; leave it out"
_BINARY = "compiled code that no reviewer can read; commit its source"
_HOOK = "the name of a git hook or of the file that makes a folder a repository; rename the file"

_TESTS = ("conftest.py",)
_EDITORS = (
    *(".vscode", ".vs", ".idea", ".zed", ".fleet", ".cursor", ".devcontainer", ".devcontainer.json", ".theia"),
    *(".exrc", ".vimrc", ".lvimrc", ".nvimrc", ".nvim.lua", ".dir-locals.el", ".dir-locals-2.el", ".projectile"),
)
_AGENTS = (".claude", ".claude.json", ".mcp.json", ".codex", ".gemini", ".windsurf", ".clinerules", ".continue")
_SHELLS = (
    *(".envrc", ".direnv", ".direnvrc", ".tool-versions", "mise.toml", ".mise.toml", ".mise", ".rtx.toml", ".autoenv"),
    *(
        ".pre-commit-config.yaml",
        ".pre-commit-hooks.yaml",
        "lefthook.yml",
        ".lefthook.yml",
        ".husky",
        ".overcommit.yml",
    ),
)
_INTERPRETERS = (
    *(".gdbinit", ".lldbinit", ".pdbrc", ".pdbrc.py", ".pythonrc", ".pythonrc.py", ".pythonstartup", ".ipython"),
    *(".rprofile", ".irbrc"),
)
_BY_NAME = frozenset((*_TESTS, *_EDITORS, *_AGENTS, *_SHELLS, *_INTERPRETERS))
_PATTERNS = (
    (re.compile(r"\.git(?!keep$).*|git~\d+", re.DOTALL), _BY_GIT),
    (re.compile(r"(sitecustomize|usercustomize)(\..*)?", re.DOTALL), _BY_PYTHON),
    (re.compile(r".*\.(pth|egg-link)|pyvenv\.cfg|.*\.(dist|egg)-info", re.DOTALL), _BY_PYTHON),
    (re.compile(r"__pycache__|.*\.(py[codz]|pyd|so(\.[0-9.]+)?|dylib|dll|a|o)", re.DOTALL), _BINARY),
    (re.compile(r".*\.code-workspace", re.DOTALL), _BY_OTHERS),
)
_HOOKS = re.compile(r"(.*/)?hooks/(pre|post|commit|prepare|applypatch|update|reference|push|proc|fsmonitor)[a-z-]*")

_CODE = re.compile(
    r".*\.(py[iwx]?|pyx|ipynb|sh|bash|zsh|fish|csh|ksh|command|bat|cmd|com|exe|msi|ps1|psm1|vbs|wsf|scr|lnk|url"
    r"|desktop|jar|js|mjs|cjs|jsx|ts|mts|cts|tsx|wasm|rb|pl|pm|php|lua|tcl|el|vim|scm|jl|r|go|rs|c|cc|cpp|h|hpp|java"
    r"|kt|scala|swift)",
    re.DOTALL,
)
_SETTINGS = re.compile(
    r".*\.(ini|cfg|conf|toml|ya?ml|mk|mak|cmake|ninja|gradle|bazel|bzl|nix|service|timer|plist|reg|inf|rc|tf|sln)"
    r"|(gnu)?makefile(\..*)?|just(file)?|rakefile|gemfile|guardfile|procfile|brewfile|pipfile|vagrantfile|jenkinsfile"
    r"|tiltfile|earthfile|snakefile|sconstruct|sconscript|wscript|build|workspace|(docker|container)file(\..*)?"
    r"|cmakelists\.txt|cmakepresets\.json|(package|composer|deno|tsconfig|jsconfig)\.jsonc?"
    r"|(claude|agents?|gemini)\.md",
    re.DOTALL,
)


def runs_by_itself(path: str) -> str | None:
    """Why some program runs this file by itself, and the way out; None if none does.

    `path` is relative, with slashes. What lies in a folder of such a name counts like the folder."""
    folded = fold(path)
    for name in folded.split("/"):
        if name in _BY_NAME:
            return _BY_OTHERS
        for pattern, reason in _PATTERNS:
            if pattern.fullmatch(name):
                return reason
    # `HEAD` and `hooks/` make any folder one that git takes for a repository of its own.
    if _HOOKS.fullmatch(folded) or folded.rpartition("/")[2] == "head":
        return _HOOK
    return None


def not_a_result(path: str) -> str | None:
    """Why a file that a trial left is not stored under its own name; None if it may be."""
    reason = runs_by_itself(path)
    if reason is not None:
        return reason.partition(";")[0]  # without the way out, which is a researcher's
    folded = fold(path)
    if "/." in f"/{folded}":
        return "a hidden name, under which programs keep their settings"
    name = folded.rpartition("/")[2]
    if _CODE.fullmatch(name):
        return "code"
    if _SETTINGS.fullmatch(name):
        return "settings of a program"
    return None


def fold(path: str) -> str:
    """A path as a file system without case and with one Unicode form has it: `Eval.py` is `eval.py`."""
    folded = unicodedata.normalize("NFKC", str(PurePosixPath(path.strip("/")))).casefold()
    # Once more: case folding can undo the normal form.
    return unicodedata.normalize("NFKC", folded)
