"""What an agent is told of a comparison, as a JSON object; what is not decided cannot be read as an answer."""

from __future__ import annotations

from collections.abc import Sequence

from autolab.compare.answer import Standing
from autolab.mcp.agent_training import LEVEL
from autolab.mcp.comparison_queue import OVER, QueueEntry, QueueState
from autolab.mcp.queue_worker import PAIRS

MEASURED = "every score was measured by Autolab; what a caller says of a score is not read"
Told = dict[str, object]


def told_comparison(entry: QueueEntry, entries: Sequence[QueueEntry]) -> Told:
    """All of one comparison, and what to do next. `entries`: the queue at the same moment."""
    value: Told = {
        "id": entry.id,
        "state": entry.state.value,
        "decided": _is_decided(entry),
        "base": f"{entry.base.label} ({entry.base.commit[:10]})",
        "candidate": entry.candidate.label,
        "trials": entry.trials,
        "seconds": entry.seconds,
        "budget": entry.budget,
        "containment": LEVEL,
        "alpha": entry.alpha,
        "question_on_this_base": entry.asked,
        "measured_by": MEASURED,
    }
    if entry.state not in OVER:
        value |= {"pairs_so_far": entry.pairs, "pairs_at_most": PAIRS, **place(entry, entries)}
    if entry.state is QueueState.DONE:
        value |= {"answer": entry.standing, "says": entry.line, "result": entry.answer}
    elif entry.note:
        value["says"] = entry.note
    value["next"] = _next_step(entry)
    return value


def told_briefly(entry: QueueEntry) -> Told:
    """A line of a list."""
    return {
        "id": entry.id,
        "state": entry.state.value,
        "decided": _is_decided(entry),
        "base": entry.base.label,
        "candidate": entry.candidate.label,
        "trials": entry.trials,
        "alpha": entry.alpha,
        "says": entry.line or entry.note,
    }


def place(entry: QueueEntry, entries: Sequence[QueueEntry]) -> Told:
    """Where an entry stands among those that are not over."""
    waiting = [other for other in entries if other.state not in OVER]
    ahead = sum(other.number < entry.number for other in waiting)
    return {"ahead": ahead, "in_queue": len(waiting)}


def _is_decided(entry: QueueEntry) -> bool:
    return entry.state is QueueState.DONE and entry.standing != Standing.UNDECIDED


def _next_step(entry: QueueEntry) -> str:
    if entry.state not in OVER:
        if entry.cancel:
            return "it ends after the trainings that run now; wait tells when"
        return "NOT DECIDED YET: this is no answer, in either direction. Call wait again; once a minute is enough"
    if entry.state is QueueState.CANCELLED:
        return "no answer: it was cancelled; the same compare goes on from where it was"
    if entry.state is QueueState.FAILED:
        if entry.is_final:
            return "no answer: a version cannot be trained; fix it, and ask about the new one"
        return "no answer: do what `says` asks for, then call compare again"
    if not _is_decided(entry):
        if entry.budget_spent:
            return "UNDECIDED, no answer: the budget is spent; the same compare with a larger one goes on from here"
        return "UNDECIDED, no answer: all pairs are used; the gain, if there is one, is too small for this noise"
    return "this is the answer; the same question again gives the same"
