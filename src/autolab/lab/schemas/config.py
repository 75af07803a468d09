"""What a user configures: `config.yaml` and `verifier_policy.yaml`. Their defaults are here and nowhere else."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from autolab.errors import RecordError
from autolab.lab import time_limits
from autolab.lab.schemas.data_entry import Data, DataEntry
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.pattern import refuse_pattern
from autolab.lab.schemas.record import Record
from autolab.sandbox.executed_names import runs_by_itself

Direction = Literal["minimize", "maximize"]
Reduce = Literal["last", "min", "max"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
SEED = "{seed}"
"""Stands in a command, and in `train.seed_constants`, for the seed of the trial."""


class Metric(Record):
    """The metric that decides, its direction, and the smallest difference worth having, in the metric's units.

    `success_delta`: null: the calibration takes the smallest difference that a test resolves, from the noise that it
    measured and the budget that is left. The value then holds for the protocol.
    `quantum` is the step in which a training prints it, in its units too: 0.01 of `3.90`. null: all digits are there.
    It does not count for the numbers of an evaluator.
    """

    primary: str
    direction: Direction
    success_delta: Positive | None
    report: tuple[str, ...] = ()
    quantum: Positive | None = None

    @property
    def difference(self) -> float:
        """The smallest difference worth having. RecordError: it comes from a calibration, and there is none yet."""
        if self.success_delta is None:
            raise RecordError(
                f"{Config.FILE}: metric.success_delta: null is taken from the calibration: run `autolab calibrate`"
                " first (`autolab loop` does it by itself)"
            )
        return self.success_delta


class TimeLimit(Record):
    """How long one training may take, and where that is from.

    `config`: `train.time_limit_s`. `calibration`: a multiple of the slowest trial of the baseline. `warm_up`: the same
    multiple of a comparison's first training. `default`: that of a calibration, and before one.
    """

    seconds: Positive
    source: Literal["config", "calibration", "warm_up", "default"]


class CommandLine(Record):
    """A program of the lab, and all its limits but that of time."""

    command: str
    memory_gb: Positive = 4
    output_mb: Positive = 10
    disk_mb: Positive = 2000
    processes: Annotated[int, Field(ge=1)] = 512
    reads: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _absolute(self) -> CommandLine:
        # The root would show the whole machine, and with it the holdout.
        for path in self.reads:
            if not path.startswith("/") or path == "/":
                raise ValueError(f"reads: {path!r} is not the absolute path of a file or folder")
        return self


class Command(CommandLine):
    """A program of the lab and its limits. `{python}` in `command` stands for the trials' interpreter.

    `{seed}` in a word of `command` (`--seed={seed}`) stands for the trial's seed, an integer in [0, 2^31). A prediction
    gets 0: it depends on the code, the model and the inputs alone.

    The limits of memory (1 GB = 2^30 bytes; shared memory and temporary files count), of processes and of threads hold
    for the sum over all processes that it starts. `reads` names files and folders outside of the lab that it needs
    besides the system and the interpreter. At containment `full` it sees no others.
    """

    time_limit_s: Positive = 3600


class Train(CommandLine):
    """The training program.

    `time_limit_s`: null: ten times the slowest trial of the calibration, at least 60 s; before any calibration 3600 s.

    `metrics` is where it reports its numbers: `stdout`, `stderr`, or a file in AUTOLAB_TRIAL_DIR. A `.json` file is
    flat or nested (`eval.loss`), a `.jsonl` file has an object on each line, a `.csv` file has a header, a name that
    begins with `events.out.tfevents` is a TensorBoard file; any other is text. A `*` in its path stands for what
    changes from run to run: exactly one file has to match. In text a number has its name before it: `val_loss: 0.3`,
    `val_loss=0.3`, `step 250: train loss 1.9, val loss 2.0`. `98%` is 98. Of several numbers of the primary metric,
    `reduce` takes the last, the smallest or the largest.
    Where none has a name, `pattern` finds it in text: a regular expression with one group, for the first 500 characters
    of each line. `env` names variables of the user's environment that it gets. With `in_copy` it runs in a writable
    copy of the code, which is deleted afterwards: for a program that writes beside itself. A metrics file that it
    leaves in the copy is kept. `gpus` is the number of GPUs that one training uses, for `budget.gpu_hours`.

    `seed_constants` is for a program that holds its seed as a constant: a list of `FILE: TEXT`, such as
    `train.py: SEED = {seed}`. In the trial's copy of FILE, each line that reads TEXT with an integer for `{seed}` gets
    the trial's seed. It needs `in_copy`. A trial whose code has no such line fails. `seed_libraries` is for a Python
    program without any seed: random, numpy and torch are seeded when it imports them. `repository` is for a program
    that asks git: its code is a work tree of a read-only repository that holds nothing but what the trial sees.
    """

    time_limit_s: Positive | None = None
    metrics: str = "metrics.json"
    reduce: Reduce = "last"
    pattern: str | None = None
    env: tuple[str, ...] = ()
    in_copy: bool = False
    gpus: Count = 0
    seed_constants: tuple[str, ...] = ()
    seed_libraries: bool = False
    settings: Literal["file", "flags"] = "file"
    repository: bool = False

    def time_limit(self, slowest_s: float | None = None) -> TimeLimit:
        """The limit of one training. `slowest_s`: seconds of the baseline's slowest trial in the calibration."""
        if self.time_limit_s is not None:
            return TimeLimit(seconds=self.time_limit_s, source="config")
        if slowest_s is None:
            return TimeLimit(seconds=time_limits.UNCALIBRATED_S, source="default")
        return TimeLimit(seconds=time_limits.after_calibration(slowest_s), source="calibration")

    @property
    def choice(self) -> list[str]:
        """How the number of the primary metric is chosen, for hashes; empty for the last one that has its name."""
        # A default adds nothing, so that hashes made before these settings existed stay the same.
        parts = []
        if self.reduce != "last":
            parts.append(f"reduce {self.reduce}")
        if self.pattern is not None:
            parts.append(f"pattern {self.pattern}")
        return parts

    @model_validator(mode="after")
    def _can_be_given(self) -> Train:
        parts = PurePosixPath(self.metrics).parts
        if not parts or self.metrics.startswith("/") or ".." in parts:
            raise ValueError(f"metrics: {self.metrics!r} is neither stdout, stderr nor a path inside AUTOLAB_TRIAL_DIR")
        if any("**" in part for part in parts):
            raise ValueError(f"metrics: {self.metrics!r}: write one * in each folder's name that changes")
        # The file is copied into the record, where a later program would find it: a conftest.py, a sitecustomize.py.
        if runs_by_itself(self.metrics):
            raise ValueError(f"metrics: {self.metrics!r} is a name that programs run by themselves; choose another")
        if self.pattern is not None:
            is_event_file = parts[-1].startswith("events.out.tfevents")
            if is_event_file or self.metrics.endswith((".json", ".jsonl", ".csv", ".tsv")):
                raise ValueError(
                    f"pattern: {self.metrics} is no text; name the metric as the file does, or read stdout"
                )
            refuse_pattern(self.pattern)
        # AUTOLAB_SEED and the like are the engine's own way to speak to a trial.
        for name in self.env:
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.A) or name.startswith("AUTOLAB_"):
                raise ValueError(f"env: {name!r} is not the name of a variable that can be passed on")
        return self

    @model_validator(mode="after")
    def _seeds_have_a_place(self) -> Train:
        for entry in self.seed_constants:
            if not is_seed_constant(entry):
                raise ValueError(f"seed_constants: {entry!r} is not like 'train.py: SEED = {SEED}'")
        if self.seed_constants and not self.in_copy:
            raise ValueError("seed_constants: the seed is written to a copy of the code: set in_copy: true too")
        return self


