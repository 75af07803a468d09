"""The prompt of a request: which file of the lab it reads, what it quotes, how it is to be answered.

What a stage quotes of its own documents is said in its own module (`prompt_values`); here is what all stages share.
"""

from __future__ import annotations

from pathlib import Path

from autolab import files
from autolab.lab import redaction
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import (
    OUTPUTS,
    CodedIdea,
    CodedIdeasOutput,
    HypothesisOutput,
    IdeasOutput,
    Output,
)
from autolab.loop import agent_checks, briefing, edits, preflight
from autolab.loop.iteration import Iteration
from autolab.researchers import excerpts, prompts
from autolab.researchers.base import Researcher, WorkChecks
from autolab.text import decode, many_lines
from autolab.trials import inputs

CHANGED_CHARACTERS = 20_000
"""Characters of the changed files that a reviewer is shown beside the diff."""


def prompt_file(lab: Lab, kind: RequestKind) -> Path:
    return preflight.prompt_path(lab, prompts.FILES[kind])


def prompt_of(iteration: Iteration, kind: RequestKind, values: dict[str, str]) -> str:
    path = prompt_file(iteration.lab, kind)
    prompt = prompts.compose(path.name, decode(path.read_bytes()), common_values(iteration) | values)
    # A prompt quotes files of the user, and leaves this machine.
    return redaction.clean(prompt)


def common_values(iteration: Iteration) -> dict[str, str]:
    """What the prompts of all stages may quote."""
    state, metric = iteration.state, iteration.config.metric
    return {
        "iteration_id": iteration.iteration_id,
        "goal": iteration.goal,
        "state_json": state.to_json(),
        "metric": f"{metric.primary} ({metric.direction})",
        "trouble": state.reason,
        "program": _program(iteration),
        "calibration": briefing.measurement(iteration),
        "best_so_far": briefing.standing(iteration),
        "remaining": briefing.remaining(iteration),
    }


def _program(iteration: Iteration) -> str:
    """The research program, as the base commit has it."""
    text = iteration.read_base("program.md")
    if text is None:
        return "there is no program.md"
    return many_lines(text)


def contract_of(iteration: Iteration, researcher: Researcher, kind: RequestKind, checks: WorkChecks | None) -> str:
    """How a researcher that reads its prompt is to answer; empty for the others."""
    name = prompts.CONTRACTS.get(researcher.contract or "")
    if name is None:
        return ""
    text = decode(preflight.prompt_path(iteration.lab, (name,)).read_bytes())
    values: dict[str, str] = {}
    if name == prompts.CONTRACTS["command"]:
        limit_s = configuration_for(kind, iteration.config).time_limit_s
        values = agent_checks.contract_values(iteration, limit_s, checks)
    return prompts.contract(text, kind, values, requested_form(iteration, kind))


def requested_form(iteration: Iteration, kind: RequestKind) -> type[Output]:
    """The form of the answer to a request."""
    batch = iteration.batch
    if kind is not RequestKind.HYPOTHESIS or batch is None:
        return OUTPUTS[kind]
    if batch.wanted == 1:
        return CodedIdea if batch.with_code else HypothesisOutput
    return CodedIdeasOutput if batch.with_code else IdeasOutput


def configuration_for(kind: RequestKind, config: Config) -> ResearcherConfig:
    """The configuration of the researcher that gets such a request. A replay loads the researcher from it."""
    if kind is RequestKind.IMPLEMENTATION_REVIEW and config.reviewer is not None:
        return config.reviewer
    return config.researcher


# Source


def source_for_prompt(lab: Lab, config: Config, commit: str, topics: str) -> str:
    """The lab's source at `commit`, for a prompt. Files that the text `topics` names are quoted first."""
    folder = _exported(lab, config, commit)
    return excerpts.quotation(folder, config, topics, unlocked=edits.unlocked(lab.root, config))


def changed_source(lab: Lab, config: Config, base: str, commit: str) -> str:
    """The files that `commit` has changed or added since `base`, whole, for a prompt."""
    folder = _exported(lab, config, commit)
    paths = []
    for path in lab.git.changed_paths(base, commit):
        # A deleted one is in the diff alone, and of a long one the diff is enough.
        if (folder / path).is_file() and (folder / path).stat().st_size <= excerpts.LONGEST:
            paths.append(path)
    return excerpts.whole_files(folder, paths, CHANGED_CHARACTERS)


def _exported(lab: Lab, config: Config, commit: str) -> Path:
    """The files of a commit as trials see them: an author sees no label that a trial may not see."""
    hidden = inputs.hidden_from_trials(config)
    hidden_sha256 = files.sha256_of("\n".join(hidden))
    folder = lab.store / "exports" / f"code-{lab.git.tree(commit)}-{hidden_sha256[:8]}"
    lab.git.export(commit, folder, None, hidden)
    return folder
