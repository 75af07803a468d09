"""A model service that does not answer is waited for, for hours: pauses that grow, and probes of one token.

A failed request alone proves no outage: the request itself may be what makes a server fail. So a request is made again
only after the service has answered a probe, and if it fails then too, the request is at fault, and not the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autolab.lab.schemas.config import ResearcherConfig
from autolab.researchers.base import PROBE, AfterPause, Calls, Outage
from autolab.researchers.llm.services import Model
from autolab.researchers.llm.wire import OUTAGES, Message, ModelReply, call

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
"""Of a call that is made again while its service answers."""
LONGEST_OUTAGE_PAUSE_S = 300.0
"""Between two probes of a service that does not answer."""
LONGEST_WAIT_S = 6 * 3600.0
"""A service that asks to wait longer than this counts as out of reach."""


@dataclass(frozen=True)
class OutageWaits:
    """The waits for services that do not answer, as `config` allows them."""

    config: ResearcherConfig
    calls: Calls

    def covers(self, reply: ModelReply) -> bool:
        """Whether this failure is one of the service that is waited for."""
        return reply.reason in OUTAGES and self.config.outage_hours > 0

    def wait_for(
        self, models: Sequence[Model], reply: ModelReply, *, tries: int | None, then: str = ""
    ) -> Model | None:
        """The first of `models` whose service answers a probe, each asked in turn; None: none did.

        `reply` is the newest failure. `tries` limits the probes, and `then` is who is asked afterwards; None: the
        configured hours decide.
        """
        names = " or ".join(model.name for model in models)
        limit_s = self.config.outage_hours * 3600 if tries is None else None
        number = 0
        while tries is None or number < tries:
            model = models[number % len(models)]
            number += 1
            detail = reply.detail.removeprefix(f"{model.name}: ")
            outage = Outage(names, reply.reason, detail, limit_s, then)
            # A time to wait that no service can mean is none.
            if reply.wait_s and reply.wait_s > LONGEST_WAIT_S:
                reply = replace(reply, wait_s=None)
            following = self.calls.pause_in_outage(outage, pause_s(number, reply, LONGEST_OUTAGE_PAUSE_S))
            if following is AfterPause.GIVEN_UP:
                return None
            if following is AfterPause.REQUEST:
                return model
            reply = self._probe(model)
            if reply.reason not in OUTAGES:
                self.calls.answers_again(model.name)
                return model
        return None

    def _probe(self, model: Model) -> ModelReply:
        """Ask for one token. Any word of the service, also a refusal, shows that it is there."""
        settings = {key: value for key, value in self.config.settings.items() if not key.startswith("max_")}
        config = self.config.model_copy(update={"max_tokens": 1, "settings": settings})
        reply = call(model, [Message("user", PROBE)], self.calls, config)
        if reply.reason in OUTAGES:
            self.calls.book(reply.booked())
        else:
            self.calls.book(reply.booked("ok", "the service answers again"))
        return reply

    def in_vain(self, reply: ModelReply) -> ModelReply:
        """The failure of a service that was waited for in vain: a user is asked."""
        hours = f"{self.config.outage_hours:g} h"
        return replace(reply, reason="outage", detail=f"{reply.detail} ({reply.reason}), waited for {hours}")


def pause_s(number: int, reply: ModelReply, longest_s: float = LONGEST_PAUSE_S) -> float:
    """Seconds before the `number`-th further try: those that the service asks for, else growing ones."""
    # The exponent is bounded: 2.0 ** 1100 is no float.
    grown_s = min(longest_s, FIRST_PAUSE_S * 2.0 ** min(number - 1, 30))
    return reply.wait_s or grown_s