def is_seed_constant(entry: str) -> bool:
    """Whether `entry` is `FILE: TEXT`: a path in the repository, and a part of a line with one `{seed}` in it."""
    file, _, text = entry.partition(": ")
    is_path = bool(file) and not file.startswith("/") and ".." not in PurePosixPath(file).parts
    # Without a text in front every number would be a seed.
    has_one_place = text.count(SEED) == 1 and not text.startswith(SEED)
    return is_path and has_one_place and text == text.strip() and text.replace("\t", " ").isprintable()


class Predict(Command):
    """The program that predicts with a trained model, on inputs without labels, and its limits.

    It finds the model in the folder AUTOLAB_MODEL: what the training left in AUTOLAB_TRIAL_DIR/model. `model` is for a
    training that saves it elsewhere: the file or folder, such as `out/ckpt.pt`, relative to where the training runs. It
    is moved to AUTOLAB_MODEL under its own last name (`ckpt.pt`). It needs `train.in_copy`. A training that does not
    leave it has failed.
    """

    model: str | None = None

    @model_validator(mode="after")
    def _is_in_copy(self) -> Predict:
        if self.model is None:
            return self
        parts = PurePosixPath(self.model).parts
        if not parts or self.model.startswith(("/", "-")) or ".." in parts:
            raise ValueError(f"model: {self.model!r} is no path in the folder that the training runs in")
        return self


