"""Documents of the lab itself: configuration, policy, state, campaign, backlog."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from autolab.executed_names import runs_by_itself
from autolab.records.base import Record

Direction = Literal["minimize", "maximize"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Stage(StrEnum):
    """Where an iteration is. Exactly one is active."""

    HYPOTHESIS = "hypothesis"
    DESIGN = "design"
    IMPLEMENTATION = "implementation"
    IMPLEMENTATION_REVIEW = "implementation_review"
    LAUNCH = "launch"
    EXTRACT_RESULTS = "extract_results"
    UPDATE_DOCS = "update_docs"
    DECIDE_REPEAT = "decide_repeat"
    HUMAN_REVIEW = "human_review"
    STOP = "stop"


class Metric(Record):
    """What is optimised: the metric that decides, its direction, the least difference worth having (in its units)."""

    primary: str
    direction: Direction
    success_delta: Positive
    report: tuple[str, ...] = ()


class Command(Record):
    """A program of the lab; `{python}` stands for the trials' interpreter. Limits: seconds, GB, MB, processes.

    Memory (1 GB = 2^30 bytes; shared memory and temporary files count), processes and threads are sums over all that
    it starts. `reads` names files and folders outside of the lab that it needs beside the system and the interpreter:
    at containment `full` nothing else is there.
    """

    command: str
    time_limit_s: Positive = 3600
    memory_gb: Positive = 4
    output_mb: Positive = 10
    disk_mb: Positive = 2000
    processes: Annotated[int, Field(ge=1)] = 512
    reads: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _absolute(self) -> Command:
        for path in self.reads:
            if not path.startswith("/") or path == "/":
                raise ValueError(f"reads: {path!r} is not the absolute path of a file or folder")
        return self


class Train(Command):
    """The training program.

    `metrics` is where it says its numbers: a `.json` file with one flat object, any other file with lines
    `name: value`, or `stdout` with such lines; files lie in AUTOLAB_TRIAL_DIR. `env` names variables of the
    person's environment that it gets. With `in_copy` it runs in a writable copy of the code, thrown away
    afterwards: for a program that writes beside itself. A metrics file that it leaves in the copy is kept.
    `gpus` is how many one training uses: what `budget.gpu_hours` counts.
    """

    metrics: str = "metrics.json"
    env: tuple[str, ...] = ()
    in_copy: bool = False
    gpus: Count = 0

    @model_validator(mode="after")
    def _can_be_given(self) -> Train:
        parts = PurePosixPath(self.metrics).parts
        if not parts or self.metrics.startswith("/") or ".." in parts:
            raise ValueError(f"metrics: {self.metrics!r} is neither stdout nor a path inside AUTOLAB_TRIAL_DIR")
        if runs_by_itself(self.metrics):
            raise ValueError(f"metrics: {self.metrics!r} is a name that programs run by themselves; choose another")
        for name in self.env:
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.A) or name.startswith("AUTOLAB_"):
                raise ValueError(f"env: {name!r} is not the name of a variable that can be passed on")
        return self


class Evaluate(Record):
    """The frozen evaluator and the folders (inputs.npy, labels.npy) of the evaluation and the holdout split.

    `altered_suffix` is for sequences, inputs [n, T]: *predict* runs once more on inputs whose ends were
    exchanged, and a prediction that changes before the exchange looks ahead.
    """

    script: str = "eval.py"
    eval: str = "data/eval"
    holdout: str | None = None
    altered_suffix: bool = False


class Price(Record):
    """What a model costs, in dollars for a million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class Who(Record):
    """Which researcher answers. Options that the named one does not know are refused when it starts.

    For `llm`: `model` is `provider:name`, `stages` names another one for a stage, `fallback` the one that is asked
    where it cannot be had. `base_url` is that of any OpenAI-compatible server. The key is read from the environment
    variable `api_key_env` alone, by default the provider's. `timeout_s` is for one call, `retries` how often one
    that failed is made again, `max_tokens` the longest reply, `settings` what else the service is told (temperature).
    `price` is for a model whose price is not known.

    For a command, `env`, `reads` and `writes` are variables that it gets, files and folders that it sees beside its
    workspace, the system and its own program; `~` is the person's home. It may add up to `disk_mb` and `max_files`
    files and folders; what `writes` names is not counted.
    """

    name: str = "offline"
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    fallback: str | None = None
    stages: dict[Stage, str] = {}
    timeout_s: Positive = 300
    retries: Count = 5
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


