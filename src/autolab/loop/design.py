"""Stage design: the claim becomes arms, seeds and a rule, all fixed before the first trial."""

from __future__ import annotations

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.experiment import Compute, Design, DesignMetrics, Entrypoint, Finding, Hypothesis, MaxPairs
from autolab.lab.schemas.outcomes import RunKind
from autolab.lab.schemas.replies import DesignOutput
from autolab.loop.hypothesis import carry_hypothesis, proposed_model
from autolab.loop.iteration import Iteration, StageResult, history, in_base, quoted
from autolab.loop.request import answered, ask, source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.researchers.assembler import blueprint
from autolab.stats.plan import plan_design
from autolab.trials import calibration
from autolab.verifiers import design_checks

# design


def run(desk: Iteration) -> StageResult:
    carry_hypothesis(desk)
    claim = desk.hypothesis()
    values = {
        "hypothesis_md": quoted(desk, desk.paths.hypothesis),
        "config": desk.config.to_yaml(),
        "history": history(desk),
        "method": blueprint.told(in_base(desk)),
        "files": source_for_prompt(desk, desk.campaign.base_commit or "HEAD", claim.to_yaml()),
    }
    output = answered(ask(desk, values), DesignOutput)
    if isinstance(output, StageResult):
        return output
    try:
        spec = _design_of(desk, claim, output)
        plan_design(spec, desk.config, claim, b"", "", "")
    except RecordError as error:
        return StageResult(StageOutcome.RETRY, str(error))
    unfit = blueprint.unfit(in_base(desk), spec.model, desk.slug)
    if unfit:
        return StageResult(StageOutcome.RETRY, f"design: {unfit}")
    findings = _design_findings(desk, spec, claim)
    told_before = desk.state.stage_attempt > 1
    if findings and told_before and all(finding.check == "budget" for finding in findings):
        return StageResult(
            StageOutcome.STOP, f"budget: {findings[0].message}"
        )  # asked for less, the designer found no less
    if findings:
        return StageResult(StageOutcome.RETRY, "; ".join(finding.message for finding in findings))
    desk.write(desk.paths.design, spec.to_yaml())
    arms = ", ".join(arm.name for arm in (*spec.baselines, *spec.variants))
    desk.tell(f"{spec.id}: {arms} over {_seed_count(spec)} seeds")
    return StageResult(StageOutcome.COMPLETE)


def _design_of(desk: Iteration, claim: Hypothesis, output: DesignOutput) -> Design:
    test = desk.config.test
    seeds = MaxPairs(max_pairs=test.max_pairs) if output.seeds is None else output.seeds
    model, changes = _model(claim, output)
    value = {
        "id": desk.campaign.experiment_id,
        "iteration_id": desk.iteration_id,
        "hypothesis_id": claim.id,
        "description": output.description,
        "entrypoint": Entrypoint(command=desk.config.train.command).value(),
        "compute": Compute(location="local").value(),
        "reproducibility": {"seeds": seeds.value() if isinstance(seeds, MaxPairs) else seeds},
        "metrics": DesignMetrics(
            primary=claim.metric,
            secondary=output.secondary or desk.config.metric.report,
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
        "test": test.value() | {"bound": _bound(desk, claim.metric)},
        "base_commit": desk.campaign.base_commit,
    }
    return Design.from_value(value, desk.shown(desk.paths.design))


def _bound(desk: Iteration, metric: str) -> float | None:
    """The worst score that counts, fixed here, before the run. Another metric than the lab's has none."""
    config, known = desk.config, calibration.current_calibration(desk.lab)
    if metric != config.metric.primary:
        return None
    if config.test.bound is not None or known is None or known.metric != metric:
        return config.test.bound
    return known.bound


def fix_bound(desk: Iteration) -> None:
    """Write the bound into a design that was made before the lab was calibrated; nothing once a run has begun."""
    spec = desk.design()
    begun = any(one.event == "run_started" and one.data["kind"] == RunKind.SEARCH for one in desk.events())
    if begun or spec.test is None or spec.test.bound is not None:
        return
    bound = _bound(desk, spec.metrics.primary)
    if bound is not None:
        test = spec.test.model_copy(update={"bound": bound})
        desk.write(desk.paths.design, spec.model_copy(update={"test": test}).to_yaml())


def _model(claim: Hypothesis, output: DesignOutput) -> tuple[dict[str, JsonValue] | None, dict[str, JsonValue]]:
    """The candidate's model, by the hypothesis where the design leaves it out; and the changes that it is known by."""
    model = proposed_model(claim) | (output.model or {})
    changes = output.changes or claim.changes
    if blueprint.MODEL in model and not set(changes) - {blueprint.MODEL}:
        changes = {blueprint.MODEL: model[blueprint.MODEL]}
    return model or None, changes


def _design_findings(desk: Iteration, spec: Design, claim: Hypothesis) -> list[Finding]:
    base = desk.campaign.base_commit or "HEAD"
    found = design_checks.design_checks(
        spec,
        claim,
        desk.config,
        lambda path: desk.lab.git.has_path(base, path) is not None,
        trials_spent=desk.campaign.trials,
    )
    return [finding for finding in found if finding.severity == "blocking"]


def _seed_count(spec: Design) -> int:
    seeds = spec.reproducibility.seeds
    return seeds.max_pairs if isinstance(seeds, MaxPairs) else len(seeds)