class Evaluate(Record):
    """The frozen evaluator and the folders (inputs.npy, labels.npy) of the evaluation and the holdout split.

    `altered_suffix` is for sequences, inputs of shape [n, T]: *predict* runs a second time on inputs whose ends were
    exchanged. A prediction that changes before the exchanged part has looked ahead.
    """

    script: str = "eval.py"
    eval: str = "data/eval"
    holdout: str | None = None
    altered_suffix: bool = False


class Price(Record):
    """What a model costs, in dollars per million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class ResearcherConfig(Record):
    """Which researcher answers. An option that the researcher does not know is refused when it starts.

    For `llm`: `model` is `provider:name`; `stages` names another model for a stage, and `fallback` the model to use
    if the first is not available. `base_url` is the address of an OpenAI-compatible server. The key is read only from
    the environment variable `api_key_env`, by default the provider's. `timeout_s` limits one call, `retries` is how
    often a call that failed is made again though the service answers. A service that does not answer is waited for
    during `outage_hours`, then a user is asked; 0: it is not waited for. `max_tokens` limits a reply, and `settings`
    are further parameters of the service (temperature). `price` is for a model whose price Autolab does not know.

    For a command: `env` names the variables that it gets; `reads` and `writes` name the files and folders that it sees
    besides its workspace, the system and its own program; `~` is the user's home. It may add at most `disk_mb` and
    `max_files` files and folders, not counting those in `writes`.
    """

    name: str = "offline"
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    fallback: str | None = None
    stages: dict[Stage, str] = {}
    timeout_s: Positive = 300
    retries: Count = 5
    outage_hours: Annotated[float, Field(ge=0, le=8760)] = 12.0
    max_tokens: Annotated[int, Field(ge=1)] = 16_000
    settings: dict[str, JsonValue] = {}
    price: Price | None = None
    script: str | None = None
    command: str | None = None
    env: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    catalogue: str | None = None
    policy: Literal["bandit", "random"] = "bandit"
    time_limit_s: Positive = 1800
    disk_mb: Positive = 2000
    max_files: Annotated[int, Field(ge=1)] = 20_000


class ExecutorConfig(Record):
    """Which executor runs the trials: `local`, or `package.module:Class`; `options` are the executor's own."""

    name: str = "local"
    options: dict[str, JsonValue] = {}


class Files(Record):
    """Who may change which file: `frozen` nobody, `human` the user, `global` the engine, all others the researcher."""

    frozen: tuple[str, ...] = ("eval.py", "program.md", "meta_journal.md")
    human: tuple[str, ...] = ("human_journal.md",)
    global_: tuple[str, ...] = Field(("RESEARCH_JOURNAL.md", "results.tsv", "FINDINGS.md"), alias="global")

    @property
    def table(self) -> str:
        """The table of results: the `.tsv` file among those that the engine writes."""
        return next((path for path in self.global_ if path.endswith(".tsv")), "results.tsv")


class StoppingRule(Record):
    """The stopping rule and its error rates. A pair is a baseline trial and a variant trial that share a seed.

    `alpha` is the probability that a candidate without a gain is kept, over all variants of a run together. `resolve`:
    a run whose gain has become unlikely continues until it is refuted. `deviation` (the standard deviation of a pair's
    difference, in the metric's units) and `beta` (the probability that a gain of success_delta is missed) are only for
    `sprt`. With `fdr`, the expected share of false ones among the campaign's kept candidates stays below it (e-LOND).
    `bound` is the worst score that counts, in the metric's units. A trial with a worse score, or whose metric is not
    finite, counts with the bound: it is *cut*. null: the score of a constant prediction; if calibration has none, its
    worst score less ten standard deviations. The design states the number. A candidate is kept only if it has no more
    cut trials than the baseline, or with `max_failure_share` if at most that share of its trials is cut.
    `harm`, only for `sequential`: a variant that seems worse by half of success_delta or more goes on, up to twelve
    pairs, until it is shown to be worse. `require: not_worse` asks whether the variant is not worse by success_delta or
    more, in place of whether it is better.
    """

    rule: Literal["sequential", "fixed", "sprt"] = "sequential"
    alpha: Annotated[float, Field(ge=1e-9, lt=0.5)] = 0.005
    beta: Annotated[float, Field(ge=1e-9, lt=0.5)] = 0.25
    deviation: Annotated[float, Field(gt=1e-100, lt=1e100)] | None = None
    max_pairs: Annotated[int, Field(ge=2)] = 24
    confirm_pairs: Annotated[int, Field(ge=2)] = 24
    holdout_questions: Count = 20
    resolve: bool = False
    fdr: Annotated[float, Field(ge=1e-6, lt=1)] | None = None
    bound: Annotated[float, Field(gt=-1e100, lt=1e100)] | None = None
    max_failure_share: Annotated[float, Field(ge=0, le=1)] | None = None
    harm: bool = False
    require: Literal["better", "not_worse"] = "better"

    @model_validator(mode="after")
    def _can_decide(self) -> StoppingRule:
        if self.rule == "sprt" and self.deviation is None:
            raise ValueError("deviation: missing; sprt needs that of a pair's difference, declared by you")
        # It estimates the deviation from the differences: `stats.rules.FIRST` is the least number for that.
        if self.rule == "sequential" and min(self.max_pairs, self.confirm_pairs) < 3:
            raise ValueError("max_pairs and confirm_pairs: the sequential rule decides from 3 pairs on")
        if self.rule != "sequential" and (self.harm or self.require != "better"):
            raise ValueError("harm and require: only the sequential rule shows that a variant is worse, or is not")
        return self


