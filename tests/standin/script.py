"""The form of a script: replies, each taken by the first requests that fit it.

    replies:
      - when: "stage: hypothesis"    # only if this regular expression is found in system text and messages
        output: {title: ReLU to GELU, mechanism: smoother, success: lower loss, risk_bounds: []}
      - {status: 429, headers: {Retry-After: 2}}
      - {text: "not what was asked", times: 2}
      - {output: {decision: stop, reason: done}, times: 0}

A request takes the first reply that fits and is not used up; if there is none, it gets status 500 (`NO_REPLY`).
"""

from __future__ import annotations

import base64
import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from autolab.lab.schemas.record import Record

MAX_PAD = 1 << 30

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Call(Record):
    """A tool call. `arguments` is the text as OpenAI has it; Anthropic's `input` is what it reads as, if it is JSON."""

    name: str
    arguments: str = "{}"


class Usage(Record):
    input: Count
    output: Count


class Fault(Record):
    """An error object; what is not given follows from the status."""

    type: str | None = None
    code: str | None = None
    message: str | None = None


RAW = ("body", "body_base64")
ANSWERS = ("output", "text", *RAW, "tool_call", "refusal", "error")
_SHAPING = ("finish", "usage", "wrap", "without")


class ScriptedReply(Record):
    """One reply of a script: for which requests, how often, what is answered, and what goes wrong with it.

    At most one of `ANSWERS` is given; with another `status` than 200 and none of them the reply is the service's error.
    """

    when: str | None = None
    """A regular expression, searched in the system text and the messages."""
    times: Count = 1
    """How often the reply can be taken; 0 is without limit."""

    output: dict[str, JsonValue] | None = None
    text: str | None = None
    body: str | None = None
    body_base64: str | None = None
    tool_call: Call | None = None
    refusal: str | None = None
    error: Fault | None = None

    status: Annotated[int, Field(ge=200, le=599)] = 200
    headers: dict[str, str | int | float] = Field({})
    finish: Literal["stop", "length", "content_filter", "tool_calls"] | None = None
    usage: Usage | None = None
    """Tokens; left out, one for each four characters begun."""
    wrap: dict[str, JsonValue] = Field({})
    """Laid over the service's object: a mapping goes into a mapping, anything else replaces what was there."""
    without: tuple[str, ...] = ()
    """Keys left out at the top of the service's object."""
    pad: Annotated[int, Field(ge=0, le=MAX_PAD)] = 0
    """Spaces at the end of the text, the error's message or the raw body."""
    gzip: bool = False
    bad_gzip: bool = False
    """The header says gzip, and the body is not packed."""

    delay_s: Seconds = 0.0
    """Before the answer."""
    slow_s: Seconds = 0.0
    """Time over which the body is sent, in 20 pieces."""
    cut: Count | None = None
    """Promise the whole Content-Length, send this many bytes of the body, close."""
    cut_chunked: Count | None = None
    """The same with chunked encoding and without the last chunk."""
    drop: bool = False
    """Close without an answer."""

    @model_validator(mode="after")
    def _one_answer(self) -> ScriptedReply:
        given = [name for name in ANSWERS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; a reply is one of them")
        if not given and self.status == 200 and not (self.drop or self.pad or self.wrap):
            raise ValueError(f"answers nothing; give one of {', '.join(ANSWERS)}, another status, or drop")
        idle = [name for name in _SHAPING if getattr(self, name) and given and given[0] in RAW]
        if idle:
            raise ValueError(f"{idle[0]} is for what the service would answer; {given[0]} is sent as it is")
        if self.cut is not None and self.cut_chunked is not None:
            raise ValueError("cut and cut_chunked are given; a reply is one of them")
        if self.gzip and self.bad_gzip:
            raise ValueError("gzip and bad_gzip are given; a reply is one of them")
        return self

    @model_validator(mode="after")
    def _can_be_sent(self) -> ScriptedReply:
        try:
            re.compile(self.when or "")
        except re.error as error:
            raise ValueError(f"when: {self.when!r} is not a regular expression: {error}") from None
        try:
            base64.b64decode(self.body_base64 or "", validate=True)
        except ValueError as error:
            raise ValueError(f"body_base64: {error}") from None
        for name, value in self.headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch(r"[\t -~]*", str(value)):
                raise ValueError(f"headers: {name!r} is not a name and a value in plain ASCII, on one line")
        return self


class Script(Record):
    """Replies in the order in which they are tried; the models that exist (none named: all) and the key (none: any)."""

    models: tuple[str, ...] = ()
    key: str | None = None
    replies: tuple[ScriptedReply, ...]