class Where(Record):
    """Which executor runs the trials: `local`, or `package.module:Class`, with its own options."""

    name: str = "local"
    options: dict[str, JsonValue] = {}


class Files(Record):
    """Who may change which file: nobody, the person, the engine; what is not named is the researcher's."""

    frozen: tuple[str, ...] = ("eval.py", "program.md", "meta_journal.md")
    human: tuple[str, ...] = ("human_journal.md",)
    global_: tuple[str, ...] = Field(("RESEARCH_JOURNAL.md", "results.tsv", "FINDINGS.md"), alias="global")

    @property
    def table(self) -> str:
        """The table of results: the `.tsv` file among those that the engine writes."""
        return next((path for path in self.global_ if path.endswith(".tsv")), "results.tsv")


class StoppingRule(Record):
    """The stopping rule and its error rates; pairs are (baseline, variant) trials that share a seed.

    `alpha` is the chance that a candidate without a gain is kept, over all variants of a run together. `resolve`
    goes on where a gain has become unlikely, until it is refuted. `deviation` is that of a pair's difference, in the
    metric's units, and `beta` the chance that a gain of success_delta is missed: both are for `sprt` alone. With `fdr`
    the confirmations of the whole campaign keep the expected share of false ones among the kept below it (e-LOND).
    `bound` is the worst score that counts, in the metric's units: a trial beyond it, or one whose metric is no finite
    number, counts as the bound (it is *cut*). null: the score of a constant prediction, or where calibration knows none
    its worst less ten deviations; a design has the number. What is kept has no more cut trials than the baseline, or
    `max_failure_share` of its trials at most.
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

    @model_validator(mode="after")
    def _can_decide(self) -> StoppingRule:
        if self.rule == "sprt" and self.deviation is None:
            raise ValueError("deviation: missing; sprt needs that of a pair's difference, declared by you")
        if self.rule == "sequential" and min(self.max_pairs, self.confirm_pairs) < 3:
            raise ValueError("max_pairs and confirm_pairs: the sequential rule decides from 3 pairs on")
        return self


class Calibrate(Record):
    """How the baseline is calibrated: over how many seeds, and which settings make the altered arm beside it."""

    seeds: Annotated[int, Field(ge=3)] = 5
    altered: dict[str, JsonValue] = {}


class Attempts(Record):
    """How often a stage may be tried, and how often the review may send back, before a person is asked.

    `same_error` of one iteration ask a person too. `same_idea` is how often an idea may be tried on one base. After
    `rethink` iterations without a gain the next idea has to be of another family; 0 is never.
    """

    stage: Annotated[int, Field(ge=1)] = 5
    bounces: Count = 5
    same_error: Annotated[int, Field(ge=1)] = 3
    same_idea: Annotated[int, Field(ge=1)] = 1
    rethink: Count = 3


class Budget(Record):
    """Caps over the life of the lab; null is no cap."""

    iterations: Count | None = 50
    trials: Count | None = None
    wall_hours: Positive | None = None
    gpu_hours: Positive | None = None
    tokens: Count | None = None
    dollars: Positive | None = None


class Docs(Record):
    """Paper files that an iteration updates, and where final figures go."""

    paper_targets: tuple[str, ...] = ("paper/paperbanana.md", "paper/ralph.md")
    figures: str = "paper/figures"


class Config(Record):
    """What a person says once about the lab. Only `metric` has no default."""

    FILE: ClassVar[str] = ".autolab/config.yaml"

    metric: Metric
    goal: str = ""
    target: str | None = None
    python: str | None = None
    train: Train = Train(command="{python} train.py")
    predict: Command | None = None
    evaluate: Evaluate | None = None
    data: str | None = None
    run_time_minutes: tuple[float, float] = (5.0, 40.0)
    researcher: Who = Who()
    reviewer: Who | None = None
    executor: Where = Where()
    containment: Literal["full", "partial", "none"] = "full"
    files: Files = Files()
    test: StoppingRule = StoppingRule()
    calibrate: Calibrate = Calibrate()
    attempts: Attempts = Attempts()
    budget: Budget = Budget()
    docs: Docs = Docs()
    push: Literal["never", "kept", "always"] = "never"
    tracking: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _splits_apart(self) -> Config:
        """Trials read all of `data`: what they are measured on must not lie in it."""
        splits = {"eval": self.evaluate.eval, "holdout": self.evaluate.holdout} if self.evaluate else {}
        for name, path in splits.items():
            if self.data and path and PurePosixPath(path).is_relative_to(PurePosixPath(self.data)):
                lies = f"{path} lies in data ({self.data}), which trainings read"
                raise ValueError(f"evaluate.{name}: {lies}: move it out")
        return self

    @model_validator(mode="after")
    def _evaluator_needs_predictions(self) -> Config:
        if (self.evaluate is None) != (self.predict is None):
            raise ValueError("evaluate and predict go together: give both (sealed evaluation) or none (self-reported)")
        return self


class VerifierPolicy(Record):
    """Which programs judge a candidate before review. An exit code alone decides; `<ITERATION_ID>` is filled in."""

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


class State(Record):
    """Where the lab stands. A copy of the newest transition in the ledger, which alone is the truth."""

    FILE: ClassVar[str] = ".autolab/state.json"

    iteration_id: str | None
    stage: Stage
    stage_attempt: Annotated[int, Field(ge=1)] = 1
    last_run_id: str | None = None
    sync_status: Literal["pending", "ok", "failed", "na"] = "na"
    max_stage_attempts: Annotated[int, Field(ge=1)] = 5
    max_total_iterations: Count | None = 50
    bounces: Count = 0
    max_bounces: Count = 5
    from_stage: Stage | None = None
    reason: str = ""

    @classmethod
    def first(cls, config: Config) -> State:
        """Before the first iteration, with the limits that the configuration names."""
        return cls(
            iteration_id=None,
            stage=Stage.HYPOTHESIS,
            max_stage_attempts=config.attempts.stage,
            max_bounces=config.attempts.bounces,
            max_total_iterations=config.budget.iterations,
        )


class Loop(Record):
    """An `autolab loop` that has begun and not ended: its wishes and how far it is."""

    max_iterations: Annotated[int, Field(ge=1)]
    goal: str
    target: str | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    first_iteration: Count
    since_gain: Count = 0


class Champion(Record):
    """A kept candidate: confirmed on fresh seeds against `parent`, the commit that it branched from."""

    iteration_id: str
    run_id: str
    """The confirmation."""
    commit: str
    parent: str
    epoch: str
    gain: float
    evaluation_only: bool = False
    """Claimed on the evaluation alone: the lab has no holdout."""
    metrics: dict[str, float]
    home_commit: str | None = None
    """The commit of the lab's branch that it was made from: what the person commits later is not in it."""