class Testing(StoppingRule):
    """How ideas are tested, and the stopping rule of every test.

    `explore`: batches of ideas are screened without a claim, and now and then the sum of the steps that looked
    promising is claimed, by the rule, on fresh seeds. `each`: every idea is tested to its end. Designs that name their
    seeds, refinements and proposals always are.
    """

    mode: Literal["explore", "each"] = "explore"

    @property
    def stopping_rule(self) -> StoppingRule:
        """The rule alone, as a design or a manifest states it."""
        value = self.value()
        del value["mode"]
        return StoppingRule.from_value(value, "test")


class Screen(Record):
    """How ideas are screened in mode `explore`, and what is set aside for the claim.

    A batch is `arms` ideas, each measured at one seed; with `seeds` above 1 the better half gets the next seed, and so
    on. An idea is built upon if its gain exceeds `margin` standard deviations of a pair's difference. `reserve` is the
    largest share of the budget that is set aside for the claim. `searcher`: `surface` learns a model of all that was
    screened, `bandit` draws families of mechanisms, `tpe` is Optuna's sampler (extra `search`); `auto` is `surface`
    where the researcher knows its ideas beforehand. A claim comes at the loop's end and when a target seems reached;
    with `claim_every` also after so many batches, with `claim_on_gain` once the predicted gain exceeds success_delta by
    a standard error. `stop_early` lets a lab's own learning curves end trials that are behind, in screens alone, and
    of ideas that name their `changes`, as those of the built-in researcher do: those of a model or an agent name none.
    """

    arms: Annotated[int, Field(ge=1, le=64)] = 4
    seeds: Annotated[int, Field(ge=1, le=64)] = 1
    margin: Annotated[float, Field(ge=0)] = 0.0
    searcher: Literal["auto", "surface", "bandit", "tpe"] = "auto"
    reserve: Annotated[float, Field(gt=0, lt=1)] = 0.3
    claim_every: Annotated[int, Field(ge=1)] | None = None
    claim_on_gain: bool = False
    stop_early: bool = False


class Calibrate(Record):
    """How the baseline is calibrated: over how many seeds, and with which settings for the altered arm beside it."""

    seeds: Annotated[int, Field(ge=3)] = 5
    altered: dict[str, JsonValue] = {}


class Attempts(Record):
    """How often a stage may be tried, and how often the review may send a candidate back, before the user is asked.

    The user is also asked after `same_error` equal errors in one iteration. `same_idea` is how often an idea may be
    tried on one base. After `rethink` iterations without a gain the next idea must be of another family; 0: never.
    """

    stage: Annotated[int, Field(ge=1)] = 5
    bounces: Count = 5
    same_error: Annotated[int, Field(ge=1)] = 3
    same_idea: Annotated[int, Field(ge=1)] = 1
    rethink: Count = 3


class Budget(Record):
    """Caps over the life of the lab; null: no cap."""

    iterations: Count | None = 50
    trials: Count | None = None
    wall_hours: Positive | None = None
    gpu_hours: Positive | None = None
    tokens: Count | None = None
    dollars: Positive | None = None


