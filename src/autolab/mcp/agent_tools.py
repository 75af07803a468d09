"""What the tools do: comparisons that an agent asks for and waits for, and what a lab has learned.

Every answer is a JSON object. No tool takes a score: what an agent says of one is nowhere read.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, TypeVar

from pydantic import Field, JsonValue

from autolab.compare.allowance import allowance_of
from autolab.compare.answer import Standing
from autolab.compare.question import asked
from autolab.compare.versions import Version, VersionRequest, resolve
from autolab.errors import GitError, LabError, UsageError
from autolab.ideas.lessons import told
from autolab.lab.git import Git
from autolab.lab.lab import Lab
from autolab.lab.redaction import clean_value
from autolab.lab.schemas.events import Learned, events_of
from autolab.mcp.agent_training import LEVEL, AgentTraining
from autolab.mcp.comparison_queue import OVER, AgentQuestion, ComparisonQueue, QueueEntry, QueueState
from autolab.mcp.queue_worker import PAIRS, QueueWorker

LONGEST_S = 50
"""Seconds that a call takes at most."""
LOOK_S = 0.25
"""Seconds between two looks of a call that waits."""
SHOWN = 50
"""Comparisons that a list shows at most."""
MEASURED = "every score was measured by Autolab; what a caller says of a score is not read"
Told = dict[str, object]
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
    Field(description="The least gain worth having, in units of the metric. Empty: what the noise lets be found."),
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
    """The tools of one repository. Errors are `AutolabError`: one line with the way out."""

    def __init__(self, training: AgentTraining, queue: ComparisonQueue, worker: QueueWorker) -> None:
        self._training, self._queue, self._worker = training, queue, worker
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
            with self._reading:
                first, other = self._versions(base, candidate, patch, settings or {})
            wanted = AgentQuestion(
                base=asked(first),
                candidate=asked(other),
                delta=delta,
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
                "queue": [_brief(entry) | _place(entry, waiting) for entry in waiting[:SHOWN]],
                "waiting": len(waiting),
                "over": [_brief(entry) for entry in over[: -SHOWN - 1 : -1]],
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
            shown = [_brief(entry) for entry in over[: -SHOWN - 1 : -1]]
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

    async def lessons(self) -> Told:
        """What the lab's iterations have taught so far; read it before you look for the next idea."""

        def look() -> Told:
            if not self._training.is_lab:
                return {"lab": False, "lessons": "no lab here; `autolab init --from-existing` makes one"}
            ledger = self._lab().ledger
            ledger.open()
            # From the ledger itself: a loop may be writing the copy that it recalls from.
            lessons = [event.lesson for event in events_of(ledger.lines(), Learned)][::-1]
            return self._cleaned({"lab": True, "lessons": told(lessons)})

        return await _in_time(look, "lessons: not read in {limit} s; call it again")

    # the versions

    def _versions(
        self, base: str, candidate: str, patch: str, settings: Mapping[str, JsonValue]
    ) -> tuple[Version, Version]:
        """The two versions as commits. UsageError, GitError: which of them is not there, or that they are the same."""
        git = Git(self._training.root)
        if candidate and patch:
            raise UsageError("compare: candidate and patch name two versions; give one of them")
        words = tuple(f"{name}={json.dumps(value)}" for name, value in settings.items())
        if words and not candidate and not patch:
            first, (other,) = resolve(git, VersionRequest(base, settings=words))
            return first, other
        if patch:
            first, other = self._patched(git, base, patch)
        else:
            first, (other,) = resolve(git, VersionRequest(base, (candidate,) if candidate else ()))
        if words:
            _, (with_settings,) = resolve(git, VersionRequest(base, settings=words))
            label = f"{other.label}, {with_settings.label}"
            other = replace(other, label=label, settings=with_settings.settings)
        return first, other

    def _patched(self, git: Git, base: str, patch: str) -> tuple[Version, Version]:
        first = _of_base(git, base)
        try:
            # A patch that was pasted may lack its last line feed, without which git does not read it.
            commit = git.commit_of_patch(first.commit, f"{patch.rstrip(chr(10))}\n".encode(), "autolab compare")
        except GitError as error:
            raise GitError(f"patch: it does not apply to {base}: {error}") from None
        other = Version("candidate", "patch", commit.sha, commit.tree)
        if other.same_training(first):
            raise UsageError(f"patch: it leaves the files of {base} as they are")
        return first, other

    # the answers

    def _known(self, entry_id: str) -> QueueEntry:
        entry = self._queue.find(entry_id)
        if entry is None:
            raise UsageError(f"{entry_id!r} is the id of no comparison here; status lists all")
        return entry

    def _told(self, entry: QueueEntry) -> Told:
        """All that an agent may know of a comparison, and what to do next."""
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
        if entry.state in (QueueState.QUEUED, QueueState.RUNNING):
            value |= {"pairs_so_far": entry.pairs, "pairs_at_most": PAIRS}
            value |= _place(entry, self._queue.entries())
        if entry.state is QueueState.DONE:
            value |= {"answer": entry.standing, "says": entry.line, "result": entry.answer}
        elif entry.note:
            value["says"] = entry.note
        value["next"] = _next_step(entry)
        return self._cleaned(value)

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
        }


def _of_base(git: Git, base: str) -> Version:
    commit = git.resolve(base)
    if commit is None:
        raise UsageError(f"base: {base!r} names no commit here; git log --oneline --all shows those there are")
    return Version("baseline", base, commit, git.tree(commit))


def _place(entry: QueueEntry, entries: Sequence[QueueEntry]) -> Told:
    """Where an entry stands among those that are not over."""
    waiting = [other for other in entries if other.state not in OVER]
    ahead = sum(other.number < entry.number for other in waiting)
    return {"decided": False, "ahead": ahead, "in_queue": len(waiting)}


def _brief(entry: QueueEntry) -> Told:
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


def _is_decided(entry: QueueEntry) -> bool:
    return entry.state is QueueState.DONE and entry.standing != Standing.UNDECIDED


def _next_step(entry: QueueEntry) -> str:
    if entry.state in (QueueState.QUEUED, QueueState.RUNNING):
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


async def _in_time(call: Callable[[], _T], slow: str) -> _T:
    """Run `call` in a thread. LabError, from `slow`: it took too long; it goes on and its result is lost."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(call), LONGEST_S)
    except TimeoutError:
        raise LabError(slow.format(limit=LONGEST_S)) from None
