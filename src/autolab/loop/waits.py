"""Waits for a model service: told on the screen and recorded, cut short by a user who pauses or by the loop's deadline.

A wait has a line on the screen for each state and not for each try, and a `waiting` line in the ledger, which
`autolab status` reads; `wait_ended` closes it. An engine that was killed or paused during a wait waits anew when it
goes on: what it waited before is not counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from datetime import timedelta
from typing import Literal

from autolab.errors import BudgetSpent, Paused
from autolab.lab.ledger import Ledger
from autolab.lab.schemas import events
from autolab.lab.schemas.events import WaitEnded, Waiting
from autolab.lab.schemas.outcomes import RequestKind, Stage
from autolab.loop.clock import LoopClock
from autolab.loop.deadline import Deadline
from autolab.researchers.base import Outage, Received
from autolab.text import clock_time
from autolab.trials.progress import spell

SLICE_S = 0.5
"""Seconds between two looks, during a wait, at whether the user asked to stop."""
SAID_CHARACTERS = 300
"""Characters of a service's words about a failure that a `waiting` line keeps."""


class Waits:
    """The waits of one request. BudgetSpent: the loop's deadline is over. Paused: the user asked to stop."""

    def __init__(
        self,
        ledger: Ledger,
        request: tuple[Stage, RequestKind, int],
        deadline: Deadline,
        clock: LoopClock,
        tell: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        self._ledger, self._request, self._deadline, self._clock = ledger, request, deadline, clock
        self._tell, self._stop = tell, stop
        self._began: float | None = None
        self._told: set[tuple[str, str]] = set()

    @property
    def in_outage(self) -> bool:
        return self._began is not None

    def pause(self, seconds: float, service: str, why: str) -> None:
        """Wait as long as a service asks."""
        until = self._clock.now() + timedelta(seconds=seconds)
        self._tell(f"  {why}; waits {spell(seconds)}, until {until:%H:%M:%S}")
        self._record(service, why, seconds, None)
        self._sleep(seconds)
        self._end(service, "over")

    def pause_in_outage(self, outage: Outage, seconds: float) -> bool:
        """Wait until the next try; False if the outage has been waited for as long as it may be."""
        # Nothing is told of a wait that ends before it begins.
        self._look()
        now = self._clock.monotonic()
        if self._began is None:
            self._began = now
            self._told.clear()
        left = None
        if outage.limit_s is not None:
            left = self._began + outage.limit_s - now
            if left <= 0:
                self._end(outage.service, "given up")
                return False
            seconds = min(seconds, left)
        state = (outage.service, outage.kind)
        if state not in self._told:
            self._told.add(state)
            self._begin(outage, left)
        self._sleep(seconds)
        return True

    def answers_again(self, service: str) -> None:
        """End the outage: the service has answered."""
        if self._began is None:
            return
        seconds = self._clock.monotonic() - self._began
        self._tell(f"  {service} answers again, after {spell(seconds)}")
        self._end(service, "answered")

    def interruptible(self, transmit: Callable[[], Received]) -> Received:
        """What `transmit` returns. Paused: the user did not want to wait for it."""
        outcome: Future[Received] = Future()

        def work() -> None:
            try:
                outcome.set_result(transmit())
            # All of them: without a result the caller would wait for ever; `result` raises the error there.
            except BaseException as error:
                outcome.set_exception(error)

        # A daemon: a user who pauses does not wait for a service that hangs.
        threading.Thread(target=work, name="probe", daemon=True).start()
        while True:
            try:
                return outcome.result(SLICE_S)
            except NotYet:
                # An error of the transmission may be of this class too.
                if outcome.done():
                    raise
                self._look()

    def _begin(self, outage: Outage, left: float | None) -> None:
        reason = f"{outage.kind}: {outage.detail}"
        ways = "Ctrl-C or `autolab stop` pauses"
        end = f"; then asks {outage.then}"
        if left is not None:
            deadline_s = self._deadline.left_s()
            left = left if deadline_s is None else min(left, deadline_s)
            now = self._clock.now()
            end = f" until {clock_time(now + timedelta(seconds=left), now)} at most"
        self._tell(f"  waiting for {outage.service}{end} ({reason}); {ways}")
        self._record(outage.service, reason, left, self._began)

    def _record(self, service: str, reason: str, left: float | None, began: float | None) -> None:
        now = self._clock.now()
        since = now
        if began is not None:
            since = now - timedelta(seconds=self._clock.monotonic() - began)
        until = None if left is None else (now + timedelta(seconds=left)).isoformat(timespec="seconds")
        stage, kind, number = self._request
        waiting = Waiting(
            stage=stage,
            kind=kind,
            number=number,
            service=service,
            reason=reason[:SAID_CHARACTERS],
            since=since.isoformat(timespec="seconds"),
            until=until,
        )
        events.append(self._ledger, waiting)

    def _end(self, service: str, outcome: Literal["answered", "given up", "over"]) -> None:
        self._began = None
        stage, kind, number = self._request
        events.append(self._ledger, WaitEnded(stage=stage, kind=kind, number=number, service=service, outcome=outcome))

    def _sleep(self, seconds: float) -> None:
        end = self._clock.monotonic() + seconds
        self._look()
        while (left := end - self._clock.monotonic()) > 0:
            # In slices: a user who asks to stop does not wait for the whole pause.
            self._clock.sleep(min(SLICE_S, left))
            self._look()

    def _look(self) -> None:
        if self._stop():
            raise Paused("a user asked to stop")
        if self._deadline.is_over():
            raise BudgetSpent(self._deadline.phrase())