class Docs(Record):
    """The paper files that an iteration updates, and the folder of the final figures."""

    paper_targets: tuple[str, ...] = ("paper/paperbanana.md", "paper/ralph.md")
    figures: str = "paper/figures"


class Config(Record):
    """The configuration of a lab. Only `metric` has no default.

    `data` is the training's data that trials read: a path, or a list of paths and [entries](#dataentry). The first one
    is AUTOLAB_DATA.
    """

    FILE: ClassVar[str] = ".autolab/config.yaml"

    metric: Metric
    goal: str = ""
    target: str | None = None
    python: str | None = None
    train: Train = Train(command="{python} train.py")
    predict: Predict | None = None
    evaluate: Evaluate | None = None
    data: Data | None = None
    run_time_minutes: tuple[float, float] = (5.0, 40.0)
    researcher: ResearcherConfig = ResearcherConfig()
    reviewer: ResearcherConfig | None = None
    executor: ExecutorConfig = ExecutorConfig()
    containment: Literal["full", "partial", "none"] = "full"
    files: Files = Files()
    test: Testing = Testing()
    screen: Screen = Screen()
    calibrate: Calibrate = Calibrate()
    attempts: Attempts = Attempts()
    budget: Budget = Budget()
    docs: Docs = Docs()
    push: Literal["never", "kept", "always"] = "never"
    tracking: tuple[str, ...] = ()

    @property
    def quantum(self) -> float | None:
        """The step of the numbers that decide; None if they have all their digits."""
        return self.metric.quantum if self.evaluate is None else None

    @property
    def data_entries(self) -> tuple[DataEntry, ...]:
        """The training's data, the first of which is AUTOLAB_DATA; empty if there is none."""
        entries = self.data if isinstance(self.data, tuple) else (self.data,)
        return tuple(DataEntry(path=entry) if isinstance(entry, str) else entry for entry in entries if entry)

    @property
    def data_in_repository(self) -> tuple[str, ...]:
        """The paths of the data that lie in the repository, relative to its root."""
        return tuple(entry.path for entry in self.data_entries if not entry.lies_outside)

    @model_validator(mode="after")
    def _keeps_gains(self) -> Config:
        # A change that is merely not worse would be kept as a gain.
        if self.test.require != "better":
            raise ValueError(
                f"test: require: {self.test.require} is a question of `autolab compare`;"
                " a lab keeps gains: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _splits_apart(self) -> Config:
        if self.evaluate is None:
            return self
        # Trainings read all of `data`: the labels that they are measured on must not lie in it.
        for name, path in (("eval", self.evaluate.eval), ("holdout", self.evaluate.holdout)):
            for folder in self.data_in_repository:
                if path and PurePosixPath(path).is_relative_to(PurePosixPath(folder)):
                    lies = f"{path} lies in data ({folder}), which trainings read"
                    raise ValueError(f"evaluate.{name}: {lies}: move it out")
        return self

    @model_validator(mode="after")
    def _data_has_places(self) -> Config:
        entries = self.data_entries
        places = [entry.place for entry in entries]
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"data: two entries are seen at {place}; give one of them another `at`")
        if self.train.in_copy:
            return self
        # One folder alone needs no link: a program finds it by AUTOLAB_DATA.
        for entry in entries[1:] if entries and entries[0].is_plain else entries:
            if entry.is_relative:
                way_out = "set train.in_copy: true, for a copy of the code in which it can be linked"
                raise ValueError(f"data: {entry.place}: the code of trials is read-only; {way_out}")
        return self

    @model_validator(mode="after")
    def _evaluator_needs_predictions(self) -> Config:
        # One without the other would look sealed and measure nothing.
        if (self.evaluate is None) != (self.predict is None):
            raise ValueError("evaluate and predict go together: give both (sealed evaluation) or none (self-reported)")
        if self.predict is not None and self.predict.model is not None and not self.train.in_copy:
            raise ValueError("predict.model: it is taken from the training's copy of the code: set train.in_copy: true")
        return self


class VerifierPolicy(Record):
    """The programs that check a candidate before review. Exit code 0 passes.

    `{python}`, `<ITERATION_ID>` and `{seed}`, here 0, are filled in.
    """

    FILE: ClassVar[str] = ".autolab/verifier_policy.yaml"

    test_command: str | None = None
    dry_run_command: str | None = None
    smoke_command: str | None = None
    summary_command: str | None = None
    require_tests: bool = False
    require_dry_run: bool = False
    require_env_smoke: bool = True
    require_docs_target_update: bool = False
    time_limit_s: Positive = 120
    python_versions: str | None = None
