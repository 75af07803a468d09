"""The files that an adoption writes: configuration, verifier policy, recipes and documents."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence

from autolab.adoption.detection import Setting
from autolab.adoption.repository import Repository
from autolab.adoption.training_program import Program
from autolab.files import write_whole
from autolab.lab.create import TEMPLATES, ignore, write_schemas
from autolab.lab.schemas.config import SEED, Config, Metric, Train, VerifierPolicy
from autolab.reports import results_table
from autolab.trials import metrics

BASE = TEMPLATES / "base"
DOCUMENTS = (
    *("RESEARCH_JOURNAL.md", "FINDINGS.md", "human_journal.md", "meta_journal.md"),
    *("1_ideas/_TEMPLATE.md", "9_reports/_TEMPLATE.md", "paper/paperbanana.md", "paper/ralph.md"),
)
PROGRAMS = (".autolab/interpreter.sh", ".autolab/autolab.sh")
"""What the recipes call: it finds the interpreter of the trials, and Autolab."""
PAIRS = 24
_SOURCES = {metrics.STDOUT: "on its standard output", metrics.STDERR: "on its standard error"}
_REDUCED = {"min": "the smallest", "max": "the largest"}


def write_files(repository: Repository, program: Program, config: Config, config_text: str) -> list[str]:
    """Write the lab's files where there are none of their names; what is new, with `.autolab/` as one.

    The configuration comes last: as long as it is missing, the same command goes on.
    """
    root = repository.root
    ignore(root)
    write_schemas(root)
    prompts = root / ".autolab" / "prompts"
    for prompt in sorted((BASE / ".autolab" / "prompts").iterdir()):
        write_whole(prompts / prompt.name, prompt.read_bytes())
    write_whole(root / VerifierPolicy.FILE, policy_text(program))
    for path in PROGRAMS:
        write_whole(root / path, (BASE / path).read_bytes())
    paths = [".autolab/"]
    for path, text in _documents(repository, program, config).items():
        # A broken link is the user's too, and would be written through.
        if not os.path.lexists(root / path):
            write_whole(root / path, text)
            paths.append(path)
    write_whole(root / Config.FILE, config_text)
    return paths


def config_text(settings: Sequence[Setting]) -> str:
    """config.yaml; the values are JSON, which YAML reads."""
    by_key = {setting.key: setting.value for setting in settings}
    values = {key: _json(value) for key, value in by_key.items()}
    verb = "Lower" if by_key["metric.direction"] == "minimize" else "Raise"
    goal = _json(f"{verb} {by_key['metric.primary']}")
    metric, train = _section(values, "metric."), _section(values, "train.")
    rows = [
        "# Made by `autolab init --from-existing`; change what was not detected rightly. Limits: seconds, GB and MB.",
        f"goal: {goal}",
        f"metric: {{{metric}}}",
    ]
    if by_key.get("python"):
        rows.append(f"python: {values['python']}")
    rows.append(f"train: {{{train}, output_mb: 50}}")
    if "data" in values:
        rows.append(f"data: {values['data']}")
    rows += [
        "run_time_minutes: [0, 60]",
        "researcher: {name: offline}",
        f"executor: {{name: local, options: {values['executor.options']}}}",
        "containment: full",
        "files:",
        f"  frozen: {values['files.frozen']}",
        "  human: [human_journal.md]",
        f"  global: {values['files.global']}",
        f"test: {{rule: sequential, alpha: 0.005, max_pairs: {PAIRS}, confirm_pairs: {PAIRS}}}",
    ]
    return "\n".join(rows) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _section(values: dict[str, str], prefix: str) -> str:
    """The values of one section, in YAML's form on one line."""
    pairs = []
    for key, value in values.items():
        if key.startswith(prefix):
            pairs.append(f"{key.removeprefix(prefix)}: {value}")
    return ", ".join(pairs)


def policy_text(program: Program) -> str:
    rows = [
        "# What a candidate must pass before review. An exit code decides; {python} is the interpreter of the trials."
    ]
    command = _smoke_command(program, "{python}")
    if command is not None:
        rows.append("# Only reads the script. Better: a flag of the program that takes one step.")
        rows.append(f"dry_run_command: {json.dumps(command)}")
        rows.append("require_dry_run: true")
    rows.append("require_env_smoke: true")
    return "\n".join(rows) + "\n"


