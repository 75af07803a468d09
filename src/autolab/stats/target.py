"""A target such as `accuracy>=0.98`: its parts, and whether a result meets it. Pure."""

from __future__ import annotations

import re

from autolab.errors import UsageError
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Results
from autolab.lab.schemas.outcomes import Verdict

_FORM = re.compile(
    r"\s*(?:([^\s<>=](?:[^<>=]*[^\s<>=])?)\s*(>=|<=)\s*)?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", re.ASCII
)  # fmt: skip


def parse(text: str, config: Config) -> tuple[str, str, float]:
    """Metric, `>=` or `<=`, and bound of a target; a bare number means the primary metric in its direction."""
    match = _FORM.fullmatch(text)
    if not match:
        raise UsageError(f"target: {text!r} is not understood; write METRIC>=NUMBER, METRIC<=NUMBER or a number")
    name, sign, bound = match.groups()
    metric = name or config.metric.primary
    measured = (config.metric.primary, *config.metric.report)
    if metric not in measured:
        raise UsageError(f"target: {metric} is not measured in this lab; measured: {', '.join(measured)}")
    if sign is None:
        sign = ">=" if config.metric.direction == "maximize" else "<="
    return metric, sign, float(bound)


def missed(text: str | None, config: Config, results: Results) -> str:
    """Why the target is not met; empty if the kept candidate's mean on fresh seeds meets it."""
    if text is None:
        return "there is no target; give one with --target or in config.yaml"
    metric, sign, bound = parse(text, config)
    verdict = results.assessment.verdict
    if verdict is not Verdict.SUPPORTED:
        return f"the verdict is {verdict or results.status}, the target needs a supported candidate"
    if results.confirmation is None or results.confirmation.outcome != "kept":
        return "the candidate is supported, and not kept"
    mean = results.metrics.get(metric)
    if mean is None:
        return f"{metric} was not measured"
    if (sign == ">=" and mean >= bound) or (sign == "<=" and mean <= bound):
        return ""
    return f"{metric} is {mean:.6g}, the target is {sign} {bound:g}"
