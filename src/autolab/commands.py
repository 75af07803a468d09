"""What each command does: read flags, hold the lab, call the engine, say what came of it."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from autolab import adopt as adopting
from autolab import calibration as calibrating
from autolab import doctor as doctoring
from autolab import init as making
from autolab import registry as recorded
from autolab import replay as replaying
from autolab import reproduction as reproducing
from autolab import standin as serving
from autolab.conclusion import write_documents
from autolab.engine import EXIT_CODES, End, Engine, Wish, base_of, ended, in_force, review_suspicious, waiting_for_user
from autolab.engine import review as answer_review
from autolab.errors import LabError, UsageError
from autolab.lab import Lab
from autolab.lessons import recall
from autolab.place import holder
from autolab.preflight import relative
from autolab.records.base import PROSE
from autolab.records.experiment import Lesson, Manifest
from autolab.records.lab import Config, Stage, Who
from autolab.text import many_lines, one_line
from autolab.view import View, choose


def call(name: str, words: list[str]) -> int:
    """Parse `words` for the command `name`, then run it; UsageError where they do not fit."""
    function = _FUNCTIONS[name]

    @functools.wraps(function)
    def bind(*given: Any, **named: Any) -> Callable[[], int]:
        return functools.partial(function, *given, **named)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            bound = tyro.cli(bind, prog=f"autolab {name}", args=words)
    except SystemExit as ended:
        if not ended.code:  # --help
            return 0
        raise UsageError(f"{name}: {_sentence(said.getvalue())}; see `autolab {name} --help`") from None
    return bound()


def _sentence(box: str) -> str:
    """What tyro draws as a box, as one line: without frame, title, help texts and the pointer to them."""
    rows = " ".join(row.strip("│ ") for row in box.splitlines() if row.startswith("│"))
    parts = [" ".join(part.split()) for part in re.split("─{3,}", rows or box)]
    return "; ".join(part for part in parts if not part.startswith(("For full helptext", "Argument helptext")))


def init(
    dir: Positional[Path] = Path("."),
    /,
    *,
    template: str = "digits",
    seed: int | None = None,
    fork: bool = False,
    from_existing: bool = False,
    train_command: str | None = None,
    metric: str | None = None,
    direction: Literal["minimize", "maximize"] | None = None,
    delta: float | None = None,
    data: Path | None = None,
    python: Path | None = None,
) -> int:
    """Make a lab.

    Args:
        dir: A new or empty folder, a clone of a lab, or with --from-existing your repository.
        template: Which lab to copy.
        seed: Derive the lab's secret, and with it every drawn seed, from this number.
        fork: Make a copied lab one of its own: new id, own worktrees.
        from_existing: Make a lab of a repository with a training program. What is not said below is guessed aloud.
        train_command: What trains, such as "python train.py"; in any language.
        metric: What decides: a name that the program prints as `name: value`, or writes into a JSON file.
        direction: Which way is good.
        delta: The least difference worth having, in the metric's units.
        data: Folder of the training data.
        python: The trials' interpreter; for a package that must be compiled, one in whose environment it is installed.
    """
    wish = adopting.Wish(train_command, metric, direction, delta, data, python)
    if not from_existing and wish != adopting.Wish():
        flags = "--train-command, --metric, --direction, --delta, --data and --python"
        raise UsageError(f"init: {flags} go with --from-existing")
    if from_existing and (fork or template != "digits"):
        raise UsageError("init: --from-existing takes the repository as it is: leave --template and --fork out")
    if from_existing:
        lab = adopting.adopt(dir, wish, seed, _say)
    else:
        lab = making.fork(dir) if fork else making.init(dir, template, seed)
    print(f"lab {lab.lab_id} at {lab.root}\nnext: cd {dir} && autolab loop --max-iterations 3")
    return 0


def demo(dir: Positional[Path] = Path("autolab-demo"), /, *, plain: bool = False) -> int:
    """A lab on digits and three iterations of research; prints where the evidence lies. Again: three more.

    Args:
        dir: A new folder, or one that an earlier demo made.
        plain: Lines only, on a terminal too.
    """
    if not (dir / ".git" / "autolab" / "head").exists():
        making.init(dir, "digits", 0)
    code = loop(max_iterations=3, dir=dir, plain=plain)
    if code:
        return code
    print("\n" + recorded.evidence(Lab.find(dir)))
    return 0


def run(dir: Annotated[Path, arg(metavar="DIR")] = Path("."), *, plain: bool = False) -> int:
    """One stage transition.

    Args:
        dir: A folder in the lab.
        plain: Lines only, on a terminal too.
    """
    lab = Lab.find(dir)
    with lab.hold("autolab run"):
        config = relative(lab, lab.config())
        with _watched(lab, config, plain) as (view, stop):
            engine = Engine(lab, config, view, stop)
            before, _ = lab.load()
            if before.stage is Stage.HUMAN_REVIEW:
                view(f"waits for a person: {before.reason}")
                return EXIT_CODES[End.PERSON]
            moved = engine.step()
        state, _ = lab.load()
    print(f"{before.stage} -> {state.stage}" if moved else "parked; `autolab run` goes on from here")
    return EXIT_CODES[ended(state)]


def loop(
    *,
    max_iterations: Annotated[int, arg(aliases=["--max-iter"])],
    goal: str = "",
    target: str | None = None,
    target_accuracy: float | None = None,
    patience: int | None = None,
    researcher: str | None = None,
    script: str | None = None,
    command: str | None = None,
    model: Annotated[str | None, arg(aliases=["--llm-model"])] = None,
    base_url: Annotated[str | None, arg(aliases=["--llm-base-url"])] = None,
    llm_timeout: float | None = None,
    executor: str | None = None,
    containment: Literal["full", "partial", "none"] | None = None,
    resolve: bool = False,
    keep: bool = True,
    llm_raw: bool = True,
    plain: bool = False,
    dir: Path = Path("."),
) -> int:
    """Iterate until the count, the target, the patience or a budget ends it.

    After a crash or a stop the same command finishes what it began and adds nothing.

    Args:
        max_iterations: Iterations of this loop.
        goal: What you want, in one sentence.
        target: METRIC>=NUMBER, METRIC<=NUMBER, or a number for the primary metric.
        target_accuracy: The same as --target "accuracy>=X".
        patience: End after this many iterations without a supported gain.
        researcher: Who thinks: offline, llm, claude, codex, aider, mini, command, scripted, or package.module:Class.
        script: Answers of the scripted researcher, a YAML file.
        command: The command researcher's program, with {prompt_file} and {workspace}.
        model: The language model that thinks, PROVIDER:NAME, such as openai:gpt-5 or ollama:qwen3.
        base_url: Address of an OpenAI-compatible service, in place of the provider's own.
        llm_timeout: Seconds for one call of the model.
        executor: Where trials run: local, or package.module:Class.
        containment: Level for this command, in place of config.yaml's. At none, programs run with your rights.
        resolve: Go on where a gain has become unlikely, until it is refuted.
        keep: Everything is always kept; the flag is there for scripts that pass it.
        llm_raw: Every prompt and raw reply is always kept, too.
        plain: Lines only, on a terminal too.
        dir: A folder in the lab.
    """
    if not keep:
        raise UsageError("--no-keep: the record is never thrown away; leave the flag out")
    if not llm_raw:
        raise UsageError("--no-llm-raw: every reply is kept as it came; leave the flag out")
    wish = _wish(
        max_iterations, goal, target if target_accuracy is None else f"accuracy>={target_accuracy:g}", patience
    )
    lab = Lab.find(dir)
    with lab.hold(f"autolab loop --max-iterations {max_iterations}"):
        config = _thinking(lab.config(), researcher, script, command, model, base_url, llm_timeout)
        config = relative(lab, _override(config, executor, containment, resolve))
        with _watched(lab, config, plain) as (view, stop):
            end = Engine(lab, config, view, stop).loop(wish)
    return EXIT_CODES[end]


def _wish(max_iterations: int, goal: str, target: str | None, patience: int | None) -> Wish:
    """What the flags of a loop ask for; UsageError names the one that asks for nothing."""
    if max_iterations < 1:
        raise UsageError(f"--max-iterations: {max_iterations} is not a positive number")
    if patience is not None and patience < 1:
        raise UsageError(f"--patience: {patience} is not a positive number")
    if goal and not re.search(r"[^\W\d_]", goal):
        raise UsageError(f"--goal: {goal!r} holds no word; say what you want in one sentence, in any language")
    goal = many_lines(goal)  # words of a command line need not be UTF-8
    if len(goal) > PROSE:
        raise UsageError(f"--goal: {len(goal):,} characters; say it in {PROSE:,} or fewer")
    return Wish(max_iterations, goal, None if target is None else one_line(target), patience)


def calibrate(*, dir: Path = Path("."), json: bool = False, plain: bool = False) -> int:
    """Measure the baseline's noise, price and determinism; refuse what the budget cannot resolve.

    Args:
        dir: A folder in the lab.
        json: One JSON object.
        plain: Lines only, on a terminal too.
    """
    lab = Lab.find(dir)
    with lab.hold("autolab calibrate"):
        config = lab.config()
        with _watched(lab, config, plain, _aside if json else None) as (view, stop):
            config = in_force(lab, config, view)
            base, _ = base_of(lab, config, lab.load()[1], view)
            found = calibrating.run(lab, config, base, view, stop)
    if found is None:
        print("parked; `autolab calibrate` goes on from here")
        return 0
    print(_json(found.value()) if json else "\n".join(calibrating.text(found)))
    if found.refused:
        raise LabError(f"calibration refuses: {found.refused}")
    return 0


def verify(*, dir: Path = Path("."), json: bool = False) -> int:
    """Check documents, ledger, frozen files, prompts and the lab's own programs; writes nothing.

    Args:
        dir: A folder in the lab.
        json: One JSON object.
    """
    return _report(doctoring.verify(Lab.find(dir)), json)


def review(
    answer: Positional[Literal["approve", "retry", "stop"] | None] = None,
    /,
    *,
    iteration: str | None = None,
    dir: Path = Path("."),
) -> int:
    """Show what waits for you, or answer it: a lab that waits, or with --iteration a candidate set aside as suspicious.

    Args:
        answer: approve a review whose checks passed, retry the stage, or stop the campaign. With --iteration: approve
            makes that candidate champion, stop rejects it.
        iteration: The iteration whose suspicious candidate is meant; a part of its id is enough where it is unique.
        dir: A folder in the lab.
    """
    lab = Lab.find(dir)
    if answer is None:
        print("\n".join(waiting_for_user(lab, iteration)))
        return 0
    if iteration is not None:
        if answer == "retry":
            raise UsageError("review retry --iteration: a suspicious candidate takes approve or stop")
        with lab.hold(f"autolab review {answer} --iteration {iteration}"):
            review_suspicious(lab, lab.config(), answer, iteration, _say)
        return 0
    with lab.hold(f"autolab review {answer}"):
        answer_review(lab, answer, _say)
    return 0


def stop(*, dir: Path = Path(".")) -> int:
    """Ask the running loop to end after the present trials and to park the lab.

    Args:
        dir: A folder in the lab.
    """
    lab = Lab.find(dir)
    who = holder(lab.store)
    if who is None:
        raise LabError(f"{lab.root}: nothing runs here; the lab is parked already")
    lab.ask_to_stop(who)
    print(f"asked {who} to park after the present trials")
    return 0


def reproduce(
    run: Positional[str],
    /,
    *,
    trial: tuple[str, ...] = (),
    dir: Path = Path("."),
    json: bool = False,
    plain: bool = False,
) -> int:
    """Run a run's trials again, from its manifest alone in fresh exports: identical, within the noise, or different.

    Args:
        run: <iteration>/<run>, the iteration shortened or left out where that is unique.
        trial: Only these trials.
        dir: A folder in the lab.
        json: One JSON object.
        plain: Lines only, on a terminal too.
    """
    lab = Lab.find(dir)
    with lab.hold(f"autolab reproduce {run}"):
        path = reproducing.find(lab, run)
        manifest, config = Manifest.load(path, str(path.relative_to(lab.root))), lab.config()
        with _watched(lab, config, plain, _aside if json else None) as (view, stop):
            config = in_force(lab, config, view)
            found = reproducing.run(lab, config, manifest, trial, view, stop)
    if found is None:
        print("parked; the same command goes on from here")
        return 0
    print(_json(found.value()) if json else "\n".join(reproducing.text(found)))
    return 1 if found.standing == "different" else 0


def replay(
    iteration: Positional[str],
    /,
    *,
    rerun: bool = False,
    into: Path | None = None,
    dir: Path = Path("."),
    json: bool = False,
    plain: bool = False,
) -> int:
    """Go through a finished iteration again from its recorded replies, asking nobody: the same decisions?

    Args:
        iteration: Its id, a unique part of it, or its number.
        rerun: Run its trials again, too; without it finished ones are taken from the lab's store.
        into: Keep the lab that the replay works in, at this new folder.
        dir: A folder in the lab.
        json: One JSON object.
        plain: Lines only, on a terminal too.
    """
    lab = Lab.find(dir)
    config = lab.config()
    with lab.hold(f"autolab replay {iteration}"):
        named = replaying.find(lab, iteration)
        with _watched(lab, config, plain, _aside if json else None) as (view, stop):
            found = replaying.run(lab, config, named, view, stop, rerun=rerun, into=into)
    print(_json(replaying.value(found)) if json else "\n".join(replaying.text(found)))
    return 0 if found.same else 1


def registry(*, dir: Path = Path("."), json: bool = False) -> int:
    """Every finished iteration, oldest first.

    Args:
        dir: A folder in the lab.
        json: A JSON array with prompts' and replies' places, model settings and metrics.
    """
    records = recorded.registry(Lab.find(dir))
    if json:
        print(_json(records))
        return 0
    for record in records:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in record["eval_metrics"].items())
        decision = record["planning_decision"]["action"]
        print(f"{record['iteration_id']}  {record['verdict'] or record['status']:<12}  {metrics}  -> {decision}")
    return 0


def publish(*, dir: Path = Path("."), message: str = "autolab: record of the experiments") -> int:
    """Commit the record on your branch: specs, manifests, aggregates, findings, reports, paper, figures.

    Everything else of yours, staged or not, stays as it is.

    Args:
        dir: A folder in the lab.
        message: The commit's message.
    """
    lab = Lab.find(dir)
    with lab.hold("autolab publish"):
        write_documents(lab, lab.load()[1], _say)
        paths = recorded.publishable(lab)
        sha = lab.git.publish(paths, message)
        if sha is not None:
            lab.ledger.append("published", {"commit": sha, "files": len(paths)})
    print(f"committed {sha[:12]}" if sha else "nothing new to publish")
    return 0


def doctor(
    *,
    dir: Path = Path("."),
    fix: bool = False,
    llm: bool = False,
    researcher: str | None = None,
    model: Annotated[str | None, arg(aliases=["--llm-model"])] = None,
    base_url: Annotated[str | None, arg(aliases=["--llm-base-url"])] = None,
    json: bool = False,
) -> int:
    """What this machine and this lab lack.

    Args:
        dir: A folder in the lab.
        fix: Mend what can be mended: views, state, ledger, worktrees, cleaned files; with copies.
        llm: Ask the models that think here for a sample decision: address, key, model, form. Costs one short call each.
        researcher: With --llm, look at this one, in place of config.yaml's.
        model: With --llm, look at this model.
        base_url: With --llm, its address.
        json: One JSON object.
    """
    if not llm:
        if researcher or model or base_url:
            raise UsageError("doctor: --researcher, --model and --base-url go with --llm")
        return _report(doctoring.examine(dir, fix), json)
    lab = Lab.find(dir)
    config = _thinking(lab.config(), researcher, model=model, base_url=base_url)
    return _report(doctoring.minds(relative(lab, config), lab.control / "prompts"), json)


def standin(script: Positional[Path], /, *, port: int = 0, log: Path | None = None) -> int:
    """Serve scripted replies on loopback as OpenAI and Anthropic would, until Ctrl-C.

    Args:
        script: A YAML file; docs/standin.md has its form.
        port: Where to listen; 0 takes any free port and says which.
        log: A file that gets one JSON line a request.
    """
    if not 0 <= port <= 65_535:
        raise UsageError(f"--port: {port} is not a port")
    serving.serve(script, port, log)
    return 0


_FUNCTIONS: dict[str, Callable[..., int]] = {
    "init": init,
    "demo": demo,
    "run": run,
    "loop": loop,
    "calibrate": calibrate,
    "verify": verify,
    "review": review,
    "stop": stop,
    "reproduce": reproduce,
    "replay": replay,
    "registry": registry,
    "publish": publish,
    "doctor": doctor,
    "standin": standin,
}


def _report(findings: list[Any], as_json: bool) -> int:
    """Print findings; exit 1 if one blocks."""
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    if as_json:
        print(_json({"ok": not blocking, "findings": [finding.value() for finding in findings]}))
    else:
        for finding in findings:
            mark = "FAIL" if finding.severity == "blocking" else "note"
            print(f"{mark}  {finding.check}: {finding.message}")
        print(f"{len(blocking)} problems" if blocking else "all is well")
    return 1 if blocking else 0


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _say(line: str) -> None:
    print(line, flush=True)


def _aside(line: str) -> None:
    """Where standard output is for a document."""
    print(line, file=sys.stderr, flush=True)


def _thinking(
    config: Config,
    researcher: str | None,
    script: str | None = None,
    command: str | None = None,
    model: str | None = None,
    base_url: str | None = None,
    timeout_s: float | None = None,
) -> Config:
    """The configuration with the researcher that this command's flags name."""
    if timeout_s is not None and not 0 < timeout_s < float("inf"):
        raise UsageError(f"--llm-timeout: {timeout_s:g} is not a positive number of seconds")
    given = {"script": script, "command": command, "model": model, "base_url": base_url, "timeout_s": timeout_s}
    update = {key: value for key, value in given.items() if value is not None}
    if not (researcher or update):
        return config
    kinds = {"script": "scripted", "command": "command"}
    meant = next((kind for key, kind in kinds.items() if key in update), "llm")
    known = config.researcher.name
    name = researcher or (known if not {"script", "command"} & set(update) and known not in _PLAIN else meant)
    old = config.researcher if name == known else Who(name=name)
    return config.model_copy(update={"researcher": old.model_copy(update={"name": name} | update)})