def _documents(repository: Repository, program: Program, config: Config) -> dict[str, str]:
    documents = {path: (BASE / path).read_text(encoding="utf-8") for path in DOCUMENTS}
    documents["program.md"] = _program_text(program, config)
    documents["0_docs/problem.md"] = _problem_text(program, config)
    recipes = _recipes(repository, program)
    if recipes is not None:
        documents["justfile"] = recipes
    for path in config.files.global_:
        if path.endswith(".tsv"):
            documents[path] = "\t".join(results_table.COLUMNS) + "\n"
    return documents


def _smoke_command(program: Program, python: str) -> str | None:
    """A command that only reads the script; None if it is not in Python."""
    if program.script is None or not program.script.endswith(".py"):
        return None
    code = f'import ast; ast.parse(open({json.dumps(program.script)}, "rb").read())'
    return f"{python} -c {shlex.quote(code)}"


def _recipes(repository: Repository, program: Program) -> str | None:
    """A justfile with `eval`, and `smoke` for a program in Python; None if the repository has recipes of its own."""
    # `just` finds either name, in any case.
    if any(path.name.lower() in ("justfile", ".justfile") for path in repository.root.iterdir()):
        return None
    template = (BASE / "justfile").read_text(encoding="utf-8")
    head, _, recipes = template.partition("_list:\n")
    # The template's settings, without the one that its own recipes alone use.
    lines = [line for line in head.split("\n")[:-1] if not line.startswith("seed")]
    lines += ["_list:", "    @just --list", ""]
    smoke = _smoke_command(program, "{{quote(python)}}")
    if smoke is not None:
        lines.append("# only reads the script; better: a flag of the program that takes one step")
        lines += ["smoke:", f"    {smoke}", ""]
    lines.append(next(part for part in recipes.split("\n\n") if "\neval " in part))
    return "\n".join(lines) + "\n"


def _program_text(program: Program, config: Config) -> str:
    metric = config.metric
    frozen = ", ".join(f"`{path}`" for path in config.files.frozen)
    engine_files = " ".join(f"`{path}`" for path in config.files.global_)
    better = _better(metric)
    source = _SOURCES.get(config.train.metrics, f"in `{config.train.metrics}`")
    if config.train.reduce != "last":
        source += f" ({_REDUCED[config.train.reduce]} number of a training counts)"
    return f"""# Research program

Project: what `{program.command}` trains in this repository.
Metric: {metric.primary} ({better} is better), as the training reports it {source}. No evaluator measures it
independently, so numbers are self-reported. {_worth_having(metric)}

Hypothesis space: model, optimiser, schedule and settings in `{program.script or "the training code"}`.
Out of scope: how the metric is computed, the data, the time a training is given, new packages.

## Files

| class | files | rule |
| --- | --- | --- |
| FROZEN | {frozen} | not without `META_MODE=1` in the newest entry of `human_journal.md` |
| HUMAN | `human_journal.md` | the user's alone |
| GLOBAL | {engine_files} | written by the engine, in the main checkout |
| REGULAR | everything else | free, in the candidate's worktree |

## Conventions

A change is as small as its hypothesis allows. The same seed gives the same result. The line with the metric stays as
it is. {_seed_text(config.train)}
"""


def _seed_text(train: Train) -> str:
    """Where the program has its seed from, for whoever changes it."""
    if train.seed_constants:
        places = ", ".join(f"`{entry}`" for entry in train.seed_constants)
        return f"Each trial writes its seed to its copy of the code, so these lines stay as they are: {places}."
    if SEED in train.command:
        return f"The command passes the seed on: `{train.command}`."
    return "The seed comes from the environment variable `AUTOLAB_SEED`."


def _problem_text(program: Program, config: Config) -> str:
    metric = config.metric
    data = "what the program reads; say which"
    if config.data_entries:
        data = ", ".join(f"`{entry}`" for entry in config.data_entries)
    return f"""# The problem

{config.goal}.

- Data: {data}. <Where they are from, how they are split.>
- Metric: `{metric.primary}`, as `{program.command}` reports it. <What it measures, and why this metric.>
- Baseline: what `{program.name}` does as it stands. <How long it takes, how well it does.>
- What is known: <what was tried, what papers claim>
- What would count: `{metric.primary}` {_better(metric)} by {_amount(metric)}, over several seeds.
"""


def _worth_having(metric: Metric) -> str:
    if metric.success_delta is None:
        return "The smallest difference worth having is what the calibrated noise and the budget resolve."
    return f"The smallest difference worth having is {metric.success_delta:g}."


def _amount(metric: Metric) -> str:
    if metric.success_delta is None:
        return "what the calibration can resolve or more"
    return f"{metric.success_delta:g} or more"


def _better(metric: Metric) -> str:
    return "lower" if metric.direction == "minimize" else "higher"
