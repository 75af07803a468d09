"""What would be sent to a researcher that reads prompts, without sending it: the messages, and the size of each part.

Of a lab at rest the prompt for a hypothesis is that of the next iteration. Every other prompt is shown by the newest
iteration that came to its stage, as the lab was then, with calibration and prompt files as they are now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autolab.errors import LabError
from autolab.lab import redaction
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Transition
from autolab.lab.schemas.outcomes import Gear, RequestKind, Stage
from autolab.loop import (
    agent_checks,
    batch,
    decision,
    design,
    document,
    hypothesis,
    implementation,
    preflight,
    refused_answer,
    review,
)
from autolab.loop.iteration import Iteration
from autolab.loop.stage_prompt import common_values, requested_form
from autolab.researchers import prompts
from autolab.researchers.base import Batch
from autolab.text import decode
from autolab.trials import champion

CHARACTERS_A_TOKEN = 4
"""About, for English and code; a tokenizer would be one more large package, and another for each model."""

_VALUES: dict[RequestKind, Callable[[Iteration], dict[str, str]]] = {
    RequestKind.HYPOTHESIS: hypothesis.prompt_values,
    RequestKind.DESIGN: design.prompt_values,
    RequestKind.IMPLEMENTATION: implementation.prompt_values,
    RequestKind.IMPLEMENTATION_REVIEW: review.prompt_values,
    RequestKind.UPDATE_DOCS: document.prompt_values,
    RequestKind.DECIDE_REPEAT: decision.prompt_values,
}
_STAGES: dict[RequestKind, Stage] = {kind: Stage(kind.value) for kind in RequestKind}
_OF_BATCHES = (RequestKind.HYPOTHESIS, RequestKind.IMPLEMENTATION, RequestKind.IMPLEMENTATION_REVIEW)
"""What researchers are asked for in batches. All else about a batch or a claim is the engine's own."""


@dataclass(frozen=True)
class PromptPreview:
    """A request's two messages, whose iteration it would belong to, and the parts of both by their characters."""

    iteration_id: str
    system: str
    user: str
    characters: dict[str, int]

    @property
    def tokens(self) -> dict[str, int]:
        """About how many tokens each part takes, the contract among them."""
        return {name: -(-count // CHARACTERS_A_TOKEN) for name, count in self.characters.items()}


def preview(lab: Lab, config: Config, kind: RequestKind, contract: str = "llm") -> PromptPreview:
    """The request of a kind as it would be sent now; `contract`: a key of `prompts.CONTRACTS`.

    Writes nothing but exports of code in the store. LabError: no iteration of the lab has come to that stage yet.
    """
    # A chat model may give the code of an idea with it; an agent writes it in a folder.
    iteration = _iteration_at(lab, config, kind, with_code=contract == "llm")
    values = common_values(iteration) | {"refused_answer": refused_answer.NONE} | _VALUES[kind](iteration)
    path = preflight.prompt_path(lab, prompts.FILES[kind])
    text = decode(path.read_bytes())
    user = redaction.clean(prompts.compose(path.name, text, values))
    contract_text = decode(preflight.prompt_path(lab, (prompts.CONTRACTS[contract],)).read_bytes())
    values_of_agents: dict[str, str] = {}
    if contract == "command":
        values_of_agents = agent_checks.contract_values(iteration, config.researcher.time_limit_s, None)
    system = prompts.contract(contract_text, kind, values_of_agents, requested_form(iteration, kind))
    characters = {"contract": len(system), **prompts.sizes(text, values)}
    return PromptPreview(iteration.iteration_id, system, user, characters)


def _iteration_at(lab: Lab, config: Config, kind: RequestKind, *, with_code: bool) -> Iteration:
    """The newest iteration that was asked for such an answer, as it was then. LabError: none was."""
    if kind is RequestKind.HYPOTHESIS and lab.load()[0].iteration_id is None:
        return _next(lab, config, with_code=with_code)
    stage, newest, number = _STAGES[kind], None, 0
    for line in lab.ledger.lines():
        if line.event != Transition.KIND or line.data["state"]["stage"] != stage:
            continue
        transition = events.read(line, Transition)
        is_open = transition.state.iteration_id is not None
        if is_open and (transition.campaign.gear is Gear.EACH or _is_asked_in(transition, kind)):
            newest, number = transition, line.n
    if newest is not None:
        iteration = Iteration(lab, config, lab.policy(), newest.state, newest.campaign, newest.log, until=number)
        return _idea(iteration, kind, with_code=with_code) if newest.campaign.gear is Gear.SCREEN else iteration
    way = "`autolab prompt hypothesis` shows the next request"
    if config.test.mode == "explore" and kind not in _OF_BATCHES:
        way = "in mode explore the engine does that itself; `test.mode: each` asks a researcher"
    raise LabError(f"prompt: no iteration of this lab was asked for {kind} yet; {way}")


def _is_asked_in(transition: Transition, kind: RequestKind) -> bool:
    return transition.campaign.gear is Gear.SCREEN and kind in _OF_BATCHES


def _idea(iteration: Iteration, kind: RequestKind, *, with_code: bool) -> Iteration:
    """A batch's iteration as its first idea sees it."""
    if kind is not RequestKind.HYPOTHESIS:
        ideas = batch.ideas(iteration)
        if not ideas:
            raise LabError(
                f"prompt: {iteration.iteration_id}: its ideas are gone; `autolab doctor --fix` brings them back"
            )
        return ideas[0]
    exploration, campaign = batch.exploration_of(iteration), iteration.campaign
    carried = 0 if exploration.concluding else min(len(exploration.first), exploration.size)
    wanted = max(1, exploration.size - carried)
    place = Batch(campaign.batches, exploration.size, carried + 1, (), exploration.concluding, wanted, with_code)
    return iteration.of_idea(f"h{campaign.hypotheses + 1}", None, place)


def _next(lab: Lab, config: Config, *, with_code: bool) -> Iteration:
    """The iteration that comes next, as its first request will find it."""
    state, campaign = lab.load()

    def is_engine_owned(path: str) -> bool:
        return preflight.engine_owned(path, config)

    base, home, _ = champion.base(lab, campaign, is_engine_owned)
    exploration = campaign.exploration
    if exploration is not None and exploration.base == base:
        base = exploration.working
    changes = {"base_commit": base, "home_commit": home, "hypothesis_id": f"h{campaign.hypotheses + 1}"}
    state = state.model_copy(update={"iteration_id": "the next iteration", "stage": Stage.HYPOTHESIS, "reason": ""})
    place = None
    if config.test.mode == "explore":
        arms = config.screen.arms
        place = Batch(campaign.batches + 1, arms, 1, (), False, wanted=arms, with_code=with_code)
    campaign = campaign.model_copy(update=changes)
    return Iteration(lab, config, lab.policy(), state, campaign, None, batch=place, until=lab.ledger.head.n)
