"""A target such as `accuracy>=0.98`: read, and held against what was measured. Pure."""

from __future__ import annotations

import re

from autolab.errors import UsageError
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Results
from autolab.lab.schemas.outcomes import Verdict

_FORM = re.compile(
    r"\s*(?:([A-Za-z_][\w.]*)\s*(>=|<=)\s*)?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", re.ASCII
)  # fmt: skip


def parse(text: str, config: Config) -> tuple[str, str, float]:
    """Metric, `>=` or `<=`, and bound of a target; a bare number means the primary metric in its direction."""
    found = _FORM.fullmatch(text)
    if not found:
        raise UsageError(f"target: {text!r} is not understood; write METRIC>=NUMBER, METRIC<=NUMBER or a number")
    metric = found[1] or config.metric.primary
    known = (config.metric.primary, *config.metric.report)
    if metric not in known:
        raise UsageError(f"target: {metric} is not measured in this lab; measured: {', '.join(known)}")
    sign = found[2] or (">=" if config.metric.direction == "maximize" else "<=")
    return metric, sign, float(found[3])


def missed(text: str | None, config: Config, results: Results) -> str:
    """Why the target does not count as achieved; empty if the kept candidate's mean on fresh seeds meets it."""
    if text is None:
        return "there is no target; give one with --target or in config.yaml"
    metric, sign, bound = parse(text, config)
    verdict = results.assessment.verdict
    if verdict is not Verdict.SUPPORTED:
        return f"the verdict is {verdict or results.status}, the target needs a supported candidate"
    if results.confirmation is None or results.confirmation.outcome != "kept":
        return "the candidate is supported, and not kept"
    found = results.metrics.get(metric)
    if found is None:
        return f"{metric} was not measured"
    met = found >= bound if sign == ">=" else found <= bound
    return "" if met else f"{metric} is {found:.6g}, the target is {sign} {bound:g}"
