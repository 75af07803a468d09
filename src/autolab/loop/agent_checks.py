"""What a coding agent may check by itself: a shell script that runs the lab's checks in its folder, and words about it.

The script runs the programs that the engine will run on the commit, with the same Python, environment and time limits,
and says before that which changed files are not the agent's to change. It is a convenience and decides nothing: the
engine runs its own checks on an export. What differs here: the network and the files that the agent has, no limits of
memory and disk, and none of the variables that `train.env` names, since they may be keys.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from autolab import files
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.trial_python import command_words, trial_python
from autolab.loop import briefing, edits
from autolab.loop.iteration import Iteration
from autolab.researchers.base import WorkChecks
from autolab.stats.plan import plan_design
from autolab.trials import interpreter
from autolab.trials.interpreter import Redirection
from autolab.trials.progress import spell
from autolab.verifiers import paths
from autolab.verifiers.programs import EXPERIMENT, CheckInputs, check_arguments, check_commands

SCRIPT = "check.sh"
"""Its name in the request's scratch folder."""
SHOWN_LINES = 60
"""Lines of a failed check's output that the script prints, from its end."""
UNKNOWN = "    (its path is known when the request is made)"
_WITH_DESIGN = (RequestKind.IMPLEMENTATION, RequestKind.IMPLEMENTATION_REVIEW)
_SHELL = """#!/bin/sh
# Runs the lab's checks on the work in this folder, each as the engine will on the commit. Status 0: all passed.
#   check.sh              every check
#   check.sh NAME ...     these alone: {names}
#   check.sh run CMD ...  any command, as a training is started; AUTOLAB_SEED, AUTOLAB_CONFIG and AUTOLAB_TRIAL_DIR
#                         (0, the settings under test, a folder that is removed) may be set before it
set -u
cd {workspace} || exit 2
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
seed=0 config={config} failed=

start() {{ # FOLDER SECONDS COMMAND ...
    folder=$1 seconds=$2
    shift 2
    mkdir -p "$folder"
    if [ "$seconds" != 0 ] && command -v timeout >/dev/null; then set -- timeout -k 5 "$seconds" "$@"; fi
    env -i {environment} "$@"
}}

check() {{ # NAME COMMAND ...
    name=$1
    shift
    start "$scratch/$name" {seconds} "$@" >"$scratch/$name.log" 2>&1
    status=$?
    if [ "$status" = 0 ]; then
        echo "$name: pass"
        return
    fi
    [ "$status" != 124 ] || status="124: still running after {seconds} s"
    tail -n {lines} "$scratch/$name.log"
    echo "$name: FAIL (status $status): $*"
    failed="$failed $name"
}}

check_paths() {{ # PATTERN ...
    first=$(git rev-list --max-parents=0 HEAD | tail -n 1)
    changed=$(
        git diff --name-only "$first" -- "$@"
        git ls-files --others --exclude-standard -- "$@"
        find .autolab -type f ! -name agent_result.json
    )
    if [ -z "$changed" ]; then
        echo "paths: pass"
        return
    fi
    echo "paths: FAIL: not yours to change; put it back (git checkout $first -- FILE), or remove it: $changed"
    failed="$failed paths"
}}

has_tests() {{
    [ -n "$(find tests test -type f 2>/dev/null | head -n 1)" ] || ls test_*.py >/dev/null 2>&1 ||
        ls ./*_test.py >/dev/null 2>&1
}}

one() {{
    case "$1" in
    paths) check_paths {protected} ;;
{cases}    *)
        echo "check.sh: $1 is no check; there are: {names}" >&2
        exit 2
        ;;
    esac
}}

if [ "${{1:-}}" = run ]; then
    shift
    seed=${{AUTOLAB_SEED:-$seed}} config=${{AUTOLAB_CONFIG:-$config}}
    start "${{AUTOLAB_TRIAL_DIR:-$scratch/run}}" 0 "$@"
    exit
fi
git status --porcelain >"$scratch/before"
for each in ${{*:-{names}}}; do one "$each"; done
git status --porcelain >"$scratch/after"
cmp -s "$scratch/before" "$scratch/after" || echo "note: a check changed files here; git status shows them"
if [ -n "$failed" ]; then
    echo "check: FAIL:$failed"
    exit 1
fi
echo "check: all passed"
"""


