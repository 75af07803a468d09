"""`autolab init --from-existing`: a repository with a training program of its own becomes a lab.

Every guess is said in a line and stands in `.autolab/config.yaml`, where it can be changed. Only new files are written,
nothing is committed, nothing of the user's is changed; what git is to ignore goes into `.git/info/exclude`. All that
can be refused is refused before the first file; killed in between, the same command goes on.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autolab.errors import LabError, UsageError
from autolab.files import write_whole
from autolab.lab.create import TEMPLATES, ignore, refuse_nested, register, write_schemas
from autolab.lab.git import Git, common_dir, find_root
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config, Direction, VerifierPolicy
from autolab.lab.trial_python import OWN_PYTHON, command_words
from autolab.reports import results_table
from autolab.sandbox.collect import remove_tree
from autolab.stats.metric_names import direction_of
from autolab.text import decode
from autolab.trials import inputs, job, metrics

BASE = TEMPLATES / "base"
DOCUMENTS = (
    *("RESEARCH_JOURNAL.md", "FINDINGS.md", "human_journal.md", "meta_journal.md"),
    *("1_ideas/_TEMPLATE.md", "9_reports/_TEMPLATE.md", "paper/paperbanana.md", "paper/ralph.md"),
)
INTERPRETER = ".autolab/interpreter.sh"
MEASURES = ("program.md", "prepare.py", "eval.py", "evaluate.py", "evaluation.py", "metrics.py")
"""Files that say what is asked or how it is measured, by their usual names: frozen where they are committed."""
FROZEN = ("program.md", "meta_journal.md")
"""What a lab always freezes; both are written where the repository has none."""
BUILDERS = (
    r"(mesonpy|meson-python|scikit[_-]build|maturin|cython|pybind11|nanobind|setuptools[_-]rust|cffi)(?![a-z0-9])"
)
"""Build backends, and what they require, that compile."""
DELTA = 0.01
PAIRS = 24

_PRINTED = re.compile(r"""["'](?:\\n)?([A-Za-z_][\w./-]*)[ \t]*:[ \t]*(?:[{%$]|["'][ \t]*[,+.\w])""")
_ELSEWHERE = re.compile(r"\blog(ger|ging)?\.|stderr|>&2")
_AT_HOME = re.compile(r"expanduser|Path\.home|\bHOME\b|~/|\.cache\b|from_pretrained|load_dataset")


@dataclass(frozen=True)
class AdoptionRequest:
    """What the user says; None is to be guessed.

    Args:
        train_command: What trains, such as "python train.py"; in any language.
        metric: What decides: a name that the program prints as `name: value`, or writes into a JSON file.
        direction: Which way is good.
        delta: The least difference worth having, in the metric's units.
        data: Folder of the training data.
        python: The trials' interpreter; for a package that must be compiled, one in whose environment it is installed.
    """

    train_command: str | None = None
    metric: str | None = None
    direction: Direction | None = None
    delta: float | None = None
    data: Path | None = None
    python: Path | None = None


@dataclass(frozen=True)
class Repository:
    """The repository as it was found: its root, the commit that is checked out, what is in neither."""

    root: Path
    git: Git
    head: str
    untracked: tuple[str, ...]

    def holds(self, path: str) -> bool:
        return self.git.has_path(self.head, path) is not None


@dataclass(frozen=True)
class Program:
    """The training command as the configuration has it, and its script, if it names one that is committed."""

    command: str
    script: str | None
    text: str
    beside: str
    """The committed files beside the script that end alike."""
    env: tuple[str, ...]


def adopt(folder: Path, request: AdoptionRequest, seed: int | None, tell: Callable[[str], None]) -> Lab:
    """Make a lab of the repository at `folder`. LabError, GitError, UsageError: why it cannot be, and the way out."""
    repository = _repository(folder.resolve())
    program = _program(repository, request.train_command)
    guesses = list(_guesses(repository, program, request))
    text = _config_text({key: value for key, value, _ in guesses}, program)
    config = Config.from_text(text, Config.FILE)
    _try_export(repository, config)
    for key, value, why in guesses:
        tell(f"  {key:<21} {_shown(value)}  ({why})")
    for line in _notes(repository, program, config):
        tell(f"note: {line}")
    written = _write(repository, program, config, text)
    lab = register(repository.root, seed)
    tell(f"written, and yours to commit: {', '.join(written)}")
    return lab


# what cannot be adopted


def _repository(root: Path) -> Repository:
    """The repository, or why no lab can be made of it as it stands."""
    found = find_root(root) if root.is_dir() else None
    if found is None:
        raise LabError(f"{root}: not a git repository; run `git init` there and commit the training program")
    refuse_nested(root)
    if found != root:
        raise LabError(f"{root}: lies in the repository {found}; adopt that one: a lab is a whole repository")
    if common_dir(root) != root / ".git":
        raise LabError(f"{root}: a worktree or a submodule of {common_dir(root)}; adopt the main checkout")
    if (root / ".autolab" / "config.yaml").exists():
        raise LabError(f"{root}: has .autolab/config.yaml already; `autolab init {root}` makes it a lab")
    git = Git(root)
    head, busy = git.head(), git.busy()
    if head is None:
        raise LabError(f"{root}: has no commit yet; experiments start from one: commit the training program")
    if git.branch() is None:
        raise LabError(f"{root}: no branch is checked out (HEAD is detached); run `git switch BRANCH`")
    if busy is not None:
        raise LabError(f"{root}: a {busy} is in progress; end it first")
    dirty = git.dirty()
    changed = [path for path in dirty if git.has_path(head, path)]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise LabError(
            f"{changed[0]}{more}: changed since the last commit, which experiments start from; commit or stash"
        )
    taken = next((path for path in ("experiments", "5_worktrees") if git.has_path(head, path)), None)
    if taken:
        raise LabError(f"{taken}: the repository has it, and a lab keeps its own record there; rename it, commit")
    return Repository(root, git, head, tuple(dirty))


def _try_export(repository: Repository, config: Config) -> None:
    """Refuse now what the first trial would be refused for: submodules, links that lead out, no room."""
    place = common_dir(repository.root) / "autolab.export"
    try:
        repository.git.export(repository.head, place / "code", None, inputs.hidden_from_trials(config))
    finally:
        remove_tree(place)


# the training program


def _program(repository: Repository, command: str | None) -> Program:
    words = _words(repository, command)
    script = _script(repository, words)
    text = beside = ""
    if script is not None:
        path = repository.root / script
        others = [one for one in sorted(path.parent.glob(f"*{path.suffix}")) if one != path and one.is_file()]
        text = _read(path)
        beside = "\n".join(_read(one) for one in others if repository.holds(str(one.relative_to(repository.root))))
    env = (*_path_needed(repository, words[0]), *(["HOME"] if _AT_HOME.search(text + beside) else []))
    return Program(shlex.join(words).replace("'{python}'", "{python}"), script, text, beside, env)


def _read(path: Path) -> str:
    return decode(path.read_bytes())


def _words(repository: Repository, command: str | None) -> list[str]:
    if command is None:
        if not repository.holds("train.py"):
            raise UsageError("--train-command: missing, and the last commit has no train.py; such as 'python main.py'")
        return ["{python}", "train.py"]
    try:
        words = command_words(command)
    except ValueError as error:
        raise UsageError(f"--train-command: {command!r}: {error}") from None
    if words[:2] == ["uv", "run"] and _own_python(repository) and len(words) > 2:
        words = [*([] if words[2].startswith("python") else ["{python}"]), *words[2:]]
    if not words:
        raise UsageError("--train-command: empty; such as 'python train.py'")
    return ["{python}" if words[0] in ("python", "python3") else words[0], *words[1:]]


def _script(repository: Repository, words: list[str]) -> str | None:
    """The first word that is a committed file; UsageError where a word must be one and is not."""
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else None
    if module is not None:
        path = module.replace(".", "/")
        found = [
            name for name in (f"{path}.py", f"{path}/__main__.py", f"{path}/__init__.py") if repository.holds(name)
        ]
    else:
        found = [str(PurePosixPath(word)) for word in words if not word.startswith("-") and _is_file(repository, word)]
    if found:
        return found[0]
    meant = module or next((word for word in words if re.search(r"\.(py|sh|jl|R|r|awk|pl|lua|js)$", word)), None)
    if meant is None and words[0] != "{python}":
        return None  # `make train`: what it runs is not said
    missing = f"{meant}: not in the last commit" if meant else "no script is named"
    raise UsageError(f"--train-command: {missing}; name a committed one, by its path in {repository.root}")


def _is_file(repository: Repository, word: str) -> bool:
    plain = not word.startswith(("/", "..")) and "\0" not in word
    return plain and (repository.root / word).is_file() and repository.holds(str(PurePosixPath(word)))


def _path_needed(repository: Repository, program: str) -> list[str]:
    """PATH, if the program is found on the user's only. UsageError: it is not there, or cannot be run."""
    if program == "{python}":
        return []
    if "/" in program:
        if os.access(repository.root / program, os.X_OK) and (program.startswith("/") or _is_file(repository, program)):
            return []
        raise UsageError(f"--train-command: {program}: not a committed program that may be run; chmod +x, commit")
    if shutil.which(program, path=job.environment_of_trials("")["PATH"]):
        return []
    if shutil.which(program):
        return ["PATH"]
    raise UsageError(f"--train-command: {program}: no such program on PATH")


def _own_python(repository: Repository, command: str | None = None) -> str | None:
    """The repository's own interpreter: the one that `command` names, else the first there is."""
    named = [path for path in OWN_PYTHON if command and command.strip().removeprefix("./").startswith(f"{path} ")]
    return next((path for path in (*named, *OWN_PYTHON) if os.access(repository.root / path, os.X_OK)), None)


def _python(repository: Repository, named: Path) -> str:
    """The interpreter that the user names, as the configuration has it. UsageError: it is no program."""
    path = repository.root / os.path.expanduser(named)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise UsageError(f"--python: {named}: no such program, in {repository.root} or absolute")
    return os.path.abspath(path) if named.is_absolute() or str(named).startswith("~") else str(named)


# guesses

Guess = tuple[str, object, str]
"""A key of the configuration, its value, and why."""


def _guesses(repository: Repository, program: Program, request: AdoptionRequest) -> Iterator[Guess]:
    yield "train.command", program.command, "given" if request.train_command else "the last commit has it"
    if request.python is not None:
        yield "python", _python(repository, request.python), "given"
    elif "{python}" in program.command:
        own = _own_python(repository, request.train_command)
        yield "python", own, "the repository's own" if own else "the one that runs Autolab: there is no .venv or venv"
    metric, why = (request.metric, "given") if request.metric else _metric(program)
    yield "metric.primary", metric, why
    direction = request.direction or direction_of(metric)
    if direction is None:
        raise UsageError(f"--direction: {metric} does not say which way is good; give minimize or maximize")
    yield "metric.direction", direction, "given" if request.direction else "by its name"
    if request.delta is not None and not 0 < request.delta < float("inf"):
        raise UsageError(f"--delta: {request.delta:g} is not a positive number")
    why = "given" if request.delta else f"the least difference in {metric} that is worth having: yours to say"
    yield "metric.success_delta", request.delta or DELTA, why
    yield "train.metrics", *_source(program, metric)
    yield "train.in_copy", True, "what it writes beside itself goes into a copy of the code, thrown away"
    if program.env:
        yield (
            "train.env",
            list(program.env),
            "it reads below your home folder" if "HOME" in program.env else "to be found",
        )
    data = _data(repository, program, request.data)
    if data is not None:
        yield "data", data, "given" if request.data else "the script names it, and it is not committed"
    named = (path for path in MEASURES if path != program.script and repository.holds(path))
    frozen = list(dict.fromkeys([*named, *FROZEN]))
    yield "files.frozen", frozen, "say what is asked and how it is measured; add what else measures"
    table = _table(repository, program)
    why = "a name that is free" if table == "results.tsv" else "results.tsv is yours and stays as it is"
    yield "files.global", ["RESEARCH_JOURNAL.md", table, "FINDINGS.md"], why
    yield "executor.options", {"slots": 1}, "one training at a time; more where cores and memory allow"


def _metric(program: Program) -> tuple[str, str]:
    printed = _printed(program)
    likely = [name for name in printed if direction_of(name)]
    if len(likely) == 1:
        return likely[0], f"{program.script} prints it"
    such = f"{program.script or program.command} prints {', '.join(printed)}" if printed else "no metric was found"
    raise UsageError(f"--metric: {such}; name the one that decides, such as --metric {(likely or ['val_loss'])[0]}")


def _printed(program: Program) -> list[str]:
    """Names that the program prints at the beginning of a text, followed by a colon and a value."""
    lines = [line for line in program.text.split("\n") if not _ELSEWHERE.search(line)]
    return list(dict.fromkeys(name for line in lines for name in _PRINTED.findall(line)))


def _source(program: Program, metric: str) -> tuple[str, str]:
    if metric in _printed(program):
        return metrics.STDOUT, f"lines `{metric}: NUMBER`, the last one counts"
    files = dict.fromkeys(re.findall(r"""["']([\w./-]*\w\.json)["']""", program.text))
    likely = [path for path in files if re.search("metric|result|score|summary", path) and ".." not in path]
    if len(likely) == 1 and not likely[0].startswith("/"):
        return likely[0], "the script names it; relative to the folder it runs in"
    return metrics.STDOUT, f"a line `{metric}: NUMBER` has to be printed; none was seen, so look at this"


def _data(repository: Repository, program: Program, folder: Path | None) -> str | None:
    """The training data: what is given, or the one folder that the script names and that git does not hold."""
    if folder is not None:
        path = Path(os.path.normpath(repository.root / folder))
        if not path.is_dir():
            raise UsageError(f"--data: {folder}: no such folder, in {repository.root} or absolute")
        return str(path.relative_to(repository.root)) if path.is_relative_to(repository.root) else str(path)
    named = re.findall(r"""["'](\w[\w.-]*)(?:/[\w./-]*)?["']""", program.text)
    folders = [
        name for name in dict.fromkeys(named) if (repository.root / name).is_dir() and not repository.holds(name)
    ]
    return folders[0] if len(folders) == 1 else None


def _table(repository: Repository, program: Program) -> str:
    """results.tsv, unless there is one of another kind, or the repository speaks of one."""
    header = "\t".join(results_table.COLUMNS)
    about = repository.root / "program.md"
    texts = program.text + program.beside + (_read(about) if about.is_file() else "")
    names = (["results.tsv"] if "results.tsv" not in texts else []) + ["autolab_results.tsv"]
    for name in (*names, *(f"autolab_results_{number}.tsv" for number in range(2, 100))):
        path = repository.root / name
        if not os.path.lexists(path):
            return name
        if path.is_file() and path.read_bytes().split(b"\n", 1)[0].decode(errors="replace") == header:
            return name
    raise LabError(f"{repository.root}: a hundred results tables and none of a lab; move them away")


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _notes(repository: Repository, program: Program, config: Config) -> Iterator[str]:
    """What the user should know or do, a line each."""
    name = program.script or program.command
    if program.script is not None and "AUTOLAB_SEED" not in program.text + program.beside:
        python = program.script.endswith(".py")
        how = 'SEED = int(os.environ.get("AUTOLAB_SEED", "0"))' if python else "the environment variable AUTOLAB_SEED"
        yield (
            f"{name} never reads AUTOLAB_SEED, so each trial repeats the same training and nothing can be told from"
            f" chance: let it seed its random numbers from {how}, and commit"
        )
    built = _compiled(repository)
    if built:
        yield (
            f"{built}: the package has to be compiled, and a trial imports the candidate's code as git holds it, where"
            " nothing is built: install it in an environment of its own (pip install ., not -e) and name that:"
            " --python /path/to/env/bin/python; candidates then change what lies outside of it"
        )
    unseen = [path for path in repository.untracked if not (config.data and path.rstrip("/") == config.data)]
    if unseen:
        more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
        yield f"not committed, so trials do not see: {', '.join(unseen[:3])}{more}"
    for path in DOCUMENTS:
        if path in config.files.global_ and os.path.lexists(repository.root / path):
            yield f"{path} is yours; the lab's entries will go above what it holds"
    yield f"no evaluator measures {config.metric.primary}: the numbers are what {name} says, and marked self-reported"


def _compiled(repository: Repository) -> str:
    """What says that the repository's own package is built by a compiler, in words; empty where nothing does."""
    if repository.holds("setup.py"):
        found = re.search(
            r"\b(ext_modules|cythonize|cffi_modules|rust_extensions)\b", _read(repository.root / "setup.py")
        )
        if found:
            return f"setup.py: {found[1]}"
    if repository.holds("pyproject.toml"):
        try:
            system = tomllib.loads(_read(repository.root / "pyproject.toml")).get("build-system", {})
        except tomllib.TOMLDecodeError:
            system = {}
        named = [str(system.get("build-backend", "")), *map(str, system.get("requires", ()))]
        for name in named:
            if re.match(BUILDERS, name, re.IGNORECASE):
                return f"pyproject.toml: build-system: {name}"
    for folder in sorted({str(PurePosixPath(path).parent) for path in repository.git.files(repository.head)}):
        for pattern in ("*.so", "*.pyd", "*.pyx"):
            for path in sorted((repository.root / folder).glob(pattern)):
                return str(path.relative_to(repository.root))
    return ""


# what is written


def _config_text(settings: dict[str, object], program: Program) -> str:
    """config.yaml; the values are JSON, which YAML reads."""
    value = {key: json.dumps(one, ensure_ascii=False) for key, one in settings.items()}
    train = [f"{key.partition('.')[2]}: {value[key]}" for key in value if key.startswith("train.")]
    metric = [f"{key.partition('.')[2]}: {value[key]}" for key in value if key.startswith("metric.")]
    rows = [
        "# Made by `autolab init --from-existing`; change what was guessed wrongly. Limits are in seconds, GB and MB.",
        f"goal: {json.dumps(_goal(settings), ensure_ascii=False)}",
        f"metric: {{{', '.join(metric)}}}",
        *([f"python: {value['python']}"] if settings.get("python") else []),
        f"train: {{{', '.join(train)}, time_limit_s: 3600, output_mb: 50}}",
        *([f"data: {value['data']}"] if "data" in settings else []),
        "run_time_minutes: [0, 60]",
        "researcher: {name: offline}",
        f"executor: {{name: local, options: {value['executor.options']}}}",
        "containment: full",
        "files:",
        f"  frozen: {value['files.frozen']}",
        "  human: [human_journal.md]",
        f"  global: {value['files.global']}",
        f"test: {{rule: sequential, alpha: 0.005, max_pairs: {PAIRS}, confirm_pairs: {PAIRS}}}",
    ]
    return "\n".join(rows) + "\n"


def _goal(settings: dict[str, object]) -> str:
    return f"{'Lower' if settings['metric.direction'] == 'minimize' else 'Raise'} {settings['metric.primary']}"


def _write(repository: Repository, program: Program, config: Config, text: str) -> list[str]:
    """The lab's files, as far as there are none of these names; the configuration last. What is new, shortened."""
    new = {path: (BASE / path).read_text(encoding="utf-8") for path in DOCUMENTS}
    new |= {"program.md": _program_text(program, config), "0_docs/problem.md": _problem_text(program, config)}
    new |= _recipes(repository, program)
    new |= {path: "\t".join(results_table.COLUMNS) + "\n" for path in config.files.global_ if path.endswith(".tsv")}
    new = {path: content for path, content in new.items() if not os.path.lexists(repository.root / path)}
    ignore(repository.root)
    write_schemas(repository.root)
    for prompt in sorted((BASE / ".autolab" / "prompts").iterdir()):
        write_whole(repository.root / ".autolab" / "prompts" / prompt.name, prompt.read_bytes())
    write_whole(repository.root / VerifierPolicy.FILE, _policy_text(program))
    write_whole(repository.root / INTERPRETER, (BASE / INTERPRETER).read_bytes())
    for path, content in new.items():
        write_whole(repository.root / path, content)
    write_whole(repository.root / Config.FILE, text)
    return [".autolab/", *new]


def _smoke(program: Program, python: str) -> str | None:
    """A command that only reads the script, if it is one in Python."""
    if program.script is None or not program.script.endswith(".py"):
        return None
    code = f'import ast; ast.parse(open({json.dumps(program.script)}, "rb").read())'
    return f"{python} -c {shlex.quote(code)}"


def _recipes(repository: Repository, program: Program) -> dict[str, str]:
    """A justfile with `smoke`, where the repository has no recipes of its own and there is something to try."""
    smoke = _smoke(program, "{{quote(python)}}")
    theirs = [path for path in repository.root.iterdir() if path.name.lower() in ("justfile", ".justfile")]
    if smoke is None or theirs:
        return {}
    lines = (BASE / "justfile").read_text(encoding="utf-8").rstrip("\n").split("\n")
    head = "\n".join(line for line in lines[: lines.index("_list:")] if not line.startswith("seed"))
    why = "# only reads the script; better: a flag of the program that takes one step"
    return {"justfile": f"{head}\n_list:\n    @just --list\n\n{why}\nsmoke:\n    {smoke}\n"}


def _policy_text(program: Program) -> str:
    rows = [
        "# What a candidate must pass before review. An exit code decides; {python} is the interpreter of the trials."
    ]
    command = _smoke(program, "{python}")
    if command is not None:
        rows += ["# Only reads the script. Better: a flag of the program that takes one step."]
        rows += [f"dry_run_command: {json.dumps(command)}", "require_dry_run: true"]
    return "\n".join([*rows, "require_env_smoke: true", ""])


def _program_text(program: Program, config: Config) -> str:
    metric, frozen = config.metric, ", ".join(f"`{path}`" for path in config.files.frozen) or "none yet"
    better = "lower" if metric.direction == "minimize" else "higher"
    source = "on its standard output" if config.train.metrics == metrics.STDOUT else f"in `{config.train.metrics}`"
    return f"""# Research program

Project: what `{program.command}` trains in this repository.
Metric: {metric.primary} ({better} is better), as the training says it {source}. No evaluator measures it apart, so
numbers are self-reported. The least difference worth having is {metric.success_delta:g}.

Hypothesis space: model, optimiser, schedule and settings in `{program.script or "the training code"}`.
Out of scope: how the metric is computed, the data, the time a training is given, new packages.

## Files

| class | files | rule |
| --- | --- | --- |
| FROZEN | {frozen} | not without `META_MODE=1` in the newest entry of `human_journal.md` |
| HUMAN | `human_journal.md` | the user's alone |
| GLOBAL | {" ".join(f"`{path}`" for path in config.files.global_)} | written by the engine, in the main checkout |
| REGULAR | everything else | free, in the candidate's worktree |

## Conventions

A change is as small as its hypothesis allows. The seed comes from the environment variable `AUTOLAB_SEED`; the same
seed gives the same result. The line with the metric stays as it is.
"""


def _problem_text(program: Program, config: Config) -> str:
    metric, data = config.metric, f"`{config.data}`" if config.data else "what the program reads; say which"
    return f"""# The problem

{config.goal}.

- Data: {data}. <Where they are from, how they are split.>
- Metric: `{metric.primary}`, as `{program.command}` says it. <What it measures, and why it and no other.>
- Baseline: what `{program.script or program.command}` does as it stands. <How long it takes, how well it does.>
- What is known: <what was tried, what papers claim>
- What would count: `{metric.primary}` {"lower" if metric.direction == "minimize" else "higher"} by \
{metric.success_delta:g} or more, over several seeds.
"""
