"""The form of a script: replies in the order in which they are tried. docs/standin.md describes it."""

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
    """One reply of a script: for which requests, how often, what is answered, and what goes wrong with it."""

    when: str | None = None
    times: Count = 1

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
    wrap: dict[str, JsonValue] = Field({})
    without: tuple[str, ...] = ()
    pad: Annotated[int, Field(ge=0, le=MAX_PAD)] = 0
    gzip: bool = False
    bad_gzip: bool = False

    delay_s: Seconds = 0.0
    slow_s: Seconds = 0.0
    cut: Count | None = None
    cut_chunked: Count | None = None
    drop: bool = False

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
