"""Why a service did not answer: the kind of an error by its status and words, and how long it asks to wait."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

from autolab.researchers.llm.reply_reader import ServiceError

_TOO_LONG = ("context_length", "context length", "context window", "too long", "context size", "exceeds the available")
_FILTERED = ("content_filter", "content management policy", "responsibleaipolicyviolation")
_NO_ROOM = re.compile(r"max_(?:completion_)?tokens must be at least 1, got -")
"""As vLLM says that the prompt leaves no room for a reply."""
_BAD_KEY = ("api key not valid", "incorrect api key", "invalid api key", "api_key_invalid")
_NO_MODEL = ("model_not_found", "no models loaded")
_REASONS = {
    401: "unauthorized",
    402: "quota",
    403: "unauthorized",
    404: "not_found",
    408: "timeout",
    413: "too_long",
    503: "overloaded",
    529: "overloaded",
}
_NOT_TAKEN = re.compile(
    r"unsupported|not.{0,40}support|no longer support|unrecognized|unknown|unexpected|not permitted|extra inputs"
    r"|not allowed|unavailable|not available|deprecated|instead|no endpoints|not accept|only the default"
    r"|does not take|invalid parameter|not enabled",
    re.IGNORECASE,
)
"""How services say that they do not take a parameter at all, and not that its value is wrong."""
_SEARCHED = 4_000
"""Characters of an error that are searched for its reason."""


def kind_of(error: ServiceError, text: str) -> str:
    """The kind of an error. `text` is all that came with it: some say in another place what it is."""
    status = error.status
    words = f"{error.code} {error.message} {text}".lower()
    if status == 429:
        # Not by "billing" alone: OpenAI names that page in the message of a mere rate limit too.
        if "insufficient_quota" in words or "exceeded your current quota" in words:
            return "quota"
        return "rate_limited"
    # llama.cpp says it as 400 or 500.
    if "exceed_context_size" in words or _NO_ROOM.search(words):
        return "too_long"
    if status in (400, 422):
        for phrases, kind in (
            (_TOO_LONG, "too_long"),
            (("credit balance",), "quota"),  # as Anthropic says it
            (_FILTERED, "refused"),
            (_BAD_KEY, "unauthorized"),
            (_NO_MODEL, "not_found"),
        ):
            if any(phrase in words for phrase in phrases):
                return kind
    if status in _REASONS:
        return _REASONS[status]
    if 300 <= status < 400:
        return "redirect"
    # A 2xx other than 200 has no reply in it either.
    if status >= 500 or status < 300:
        return "server_error"
    return "rejected"


def refused_parameter(error: ServiceError, parameters: Iterable[str]) -> str:
    """The one of the `parameters` of a request that a service says it does not take; empty if it names none."""
    if error.status not in (400, 404, 422, 500, 501):
        return ""
    words = f"{error.parameter} {error.message}"[:_SEARCHED]
    names = set(parameters)
    # Ways to ask for JSON: whatever is wrong with one, the next or none may do. It is ours, and no user's.
    if re.search(r"response_format|json_schema|json_object|structured.output|json mode|grammar|guided", words):
        for way in ("json_schema", "json_object"):
            if way in names:
                return way
    # A service that broke says nothing about a parameter.
    if error.status >= 500 or not _NOT_TAKEN.search(words):
        return ""
    if error.parameter in names:
        return error.parameter
    # The first that is named: "use 'max_completion_tokens' instead" stands behind what is refused.
    places = {}
    for name in names:
        found = re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", words)
        if found:
            places[name] = found.start()
    return min(places, key=lambda name: places[name], default="")


def seconds_to_wait(text: str) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date (RFC 9110 §10.2.3); None if it holds neither."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    # A date that has passed means now; "inf" and "nan" are numbers for Python.
    return max(0.0, seconds) if math.isfinite(seconds) else None
