"""Suspicious candidates: they are set aside and wait for the user, and the loop goes on without them.

    autolab review                                 what waits, why, and what can be done
    autolab review approve --iteration ID          it becomes champion, if what it was tested against still stands
    autolab review stop --iteration ID             it is rejected

Each is one `set_aside` line of the ledger, with the champion that it would be; the campaign names those that wait. An
approval during an iteration is kept until that iteration is over, so that no champion changes under it.
"""

from __future__ import annotations

from autolab.errors import LabError
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.events import SetAside
from autolab.loop.iteration import Iteration
from autolab.trials import champion


def set_aside(iteration: Iteration, suspect: SetAside) -> None:
    """Record a suspicious candidate, once an iteration."""
    # A decision that is taken again after a crash finds the line of the first time.
    if not iteration.recorded(SetAside):
        events.append(iteration.lab.ledger, suspect)


def waiting(lab: Lab, campaign: Campaign) -> list[SetAside]:
    """The candidates that wait for the user, oldest first."""
    iterations = {*campaign.suspicious, *campaign.approved}
    # Mostly nothing waits, and a walk through the whole ledger takes long.
    if not iterations:
        return []
    suspects = events.events_of(lab.ledger.lines(), SetAside)
    return [suspect for suspect in suspects if suspect.candidate.iteration_id in iterations]


def find(lab: Lab, campaign: Campaign, name: str) -> SetAside:
    """The waiting candidate of the iteration `name`: its id, or a part of it that no other has.

    LabError: no waiting candidate, or several, have such an id.
    """
    suspects = {suspect.candidate.iteration_id: suspect for suspect in waiting(lab, campaign)}
    if name in suspects:
        return suspects[name]
    matches = []
    # An empty name is part of every id, and means none.
    if name:
        matches = [suspects[iteration_id] for iteration_id in suspects if name in iteration_id]
    if len(matches) == 1:
        return matches[0]
    problem = "names several" if matches else "is not set aside"
    ids = ", ".join(suspects) or "nothing"
    raise LabError(f"review --iteration {name}: {problem}; waiting: {ids}")


def text(lab: Lab, campaign: Campaign) -> list[str]:
    """Lines for the user about each waiting candidate: the reasons, and the commands to look at, take or reject it."""
    rows = []
    for suspect in waiting(lab, campaign):
        candidate = suspect.candidate
        iteration_id = candidate.iteration_id
        note = ""
        if iteration_id in campaign.approved:
            note = " (approved; it becomes champion when the iteration under way is over)"
        gain = f"gain {candidate.gain:+.4g} on fresh seeds, shrunken"
        rows.append(f"{iteration_id}  {suspect.title}: suspicious, {gain}{note}")
        rows += [f"    {reason}" for reason in suspect.reasons]
        rows.append(f"    look at it: git diff {candidate.parent[:12]} {candidate.commit[:12]}")
        rows.append(f"    take it:    autolab review approve --iteration {iteration_id}")
        rows.append(f"    reject it:  autolab review stop --iteration {iteration_id}")
    return rows


def reject(lab: Lab, campaign: Campaign, iteration_id: str) -> None:
    """The user rejects the candidate; it stays in the record and on its branch."""
    _settle(lab, _without(campaign, iteration_id), "suspicious rejected", iteration_id)


def postpone(lab: Lab, campaign: Campaign, iteration_id: str) -> None:
    """The user approves the candidate during another iteration: it becomes champion when that is over."""
    campaign = _without(campaign, iteration_id)
    campaign = campaign.model_copy(update={"approved": (*campaign.approved, iteration_id)})
    _settle(lab, campaign, "suspicious approved", iteration_id)


def take(lab: Lab, campaign: Campaign, suspect: SetAside, base: str) -> str:
    """Make an approved candidate champion by compare-and-swap; empty, or why that cannot be.

    `base` is what the next candidate branches from now. If the candidate was tested against another commit, nothing is
    known of the two together: it goes on waiting.
    """
    candidate = suspect.candidate
    iteration_id = candidate.iteration_id
    rest = _without(campaign, iteration_id)
    if candidate.parent != base:
        # It waits as before its approval, which was for another champion.
        waiting_again = rest.model_copy(update={"suspicious": (*rest.suspicious, iteration_id)})
        if waiting_again != campaign:
            _settle(lab, waiting_again, "suspicious not taken", iteration_id)
        return (
            f"{iteration_id} was tested against {candidate.parent[:12]}, and {base[:12]} stands now: it has to be"
            f' tested again; `autolab loop --max-iterations 1 --goal "{suspect.title}"` proposes it on what stands,'
            f" its code is {candidate.commit[:12]}"
        )
    # The branch moves before the transition says so: done again, it is put back first and moved once more.
    champions = champion.promote(lab, campaign, candidate)
    claims, loop = campaign.claims, campaign.loop
    update: dict[str, object] = {"champions": champions}
    update["claims"] = claims.model_copy(update={"kept": claims.kept + 1})
    if loop is not None:
        update["loop"] = loop.model_copy(update={"since_gain": 0})
    _settle(lab, rest.model_copy(update=update), "suspicious taken", iteration_id)
    return ""


def _settle(lab: Lab, campaign: Campaign, why: str, iteration_id: str) -> None:
    """Record what became of a waiting candidate; the lab's stage stays what it is."""
    state, _ = lab.load()
    lab.transition(state, campaign, why=why, of=iteration_id, log=lab.last_log())


def _without(campaign: Campaign, iteration_id: str) -> Campaign:
    suspicious = tuple(name for name in campaign.suspicious if name != iteration_id)
    approved = tuple(name for name in campaign.approved if name != iteration_id)
    return campaign.model_copy(update={"suspicious": suspicious, "approved": approved})
