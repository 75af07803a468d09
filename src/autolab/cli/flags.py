"""Options of the command line: how each is shown in the help, and those that belong together as one object each.

A command marks a parameter of such a class with `OmitArgPrefixes`: its fields are then options of the command itself,
and the help has a group with the parameter's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, UseAppendAction, arg

from autolab.adoption.detection import AdoptionRequest
from autolab.adoption.evaluator_request import EvaluatorRequest
from autolab.errors import UsageError
from autolab.lab.schemas.config import Direction, Reduce
from autolab.lab.schemas.record import PROSE
from autolab.text import many_lines, one_line

if TYPE_CHECKING:
    from autolab.loop.engine import LoopRequest


def option(metavar: str, *aliases: str, help: str | None = None) -> object:
    """An option whose value the help shows as `metavar`, with its default if there is one."""
    return arg(metavar=metavar, aliases=aliases or None, help=help, help_behavior_hint=_default)


def _default(value: str) -> str:
    # "default: None" tells a user nothing.
    if value in ("None", "''", ""):
        return ""
    return f"(default: {value})"


Switch = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]

LabFolder = Annotated[Path, option("DIR", help="A folder in the lab, if it is not this one.")]
Plain = Annotated[Switch, arg(help="Print plain lines on a terminal too, without the moving picture.")]
Json = Annotated[Switch, arg(help="Print JSON.")]


@dataclass(frozen=True)
class SearchFlags:
    """What the loop searches for, and when it ends.

    Args:
        max_iterations: Number of iterations, such as 3.
        goal: What you want, in one sentence, such as "Lower val_loss".
        target: End when this is reached: "METRIC>=NUMBER", "METRIC<=NUMBER", or a number for the primary metric.
        target_accuracy: Short for --target "accuracy>=NUMBER".
        patience: End after N iterations without a supported gain.
    """

    max_iterations: Annotated[int, option("N", "--max-iter")]
    goal: Annotated[str, option("TEXT")] = ""
    target: Annotated[str | None, option("TARGET")] = None
    target_accuracy: Annotated[float | None, option("NUMBER")] = None
    patience: Annotated[int | None, option("N")] = None

    def request(self) -> LoopRequest:
        """The loop that the options ask for. UsageError names the option that makes no sense."""
        if self.max_iterations < 1:
            raise UsageError(f"--max-iterations: {self.max_iterations} is not a positive number")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"--patience: {self.patience} is not a positive number")
        # A letter of any alphabet.
        if self.goal and not re.search(r"[^\W\d_]", self.goal):
            raise UsageError(f"--goal: {self.goal!r} holds no word; say what you want in one sentence, in any language")
        # Words of a command line need not be UTF-8, and these get into prompts and documents.
        goal = many_lines(self.goal)
        if len(goal) > PROSE:
            raise UsageError(f"--goal: {len(goal):,} characters; say it in {PROSE:,} or fewer")
        target = self.target
        if self.target_accuracy is not None:
            target = f"accuracy>={self.target_accuracy:g}"
        if target is not None:
            target = one_line(target)
        # Here: a command that only shares options with this one must not wait for the loop's imports.
        from autolab.loop.engine import LoopRequest

        return LoopRequest(self.max_iterations, goal, target, self.patience)


@dataclass(frozen=True)
class ResearcherFlags:
    """Who proposes and writes the experiments, in place of the researcher in config.yaml.

    Args:
        researcher: offline, llm, claude, codex, aider, mini, command, scripted, or your own package.module:Class.
        script: YAML file with the answers of the scripted researcher.
        command: Program of the command researcher, with {prompt_file} and {workspace} in it.
        model: Language model, PROVIDER:NAME, such as openai:gpt-5 or ollama:qwen3.
        base_url: Address of an OpenAI-compatible service, in place of the provider's own.
        llm_timeout: Time limit of one call of the model, in seconds.
    """

    researcher: Annotated[str | None, option("NAME")] = None
    script: Annotated[str | None, option("FILE")] = None
    command: Annotated[str | None, option("COMMAND")] = None
    model: Annotated[str | None, option("MODEL", "--llm-model")] = None
    base_url: Annotated[str | None, option("URL", "--llm-base-url")] = None
    llm_timeout: Annotated[float | None, option("SECONDS")] = None


@dataclass(frozen=True)
class TrialFlags:
    """Where and how trials run, in place of the settings in config.yaml.

    Args:
        executor: local, or your own package.module:Class.
        containment: How strictly programs are contained. With none they run with all your rights.
        resolve: Measure on when a gain has become unlikely, until it is refuted.
    """

    executor: Annotated[str | None, option("NAME")] = None
    containment: Annotated[Literal["full", "partial", "none"] | None, option("{full,partial,none}")] = None
    resolve: Switch = False


@dataclass(frozen=True)
class RecordFlags:
    """Without effect: the whole record is always kept. They are here for scripts that pass them.

    Args:
        keep: Keep every file of an iteration.
        llm_raw: Keep every prompt and raw reply.
    """

    keep: Annotated[bool, arg(help_behavior_hint="")] = True
    llm_raw: Annotated[bool, arg(help_behavior_hint="")] = True

    def refuse_less(self) -> None:
        """UsageError for a flag that would keep less."""
        if not self.keep:
            raise UsageError("--no-keep: the record is never thrown away; leave the flag out")
        if not self.llm_raw:
            raise UsageError("--no-llm-raw: every reply is kept as it came; leave the flag out")


@dataclass(frozen=True)
class AdoptionFlags(AdoptionRequest):
    """With --from-existing. Options that you leave out are detected and printed.

    Args:
        train_command: The training, in any language, such as "python train.py"; {seed} in it is each trial's seed.
        metric: The metric that decides, by the name that stands before its number, such as val_loss or "val loss".
        reduce: Which number counts if the training gives several: the last, the smallest or the largest.
        metric_pattern: A regular expression with one group around the number, where it has no name of its own.
        direction: Whether a smaller or a larger value is better.
        delta: The smallest difference worth having, in units of the metric, such as 0.01; else about 1% of its value.
        data: File or folder of data that git does not hold; DATA=AT if the program looks for it at AT. Repeatable.
        python: Python of the trials. A package that has to be compiled must be installed there.
        probe_seconds: Try the training for so long before anything is written (60 if left out); 0 does not try it.
        yes: Ask nothing: take the likely answer to each question, and print which it was.
    """

    train_command: Annotated[str | None, option("COMMAND")] = None
    metric: Annotated[str | None, option("NAME")] = None
    reduce: Annotated[Reduce | None, option("{last,min,max}")] = None
    metric_pattern: Annotated[str | None, option("REGEX")] = None
    direction: Annotated[Direction | None, option("{minimize,maximize}")] = None
    delta: Annotated[float | None, option("NUMBER")] = None
    data: Annotated[UseAppendAction[tuple[str, ...]], option("DATA[=AT]")] = ()
    python: Annotated[Path | None, option("FILE")] = None
    probe_seconds: Annotated[float | None, option("SECONDS")] = None
    yes: Switch = False


@dataclass(frozen=True)
class EvaluatorFlags(EvaluatorRequest):
    """With --evaluator. What you leave out is looked for in the training's sources.

    Args:
        model: The class of the model that is trained, such as my_package.model:Net.
        checkpoint: The file or folder that the training saves the model in, such as out/ckpt.pt.
    """

    model: Annotated[str | None, option("MODULE:CLASS")] = None
    checkpoint: Annotated[str | None, option("FILE")] = None


@dataclass(frozen=True)
class CheckedModelFlags:
    """With --llm: the model to check, in place of those in config.yaml.

    Args:
        researcher: Researcher that uses the model, such as llm.
        model: Language model, PROVIDER:NAME, such as openai:gpt-5 or ollama:qwen3.
        base_url: Address of an OpenAI-compatible service, in place of the provider's own.
    """

    researcher: Annotated[str | None, option("NAME")] = None
    model: Annotated[str | None, option("MODEL", "--llm-model")] = None
    base_url: Annotated[str | None, option("URL", "--llm-base-url")] = None
