"""What the tools do: comparisons that an agent asks for and waits for, and what a lab has learned.

Every answer is a JSON object. No tool takes a score: what an agent says of one is nowhere read.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import Field, JsonValue

from autolab.compare.allowance import allowance_of
from autolab.compare.question import asked
from autolab.compare.versions import settings_of
from autolab.errors import LabError, UsageError
from autolab.ideas.past_ideas import history
from autolab.lab.git import Git
from autolab.lab.lab import Lab
from autolab.lab.redaction import clean_value
from autolab.lab.schemas.events import Learned, events_of
from autolab.loop import proposals
from autolab.loop.proposals import Proposal, ProposalRequest
from autolab.mcp.agent_training import AgentTraining
from autolab.mcp.agent_versions import AgentVersions, patch_bytes, settings_words
from autolab.mcp.comparison_queue import OVER, AgentQuestion, ComparisonQueue, QueueEntry
from autolab.mcp.queue_worker import QueueWorker
from autolab.mcp.told_comparison import MEASURED, Told, place, told_briefly, told_comparison

LONGEST_S = 50
"""Seconds that a call takes at most."""
LOOK_S = 0.25
"""Seconds between two looks of a call that waits."""
SHOWN = 50
"""Comparisons that a list shows at most."""
PROPOSER = "a coding agent"
_T = TypeVar("_T")

Base = Annotated[str, Field(description="The revision of git to compare with.")]
Candidate = Annotated[str, Field(description="The revision to judge. Empty: the working tree as it is now.")]
Patch = Annotated[str, Field(description="In place of candidate: the text of a patch that applies to base.")]
SettingsOf = Annotated[
    dict[str, JsonValue] | None,
    Field(
        description='Settings of the candidate such as {"lr": 0.003}; without candidate and patch on the code of base.'
    ),
]
Delta = Annotated[
    float | None,
    Field(
        description="The least gain worth having, in the metric's units. Empty: the user's, else what the noise shows."
    ),
]
Budget = Annotated[str, Field(description='At most so much, such as "60 trials" or "2h". A larger one goes on.')]
Confirm = Annotated[bool, Field(description="Measure a gain once more on fresh seeds.")]
Require = Annotated[
    Literal["better", "not-worse"],
    Field(description="not-worse: whether a loss of delta or more is ruled out, as a merge gate asks."),
]
Id = Annotated[str, Field(description="The id that compare returned; status lists all.")]
Seconds = Annotated[int, Field(description=f"1 to {LONGEST_S}.")]


class AgentTools:
    """The tools of one repository. Errors are `AutolabError`: one line with the way out.

    `delta`: the least gain worth having where an agent names none; None: what the noise lets be found.
    """

    def __init__(
        self, training: AgentTraining, queue: ComparisonQueue, worker: QueueWorker, delta: float | None = None
    ) -> None:
        self._training, self._queue, self._worker, self._delta = training, queue, worker, delta
        # Commits of the working tree are made one at a time.
        self._reading = threading.Lock()

    async def compare(
        self,
        base: Base = "HEAD",
        candidate: Candidate = "",
        patch: Patch = "",
        settings: SettingsOf = None,
        delta: Delta = None,
        budget: Budget = "60 trials",
        confirm: Confirm = False,
        require: Require = "better",
    ) -> Told:
        """Ask whether candidate is better than base. Returns an id at once; get the answer with wait.

        Autolab trains both versions over paired seeds, contained, until the answer is known: better, no gain, worse or
        undecided. The files are read now: what you edit afterwards is another question. The same question again
        returns the same id and costs nothing. Each new question on one base makes the proof stricter (alpha), so do
        not ask about what you would not merge.
        """

        def submit() -> Told:
            # Refused before anything is read.
            allowance_of(budget, "budget")
            if delta is not None and not 0 < delta < float("inf"):
                raise UsageError(f"delta: {delta:g} is not a positive number")
            versions = AgentVersions(base, candidate, patch, settings or {})
            with self._reading:
                first, other = versions.read(Git(self._training.root))
            wanted = AgentQuestion(
                base=asked(first),
                candidate=asked(other),
                delta=self._delta if delta is None else delta,
                require="better" if require == "better" else "not_worse",
                confirm=confirm,
            )
            entry = self._queue.submit(wanted, budget, self._training.identity())
            self._worker.wake()
            return self._told(entry)

        slow = (
            "compare: the working tree takes longer than {limit} s to read; commit it and name the commit as candidate"
        )
        return await _in_time(submit, slow)

    async def wait(self, id: Id, seconds: Seconds = LONGEST_S) -> Told:
        """Wait for the answer of a comparison; returns early when there is one.

        decided=false means that nothing is known yet, in either direction. Then ask again; once a minute is enough.
        """
        if not 1 <= seconds <= LONGEST_S:
            raise UsageError(f"wait: seconds is 1 to {LONGEST_S}, not {seconds}; call wait again after that")
        # From the call on: what reads the queue is a part of the time.
        end = time.monotonic() + seconds
        entry = self._known(id)
        while entry.state not in OVER and time.monotonic() < end:
            await asyncio.sleep(min(LOOK_S, max(0.0, end - time.monotonic())))
            entry = self._known(id)
        return self._told(entry)

    async def status(self) -> Told:
        """What runs, what waits in the queue and where, what all of it has cost; in a lab its state."""

        def look() -> Told:
            entries = self._queue.entries()
            waiting = [entry for entry in entries if entry.state not in OVER]
            over = [entry for entry in entries if entry.state in OVER]
            status: Told = {
                # Places of one moment: the worker may take the next one meanwhile.
                "queue": [told_briefly(entry) | place(entry, waiting) for entry in waiting[:SHOWN]],
                "waiting": len(waiting),
                "over": [told_briefly(entry) for entry in over[: -SHOWN - 1 : -1]],
                "comparisons": len(entries),
                "trials": sum(entry.trials for entry in entries),
                "seconds": round(sum(entry.seconds for entry in entries), 1),
                "lab": None,
            }
            if self._training.is_lab:
                status["lab"] = self._lab_status()
            return self._cleaned(status)

        return await _in_time(look, "status: not read in {limit} s; call it again")

    async def results(self, id: Annotated[str, Field(description="Empty: all, the newest first.")] = "") -> Told:
        """The answers that were measured: one with its numbers, or a line for each."""

        def look() -> Told:
            if id:
                return self._told(self._known(id))
            over = [entry for entry in self._queue.entries() if entry.state in OVER]
            shown = [told_briefly(entry) for entry in over[: -SHOWN - 1 : -1]]
            return self._cleaned({"results": shown, "of": len(over)})

        return await _in_time(look, "results: not read in {limit} s; call it again")

    async def cancel(self, id: Id) -> Told:
        """Take a comparison out of the queue, or end it after the trainings that run now. What was measured stays."""

        def end() -> Told:
            entry = self._queue.cancel(self._known(id).id)
            assert entry is not None
            self._worker.wake()
            return self._told(entry)

        return await _in_time(end, "cancel: not done in {limit} s; call it again")

    async def propose(
        self,
        title: Annotated[str, Field(description="What the candidate does, in one line.")],
        claim: Annotated[str, Field(description="What would be seen if it helps.")] = "",
        mechanism: Annotated[str, Field(description="Why it should help.")] = "",
        candidate: Annotated[str, Field(description="A revision. Empty: the working tree as it is now.")] = "",
        patch: Patch = "",
        settings: SettingsOf = None,
    ) -> Told:
        """Hand a candidate to the lab's loop, which tests it before its own ideas, as it tests every candidate.

        For a lab alone, and in place of compare where a gain is to become the lab's. Returns its id at once; status
        says what became of it. The same candidate again is the same proposal.
        """

        def hand_in() -> Told:
            if not self._training.is_lab:
                raise UsageError("propose: no lab here, and no loop that takes proposals; compare answers without one")
            request = ProposalRequest(
                title=title,
                claim=claim,
                mechanism=mechanism,
                revision=candidate or None,
                patch=patch_bytes(patch) if patch else None,
                settings=settings_of(settings_words(settings or {})),
                by=PROPOSER,
                checkout=self._training.root,
            )
            proposal = proposals.propose(self._lab(), request)
            following = "the lab's next iteration tests it; status says what became of it"
            return self._cleaned({**proposal.value(), "measured_by": MEASURED, "next": following})

        return await _in_time(hand_in, "propose: not done in {limit} s; call it again")

    async def lessons(self) -> Told:
        """What the lab's iterations have taught so far; read it before you look for the next idea."""

        def look() -> Told:
            if not self._training.is_lab:
                return {"lab": False, "lessons": "no lab here; `autolab init --from-existing` makes one"}
            ledger = self._lab().ledger
            ledger.open()
            # From the ledger itself: a loop may be writing the copy that it recalls from.
            lessons = [event.lesson for event in events_of(ledger.lines(), Learned)][::-1]
            return self._cleaned({"lab": True, "lessons": history(lessons)})

        return await _in_time(look, "lessons: not read in {limit} s; call it again")

    # the answers

    def _known(self, entry_id: str) -> QueueEntry:
        entry = self._queue.find(entry_id)
        if entry is None:
            raise UsageError(f"{entry_id!r} is the id of no comparison here; status lists all")
        return entry

    def _told(self, entry: QueueEntry) -> Told:
        return self._cleaned(told_comparison(entry, self._queue.entries()))

    def _cleaned(self, value: Told) -> Told:
        """Without secrets: what a training prints may hold one."""
        cleaned: Told = clean_value(value)
        return cleaned

    # the lab

    def _lab(self) -> Lab:
        return Lab.find(self._training.root)

    def _lab_status(self) -> Told:
        lab = self._lab()
        lab.ledger.open()
        state, campaign = lab.load()
        return {
            "iteration": state.iteration_id,
            "stage": state.stage.value,
            "reason": state.reason,
            "iterations": campaign.iterations,
            "trials": campaign.trials,
            "proposals": [_told_of_proposal(proposal) for proposal in proposals.proposals(lab)[: -SHOWN - 1 : -1]],
        }


def _told_of_proposal(proposal: Proposal) -> Told:
    names = ("id", "title", "status", "reason", "iteration_id", "verdict")
    value = proposal.value()
    return {name: value[name] for name in names}


async def _in_time(call: Callable[[], _T], slow: str) -> _T:
    """Run `call` in a thread. LabError, from `slow`: it took too long; it goes on and its result is lost."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(call), LONGEST_S)
    except TimeoutError:
        raise LabError(slow.format(limit=LONGEST_S)) from None