LINEAGE = 50
"""Champions that the campaign remembers: so far back can a retraction return."""


class Claims(Record):
    """What the confirmations of a campaign have been, and how often the holdout of an epoch was asked.

    `alpha` sums the errors that they were allowed: so many false ones are to be expected among the kept at most.
    """

    confirmations: Count = 0
    kept: Count = 0
    alpha: float = 0.0
    epoch: str = ""
    questions: Count = 0

    @property
    def false_share(self) -> float | None:
        """The estimated share of false ones among the kept, at most; None before one was kept."""
        return min(1.0, self.alpha / self.kept) if self.kept else None


class Campaign(Record):
    """What the engine remembers between iterations; bounded in size, part of every transition in the ledger."""

    iterations: Count = 0
    hypotheses: Count = 0
    trials: Count = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    tokens: Count = 0
    dollars: float = 0.0
    """Of the calls whose price is known; a call that was sent and never answered counts as it was reserved."""
    iteration_offset: Count = 0
    hypothesis_id: str | None = None
    experiment_id: str | None = None
    refinement: Count = 0
    parent: str | None = None
    base_commit: str | None = None
    home_branch: str | None = None
    home_commit: str | None = None
    champions: tuple[Champion, ...] = ()
    """The newest `LINEAGE` kept candidates that stand, oldest first."""
    claims: Claims = Claims()
    suspicious: tuple[str, ...] = ()
    """Iterations whose candidates were set aside and wait for the user, oldest first."""
    approved: tuple[str, ...] = ()
    """Those that the user approved while another iteration was under way: taken when it is over."""
    learned: str | None = None
    """The iteration that the newest `learned` line of the ledger is about."""
    loop: Loop | None = None


class BacklogHypothesis(Record):
    id: str
    status: str
    title: str
    success_metric: str
    target_delta: float


class BacklogExperiment(Record):
    id: str
    hypothesis_id: str
    status: str
    iteration_id: str


class Backlog(Record):
    """Hypotheses and experiments of the lab, newest last; a view that the engine writes."""

    FILE: ClassVar[str] = ".autolab/backlog.yaml"

    hypotheses: tuple[BacklogHypothesis, ...] = ()
    experiments: tuple[BacklogExperiment, ...] = ()
