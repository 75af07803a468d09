"""Stage design: the claim becomes arms, seeds and a rule, all fixed before the first trial."""

from __future__ import annotations

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import (
    Calibration,
    Compute,
    Design,
    DesignMetrics,
    Entrypoint,
    Finding,
    Hypothesis,
    MaxPairs,
)
from autolab.lab.schemas.outcomes import RequestKind, RunKind
from autolab.lab.schemas.replies import DesignOutput
from autolab.loop.hypothesis import carry_hypothesis, proposed_model
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, output_of, source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.researchers.assembler import blueprint
from autolab.stats.plan import plan_design
from autolab.trials.progress import View
from autolab.verifiers import design_checks

# design


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    carry_hypothesis(iteration)
    claim, config = iteration.hypothesis(), iteration.config
    values = {
        "hypothesis_md": iteration.quote(iteration.paths.hypothesis),
        "config": config.to_yaml(),
        "history": iteration.history(),
        "method": blueprint.told(iteration.read_base),
        "files": source_for_prompt(iteration.lab, config, iteration.base_commit, claim.to_yaml()),
    }
    output = output_of(requests.send(iteration, RequestKind.DESIGN, values), DesignOutput)
    if isinstance(output, StageResult):
        return output
    try:
        spec = _design_of(iteration, claim, output)
        plan_design(spec, config, claim, b"", "", "")
    except RecordError as error:
        return StageResult(StageOutcome.RETRY, str(error))
    unfit = blueprint.unfit(iteration.read_base, spec.model, iteration.slug)
    if unfit:
        return StageResult(StageOutcome.RETRY, f"design: {unfit}")
    findings = _blocking_findings(iteration, spec, claim)
    asked_before = iteration.state.stage_attempt > 1
    if findings and asked_before and all(finding.check == "budget" for finding in findings):
        return StageResult(
            StageOutcome.STOP, f"budget: {findings[0].message}"
        )  # asked for less, the designer found no less
    if findings:
        return StageResult(StageOutcome.RETRY, "; ".join(finding.message for finding in findings))
    iteration.write(iteration.paths.design, spec.to_yaml())
    arms = ", ".join(arm.name for arm in (*spec.baselines, *spec.variants))
    view(f"{spec.id}: {arms} over {_seed_count(spec)} seeds")
    return StageResult(StageOutcome.COMPLETE)


def _design_of(iteration: Iteration, claim: Hypothesis, output: DesignOutput) -> Design:
    test = iteration.config.test
    seeds = MaxPairs(max_pairs=test.max_pairs) if output.seeds is None else output.seeds
    model, changes = _model(claim, output)
    value = {
        "id": iteration.campaign.experiment_id,
        "iteration_id": iteration.iteration_id,
        "hypothesis_id": claim.id,
        "description": output.description,
        "entrypoint": Entrypoint(command=iteration.config.train.command).value(),
        "compute": Compute(location="local").value(),
        "reproducibility": {"seeds": seeds.value() if isinstance(seeds, MaxPairs) else seeds},
        "metrics": DesignMetrics(
            primary=claim.metric,
            secondary=output.secondary or iteration.config.metric.report,
            success_delta=output.success_delta or claim.success_delta,
            direction=claim.direction,
        ).value(),
        "baselines": [arm.value() for arm in output.baselines],
        "variants": [arm.value() for arm in output.variants],
        "model": model,
        "changes": changes,
        "dataset": output.dataset,
        "train": output.train,
        "criteria": [criterion.value() for criterion in output.criteria],
        "test": test.value() | {"bound": _bound(iteration.config, iteration.calibration(), claim.metric)},
        "base_commit": iteration.campaign.base_commit,
    }
    return Design.from_value(value, iteration.relative(iteration.paths.design))


def _bound(config: Config, calibration: Calibration | None, metric: str) -> float | None:
    """The worst score that counts, fixed here, before the run. Another metric than the lab's has none."""
    if metric != config.metric.primary:
        return None
    if config.test.bound is not None or calibration is None or calibration.metric != metric:
        return config.test.bound
    return calibration.bound


def fix_bound(iteration: Iteration) -> None:
    """Write the bound into a design that was made before the lab was calibrated; nothing once a run has begun."""
    spec = iteration.design()
    begun = any(one.event == "run_started" and one.data["kind"] == RunKind.SEARCH for one in iteration.events())
    if begun or spec.test is None or spec.test.bound is not None:
        return
    bound = _bound(iteration.config, iteration.calibration(), spec.metrics.primary)
    if bound is not None:
        test = spec.test.model_copy(update={"bound": bound})
        iteration.write(iteration.paths.design, spec.model_copy(update={"test": test}).to_yaml())


def _model(claim: Hypothesis, output: DesignOutput) -> tuple[dict[str, JsonValue] | None, dict[str, JsonValue]]:
    """The candidate's model, by the hypothesis where the design leaves it out; and the changes that it is known by."""
    model = proposed_model(claim) | (output.model or {})
    changes = output.changes or claim.changes
    if blueprint.MODEL in model and not set(changes) - {blueprint.MODEL}:
        changes = {blueprint.MODEL: model[blueprint.MODEL]}
    return model or None, changes


def _blocking_findings(iteration: Iteration, spec: Design, claim: Hypothesis) -> list[Finding]:
    base, git = iteration.base_commit, iteration.lab.git
    findings = design_checks.design_checks(
        spec,
        claim,
        iteration.config,
        lambda path: git.has_path(base, path) is not None,
        trials_spent=iteration.campaign.trials,
    )
    return [finding for finding in findings if finding.severity == "blocking"]


def _seed_count(spec: Design) -> int:
    seeds = spec.reproducibility.seeds
    return seeds.max_pairs if isinstance(seeds, MaxPairs) else len(seeds)