def prepare(iteration: Iteration, kind: RequestKind, workspace: Path, scratch: Path) -> WorkChecks:
    """Write the script for the agent that works in `workspace`, and say what it reads. May be done again after a crash.

    RecordError: the policy holds no command line. LabError: the trials' Python does not start.
    """
    lab, config, policy = iteration.lab, iteration.config, iteration.policy
    python, redirection = interpreter.inspect(trial_python(lab.root, config), lab.root)
    settings = scratch / "settings.json"
    files.write_whole(settings, _settings(iteration, kind), mode=0o644)
    imports = _imports(lab.root, redirection, workspace, scratch)
    inputs = CheckInputs(
        folder=workspace,
        python=python.path,
        iteration_id=iteration.iteration_id,
        scratch=scratch,
        logs=scratch,
        config=settings,
        data=_data(lab.root, config, workspace),
        imports=imports,
    )
    commands = {}
    for name, command in check_commands(policy).items():
        # The iteration's record is not shown to an agent.
        if EXPERIMENT not in command:
            commands[name] = shlex.join(check_arguments(name, command, inputs))
    protected = paths.protected(config, unlocked=edits.unlocked(lab.root, config))
    script = _SHELL.format(
        names=" ".join(["paths", *commands]),
        workspace=shlex.quote(str(workspace)),
        config=shlex.quote(str(settings)),
        environment=_environment(inputs),
        seconds=f"{policy.time_limit_s:g}",
        lines=SHOWN_LINES,
        protected=" ".join(dict.fromkeys(shlex.quote(one.pattern) for one in protected)),
        cases="".join(_case(name, command) for name, command in commands.items()),
    )
    program = scratch / SCRIPT
    files.write_whole(program, script, mode=0o755)
    reads = [*python.reads, str(settings)]
    if imports is not None:
        reads.append(str(imports))
    return WorkChecks(program, tuple(commands), tuple(reads), python.covers)


def contract_values(iteration: Iteration, limit_s: float, checks: WorkChecks | None) -> dict[str, str]:
    """What an agent's contract says of this lab. `limit_s`: seconds it has; `checks`: None before it has a folder."""
    config = iteration.config
    reviewer = "you, in a request of its own that shows the design, the difference and the checks"
    if config.reviewer is not None:
        model = f" ({config.reviewer.model})" if config.reviewer.model else ""
        reviewer = f"another, {config.reviewer.name}{model}, who sees the design, the difference and the checks"
    return {
        "time_limit": spell(limit_s),
        "budget": briefing.remaining(iteration).replace("\n", "; "),
        "reviewer": reviewer,
        "checks": _checks_text(config, checks) if checks is not None else UNKNOWN,
    }


def _settings(iteration: Iteration, kind: RequestKind) -> str:
    """The settings of the variant that is written or reviewed; none before there is a design."""
    if kind not in _WITH_DESIGN:
        return "{}"
    secret, hypothesis = iteration.lab.secret, iteration.hypothesis()
    plan = plan_design(iteration.design(), iteration.config, hypothesis, secret, "", "")
    return json.dumps(plan.variants[0].settings, sort_keys=True)


def _imports(root: Path, redirection: Redirection, workspace: Path, scratch: Path) -> Path | None:
    """The folder that sends imports of the lab's installed package to the workspace; None if it is not installed."""
    if not redirection:
        return None
    # The workspace lies in the checkout, and what is imported from there must stay.
    moved = replace(redirection, exempt=(*redirection.exempt, str(workspace)))
    folder = scratch / "imports"
    text = moved.text(interpreter.spellings(root), workspace)
    files.write_whole(folder / "sitecustomize.py", text, mode=0o644)
    return folder


def _data(root: Path, config: Config, workspace: Path) -> Path | None:
    """The first of the training data, as the agent sees it: in its folder, or where it lies outside of the lab."""
    entries = config.data_entries
    if not entries:
        return None
    inside = workspace / entries[0].place
    return inside if entries[0].is_relative and inside.exists() else entries[0].source(root)


def _environment(inputs: CheckInputs) -> str:
    """A training's variables as words of the script, the folders and settings as its own variables."""
    values = inputs.environment(Path("{folder}"))
    own = {"AUTOLAB_TRIAL_DIR": '"$folder"', "AUTOLAB_SEED": '"$seed"', "AUTOLAB_CONFIG": '"$config"'}
    words = []
    for name, value in values.items():
        text = '"$scratch"' if value == "{scratch}" else shlex.quote(value)
        words.append(f"{name}={own.get(name, text)}")
    return " ".join(words)


def _case(name: str, command: str) -> str:
    line = f"check {name} {command}"
    # As the engine does: without tests there is nothing to run.
    if name == "tests":
        line = f'if has_tests; then {line}; else echo "tests: skip: there are none"; fi'
    return f"    {name}) {line} ;;\n"


def _checks_text(config: Config, checks: WorkChecks) -> str:
    training = shlex.join(command_words(config.train.command)).replace("'{python}'", "python3")
    names = ", ".join(checks.names)
    lines = [
        f"    sh {shlex.quote(str(checks.program))}",
        "",
        f"The checks: paths (you changed only what is yours), {names}. A name behind the command runs that one alone.",
        f"`run` and any command behind it start that as a training is started: `run {training}`, or a shorter one.",
    ]
    if config.train.env:
        lines.append(f"Not set there, because you are not shown them: {', '.join(config.train.env)}.")
    return "\n".join(lines)