_PLAIN = ("offline", "scripted", "command")
"""Researchers that take no model: --model beside them in the configuration means the llm."""


def _override(config: Config, executor: str | None, level: str | None, resolve: bool) -> Config:
    """The configuration with this command's flags in place of its keys."""
    update: dict[str, Any] = {}
    if executor:
        update["executor"] = config.executor.model_copy(update={"name": executor})
    if level:
        update["containment"] = level
    if resolve:
        update["test"] = config.test.model_copy(update={"resolve": True})
    return config.model_copy(update=update)


@contextlib.contextmanager
def _watched(
    lab: Lab, config: Config, plain: bool, say: Callable[[str], None] | None = None
) -> Iterator[tuple[View, Callable[[], bool]]]:
    """Where a person sees what a command does, and whether they asked it to park."""

    def lessons() -> tuple[Lesson, ...]:
        return recall(lab.store, lab.ledger, lab.load()[1].learned)

    view = choose(plain or say is not None, say or _say, config.budget, lessons)
    with _stopping(lab, view) as stop, view:
        yield view, stop


class _stopping:
    """Ctrl-C and SIGTERM ask to park at a safe point; a second one leaves at once. So does `autolab stop`."""

    def __init__(self, lab: Lab, view: View) -> None:
        self._lab, self._view = lab, view
        self._asked = False

    def __enter__(self) -> Callable[[], bool]:
        self._me = holder(self._lab.store)
        self._before = {number: signal.signal(number, self._on) for number in (signal.SIGINT, signal.SIGTERM)}
        return self._stop

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._lab.store.joinpath("stop").unlink(missing_ok=True)

    def _stop(self) -> bool:
        if self._lab.asked_to_stop(self._me):
            self._asked = True
            self._view.park()
        return self._asked

    def _on(self, number: int, _: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._view.park()
