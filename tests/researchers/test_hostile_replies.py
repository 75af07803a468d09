"""What a model, its service or the way to it may answer: each has its reason on record, and the lab stays as it was."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import yaml
from lab_kit import LabKit, decision, design, docs, hypothesis, implementation, review
from model_kit import model_lab
from standin import Call, Fault, ReceivedRequest, ScriptedReply, StandIn, Usage

from autolab.cli import command_line
from autolab.lab.schemas.replies import HypothesisOutput
from autolab.researchers.llm import conversation, outages, output_parser
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.wire import ModelReply

KEY = "standin-5f2c9a71d3e84b60aa17"
GOOD: dict[str, dict[str, Any]] = {
    "hypothesis": hypothesis()["output"],
    "design": design()["output"],
    "implementation": implementation()["output"],
    "implementation_review": review()["output"],
    "update_docs": docs()["output"],
    "decide_repeat": decision("stop", "it is done")["output"],
}
SERIES = 12
"""Cases that a lab meets in a row: a step reads all that its iteration has on record."""
LIMITS = {"stage": 1000, "same_error": 1000, "same_idea": 100, "rethink": 0}


@dataclass(frozen=True)
class Case:
    """Replies, of which the last is given for ever; the reasons that the ledger has then; whether a user is asked."""

    name: str
    replies: tuple[dict[str, Any], ...]
    reasons: tuple[str, ...]
    user: bool = False
    who: dict[str, Any] = field(default_factory=dict)
    stage: str = "hypothesis"


@dataclass
class Rig:
    """A lab that asks `server`; `trap` is a server that nobody may ask. `looked` is how the lab is at each stage."""

    kit: LabKit
    server: StandIn
    trap: StandIn
    told: list[ScriptedReply]
    looked: dict[str, dict[str, Any]] = field(default_factory=dict)

    def tell(self, *replies: dict[str, Any]) -> None:
        self.told[:] = [_scripted(one) for one in replies]

    def who(self, form: str, **more: Any) -> None:
        url = self.server.url if form == "openai" else self.server.origin
        who = {"name": "llm", "model": f"{form}:scripted", "base_url": url, "api_key_env": "STANDIN_KEY"}
        who |= {"retries": 0, "outage_hours": 0}
        path = self.kit.root / ".autolab" / "config.yaml"
        value = yaml.safe_load(path.read_text()) | {"researcher": who | {"timeout_s": 20} | more}
        path.write_text(yaml.safe_dump(value, sort_keys=False))

    def autolab(self, *words: str) -> tuple[int, str, str]:
        """In this process: a hundred and more of them would take minutes otherwise."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command_line.main([*words, "--dir", str(self.kit.root)])
        return code, out.getvalue(), err.getvalue()

    def step(self, reply: dict[str, Any]) -> None:
        self.tell(reply)
        code, out, err = self.autolab("run")
        assert code == 0, out + err

    def keep(self, stage: str) -> None:
        subprocess.run(["cp", "-a", str(self.kit.root), f"{self.kit.root}.{stage}"], check=True)
        self.looked[stage] = self.looks()

    def go_to(self, stage: str) -> None:
        subprocess.run(["chmod", "-R", "u+w", str(self.kit.root)], check=True)
        subprocess.run(["rm", "-rf", str(self.kit.root)], check=True)
        subprocess.run(["cp", "-a", f"{self.kit.root}.{stage}", str(self.kit.root)], check=True)

    def looks(self) -> dict[str, Any]:
        """What no bad answer may change."""
        refs = self.kit.git("for-each-ref").splitlines()
        folders = (self.kit.root / "experiments", self.kit.root / ".worktrees")
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        ours = [path for path in files if "logs" not in path.parts and path.name != "failure_report.md"]
        return {
            "head": self.kit.git("rev-parse", "HEAD"),
            "status": self.kit.git("status", "--porcelain", "--", ":!experiments"),
            "refs": [line for line in refs if "refs/autolab/" not in line],
            "files": {path: path.read_bytes() for path in ours},
        }


def _scripted(reply: dict[str, Any]) -> ScriptedReply:
    """Unchecked: half characters and deep nests, which no script can hold, are sent as JSON escapes them."""
    parts = {"error": Fault, "usage": Usage, "tool_call": Call}
    return ScriptedReply.model_construct(
        **{name: parts[name].model_construct(**one) if name in parts else one for name, one in reply.items()}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    told: list[ScriptedReply] = []

    def next_reply(_: ReceivedRequest) -> ScriptedReply:
        return told.pop(0) if len(told) > 1 else told[0]

    with (
        pytest.MonkeyPatch.context() as patch,
        StandIn(answer=next_reply) as server,
        StandIn([{"text": "caught", "times": 0}]) as trap,
    ):
        patch.setenv("STANDIN_KEY", KEY)
        patch.setattr(outages, "FIRST_PAUSE_S", 0.01)
        kit = model_lab(tmp_path_factory.mktemp("hostile"), config={"attempts": LIMITS})
        kit.env["STANDIN_KEY"] = KEY
        yield Rig(kit, server, trap, told)


@pytest.fixture(scope="module")
def rig(made: Rig) -> Rig:
    """The lab kept at the start of every stage that asks."""
    made.who("openai")
    assert made.autolab("calibrate")[0] == 0
    for stage in GOOD:
        while (at := made.kit.state()["stage"]) != stage:
            made.step({"output": GOOD.get(at, {})})
        made.step({"text": "no"})  # what a stage prepares before it asks is there
        made.keep(stage)
    return made


# The table


def said(name: str, reason: str, text: str, **more: Any) -> Case:
    """A text that does not fit: it goes back once."""
    return Case(name, ({"text": text, **more},), (reason, reason))


def gave(name: str, output: Any, reason: str = "invalid", stage: str = "hypothesis") -> Case:
    """A reply that is JSON, but not the stage's."""
    return Case(f"{stage}: {name}", ({"text": json.dumps(output)},), (reason, reason), stage=stage)


def came(name: str, reason: str, *, user: bool = False, who: dict[str, Any] | None = None, **reply: Any) -> Case:
    """A failure of the service or the way to it."""
    return Case(name, (reply,), (reason,), user, who or {})


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD["hypothesis"].items() if name != key}


def plus(**more: Any) -> dict[str, Any]:
    return GOOD["hypothesis"] | more


J = json.dumps(GOOD["hypothesis"])
TITLE = '"title": "A steeper slope"'
assert TITLE in J
DEEP: Any = "x"
for _ in range(400):
    DEEP = [DEEP]

NOT_JSON = [
    said(name, "not_json", text)
    for name, text in {
        "prose": "I would make the slope steeper.",
        "two fences": f"```json\n{J}\n```\n```json\n{J}\n```",
        "a fence and a bare object": f"```json\n{J}\n```\n{J}",
        "an empty fence": "```json\n```",
        "a fence of another language": f"```python\n{J}\n```",
        "thoughts without end": f"<think>hm {J}",
        "a line comment": J.replace("{", "{ // mine\n", 1),
        "a block comment": J.replace("{", "{ /* mine */", 1),
        "a trailing comma": J[:-1] + ",}",
        "single quotes": J.replace('"', "'"),
        "bare keys": J.replace('"title"', "title"),
        "a Python value": J.replace("[", "(").replace("]", ")"),
        "True of Python": J[:-1] + ', "notes": True}',
        "YAML": yaml.safe_dump(GOOD["hypothesis"]),
        "XML": "<title>A steeper slope</title>",
        "half of it": J[: len(J) // 2],
        "without its end": J[:-1],
        "an end too many": J + "}",
        "two objects": J + J,
        "JSON lines": f"{J}\n{J}\n",
        "NaN": J[:-1] + ', "success_delta": NaN}',
        "Infinity": J[:-1] + ', "success_delta": Infinity}',
        "minus Infinity": J[:-1] + ', "success_delta": -Infinity}',
        "1e999": J[:-1] + ', "success_delta": 1e999}',
        "a leading zero": J[:-1] + ', "success_delta": 01}',
        "a plus sign": J[:-1] + ', "success_delta": +1}',
        "a hexadecimal number": J[:-1] + ', "success_delta": 0x1}',
        "ten thousand digits": J[:-1] + f', "success_delta": {"9" * 10_000}}}',
        "a key twice": J[:-1] + f", {TITLE}}}",
        "a key twice inside": J[:-1] + ', "changes": {"a": 1, "a": 2}}',
        "a hundred thousand lists": "[" * 100_000,
        "a hundred thousand objects": '{"a":' * 100_000,
        "lists opened and closed": "[" * 50_000 + "]" * 50_000,
        "a null byte": J.replace("steeper", "steeper\0"),
        "a line break in a text": J.replace("steeper", "steeper\n"),
        "an escape sequence": J.replace("steeper", "\x1b[31msteeper"),
        "an unknown escape": J.replace("steeper", "\\x41"),
        "wide quotes": J.replace('"', "\u201d"),
        "one megabyte of words": "word " * 200_000,
        "an answer to another question": "The capital of France is Paris.",
        "planted commands": "```bash\nautolab review approve && rm -rf .git\n```",
    }.items()
]
ROOTS = [
    gave(f"the whole is {json.dumps(value)[:20]}", value, reason)
    for value, reason in [
        ([GOOD["hypothesis"]], "invalid"), ({}, "invalid"),
        *[(value, "not_json") for value in ([], J, 7, 0.5, True, None, "")],
    ]
]  # fmt: skip
MISSING = [gave(f"{key} is missing", without(key)) for key in ("title", "mechanism", "success", "risk_bounds")]
UNKNOWN = [
    gave(f"the key {key!r}", plus(**{key: value}))
    for key, value in {
        "via": "offline", "__proto__": {"admin": True}, "__class__": "Config", "status": "complete", "output": {},
        "id": "h99", "budget": {"iterations": 10_000}, "Title": "other case", "": "empty", "title ": "a space",
        "\x1b[2Jkey": 1, "\u202etitle": "turned", "k" * 100_000: 1,
    }.items()
]  # fmt: skip
TYPES = [
    gave(f"{key} is {json.dumps(value)[:24]}", plus(**{key: value}))
    for key, value in [
        ("title", 7), ("title", None), ("title", ["a"]), ("title", {}), ("title", True),
        ("title", ""), ("title", "   "), ("title", "word " * 200_000), ("title", "one\n---\ntwo"),
        ("mechanism", 1), ("mechanism", []), ("success", None), ("success", {"below": 1}),
        ("risk_bounds", "none"), ("risk_bounds", [1]), ("risk_bounds", {"a": "b"}), ("risk_bounds", [None]),
        ("references", "a paper"), ("metric", 1), ("direction", "up"), ("direction", True), ("direction", 0),
        ("success_delta", "0.1"), ("success_delta", -1), ("success_delta", 0), ("success_delta", True),
        ("success_delta", [1]), ("success_delta", 10**400), ("family", ["a"]), ("changes", []), ("changes", "all"),
        ("model", "a transformer"), ("model_config", 3), ("assumptions", "none"), ("notes", 1), ("body", 3),
        ("risk_bounds", ["word " * 390] * 100), ("assumptions", ["word " * 390] * 100),
        ("changes", {"a": "\0"}), ("changes", {"\u202e": 1}), ("model_config", {"layers": [{"kind": "re\x07lu"}]}),
        ("action", "achieve"), ("action", None), ("changes", {"a": DEEP}),
    ]
]  # fmt: skip
SHAPES = [
    gave("wrapped once more", {"output": GOOD["hypothesis"]}),
    gave("wrapped by its name", {"hypothesis": GOOD["hypothesis"]}),
    gave("an agent result", {"status": "complete", "summary": "done", "changed_files": [],
                             "completion_token_seen": True, "output": GOOD["hypothesis"]}),
    gave("the schema itself", {"type": "object", "properties": {"title": {"type": "string"}}}),
    gave("a service's error", {"error": {"message": "overloaded"}}),
    gave("a tool's call", {"name": "bash", "arguments": {"command": "rm -rf ."}}),
    gave("given up in numbers", {"status": "failed", "summary": 3}),
    gave("given up with more", {"status": "failed", "summary": "no", "output": GOOD["hypothesis"]}),
    gave("given up with half a character", {"status": "failed", "summary": "\ud800"}),
    gave("half a character", plus(title="\ud800 steeper")),
    gave("half a character as key", plus(changes={"\udfff": 1})),
    gave("another stage's answer", GOOD["decide_repeat"]),
]  # fmt: skip

KINDS = [
    Case("a tool call", ({"tool_call": {"name": "bash", "arguments": '{"command": "ls"}'}},), ("tool_call",) * 2),
    Case("a tool call that is the answer", ({"tool_call": {"name": "reply", "arguments": J}},), ("tool_call",) * 2),
    Case("a tool call with broken arguments", ({"tool_call": {"name": "", "arguments": "{"}},), ("tool_call",) * 2),
    Case("a refusal", ({"refusal": "I cannot help with that."},), ("refused",) * 2),
    Case("a refusal of control signs", ({"refusal": "\x1b[2J\ud800 no"},), ("refused",) * 2),
    said("stopped by a filter", "refused", "A ste", finish="content_filter"),
    said("nothing", "empty", ""),
    said("spaces", "empty", " \n\t "),
    said("a megabyte of spaces", "empty", " ", pad=1 << 20),
    said("half of it, cut off by its length", "truncated", J[:40], finish="length"),
    said("all of it, cut off by its length", "truncated", J, finish="length"),
    said("nothing, cut off by its length", "truncated", "", finish="length"),
    Case("bad, then worse", ({"text": "no"}, {"text": "{}"}), ("not_json", "invalid")),
    Case("bad, then a refusal", ({"text": "no"}, {"refusal": "never"}), ("not_json", "refused")),
    Case("bad, then gone", ({"text": "no"}, {"drop": True}), ("not_json", "cut")),
    Case("bad, then no key any more", ({"text": "no"}, {"status": 401}), ("not_json", "unauthorized"), True),
    Case("half a character in prose", ({"text": "so \ud800 be it"},), ("not_json",) * 2),
]

BODIES = [
    came(name, "bad_body", body=body)
    for name, body in {
        "an empty body": "",
        "a body of spaces": "   ",
        "a page": "<html><body>Welcome</body></html>",
        "a text as body": '"hello"',
        "a list as body": "[1, 2]",
        "null as body": "null",
        "a number as body": "7",
        "an empty object": "{}",
        "half a body": '{"id": "x", "choices": [',
        "a stream of events": 'data: {"choices": []}\n\ndata: [DONE]\n\n',
        "a body of brackets": "[" * 100_000,
        "an error with status 200": json.dumps({"error": {"message": "something is wrong"}}),
        "a key twice in the body": '{"id": 1, "id": 2}',
        "NaN as body": "NaN",
        "long digits as body": "9" * 10_000,
    }.items()
] + [
    came("a body that is no text", "bad_body", body_base64=b64encode(bytes(range(256))).decode()),
    came("an error with status 200 that says which", "overloaded",
         body=json.dumps({"error": {"message": "overloaded", "code": 529}})),
    came("UTF-16", "bad_body", body_base64=b64encode(J.encode("utf-16")).decode()),
    came("packed, and not said", "bad_body", body_base64=b64encode(gzip.compress(J.encode())).decode()),
]  # fmt: skip


def choice(message: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "message": message, "finish_reason": "stop"}]


OPENAI_BODIES = [
    came(name, "bad_body", text="hello", **more)
    for name, more in {
        "no choices": {"wrap": {"choices": []}},
        "choices null": {"wrap": {"choices": None}},
        "choices a number": {"wrap": {"choices": 3}},
        "choices without what is chosen": {"wrap": {"choices": [{}]}},
        "choices left out": {"without": ["choices"]},
        "message null": {"wrap": {"choices": choice(None)}},
        "message a list": {"wrap": {"choices": choice(["hello"])}},
        "message a number": {"wrap": {"choices": choice(7)}},
        "content a number": {"wrap": {"choices": choice({"role": "assistant", "content": 7})}},
        "two choices": {"wrap": {"choices": [*choice({"content": "hello"}), *choice({"content": "hello"})]}},
    }.items()
] + [
    Case(
        "content in parts",
        ({"text": "", "wrap": {"choices": choice({"role": "assistant", "content": [{}]})}},),
        ("empty", "empty"),
    ),
    said("an unknown finish", "not_json", "no", wrap={"choices": [
        {"index": 0, "message": {"role": "assistant", "content": "no"}, "finish_reason": "tired"}]}),
    said("a role of the user", "not_json", "no", wrap={"choices": choice({"role": "user", "content": "hello"})}),
    said("no id", "not_json", "no", without=["id"]),
    said("an id that is a number", "not_json", "no", wrap={"id": 7}),
]  # fmt: skip
ANTHROPIC_BODIES = [
    came(name, "bad_body", text="hello", **more)
    for name, more in {
        "content null": {"wrap": {"content": None}},
        "content a number": {"wrap": {"content": 7}},
        "content left out": {"without": ["content"]},
        "a text that is a number": {"wrap": {"content": [{"type": "text", "text": 7}]}},
    }.items()
] + [
    Case("no content", ({"text": "hello", "wrap": {"content": []}},), ("empty", "empty")),
    Case("content without kinds", ({"text": "hello", "wrap": {"content": [{}]}},), ("empty", "empty")),
    said("content a text", "not_json", "hello", wrap={"content": "hello"}),
    said("no usage at all", "not_json", "no", without=["usage"]),
    said("no number of usage", "not_json", "no", wrap={"usage": None}),
]
ODD = [
    said(name, "not_json", "no", **more)
    for name, more in {
        "another model's name": {"wrap": {"model": "gpt-99-\x1b[31m"}},
        "keys of its own": {"wrap": {"__proto__": {}, "debug": DEEP}},
        "another content type": {"headers": {"Content-Type": "application/octet-stream"}},
        "no content type": {"headers": {"Content-Type": ""}},
        "usage beyond belief": {"usage": {"input": 10**15, "output": 10**15}},
        "usage of nothing": {"usage": {"input": 0, "output": 0}},
    }.items()
]
OPENAI_USAGE = [
    Case(name, ({"text": "no", "wrap": {"usage": usage}},), reasons)
    for name, usage, reasons in [
        ("usage null", None, ("not_json",) * 2),
        ("usage below nothing", {"prompt_tokens": -5, "completion_tokens": -7}, ("not_json",) * 2),
        ("cached more than sent", {"prompt_tokens_details": {"cached_tokens": 10**6}}, ("not_json",) * 2),
        ("usage in words", {"prompt_tokens": "many"}, ("not_json",) * 2),
        ("usage a list", [1, 2], ("not_json",) * 2),
    ]
]

STATUS = [
    came(f"status {status}", reason, user=user, status=status)
    for status, reason, user in [
        (201, "server_error", False), (202, "server_error", False), (204, "server_error", False),
        (206, "server_error", False), (300, "redirect", True), (304, "redirect", True),
        (400, "rejected", True), (401, "unauthorized", True), (402, "quota", True), (403, "unauthorized", True),
        (404, "not_found", True), (405, "rejected", True), (408, "timeout", False), (409, "rejected", True),
        (410, "rejected", True), (413, "too_long", True), (418, "rejected", True), (422, "rejected", True),
        (451, "rejected", True), (500, "server_error", False), (501, "server_error", False),
        (502, "server_error", False), (503, "overloaded", False), (504, "server_error", False),
        (507, "server_error", False), (529, "overloaded", False), (599, "server_error", False),
    ]
] + [
    came(f"redirect {status}", "redirect", user=True, status=status, headers={"Location": "TRAP"}, text="x")
    for status in (301, 302, 303, 307, 308)
]  # fmt: skip
LONG = {"message": "This model's maximum context length is 8192 tokens", "code": "context_length_exceeded"}
ERRORS = [
    came("too long a prompt", "too_long", user=True, status=400, error=LONG),
    came("too long a prompt, in words", "too_long", user=True, status=400, error={"message": "prompt is too long"}),
    came("a page as error", "server_error", status=502, body="<html><h1>Bad gateway</h1></html>"),
    came("an empty error", "server_error", status=500, body=""),
    came("an error in a list", "server_error", status=500, body='[{"error": "x"}]'),
    came("an error as text", "server_error", status=500, body='{"error": "it is broken"}'),
    came("an error that is a number", "rejected", user=True, status=400, body='{"error": {"message": 7}}'),
    came("control signs in an error", "server_error", status=500, error={"message": "\x1b[2J\x1b]0;o\x07bad\r\nnews"}),
    came("a megabyte of error", "server_error", status=500, error={"message": "bad "}, pad=1 << 20),
    came("half a character in an error", "server_error", status=500, error={"message": "\ud800 bad"}),
    came("an error of bytes", "server_error", status=500, body_base64=b64encode(bytes(range(128, 256))).decode()),
    came("an error of brackets", "rejected", user=True, status=400, body="[" * 100_000),
    came("the key told back", "unauthorized", user=True, status=401, error={"message": f"wrong key: {KEY}"}),
    came("the key told back in bytes", "server_error", status=500,
         body_base64=b64encode(b"\xff\xfe" + KEY.encode() + b"\xff").decode()),
    Case("the key told back as answer", ({"text": f"Bearer {KEY}"},), ("not_json",) * 2),
    Case("the key beside half a character", ({"text": f"\ud800 {KEY}"},), ("not_json",) * 2),
]  # fmt: skip


def limited(name: str, retry_after: Any, reasons: tuple[str, ...], user: bool = False) -> Case:
    """A rate limit, and when that is over an answer that is none."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Case(name, ({"status": 429, "headers": headers}, {"text": "no"}), reasons, user)


AFTER = ("rate_limited", "not_json", "not_json")
PAST = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
FUTURE = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
BILLING = {"status": 429, "error": {"message": "Rate limit reached for RPM; add a payment method at /account/billing"}}
RATES = [
    limited("a rate limit", None, AFTER),
    limited("a rate limit of a moment", 0.05, AFTER),
    limited("a rate limit of no time", 0, AFTER),
    limited("a rate limit below no time", -3, AFTER),
    limited("a rate limit until yesterday", PAST, AFTER),
    limited("a rate limit until tomorrow", FUTURE, ("rate_limited",), True),
    limited("a rate limit of nonsense", "soon, I hope", AFTER),
    limited("a rate limit of no number", "nan", AFTER),
    limited("a rate limit without end", "inf", AFTER),
    limited("a rate limit of seven hours", 7 * 3600, ("rate_limited",), True),
    limited("a rate limit of ages", 10**30, ("rate_limited",), True),
    Case("a rate limit that names the billing page", (BILLING, {"text": "no"}), AFTER),
    limited("a rate limit in the year 99999", "Fri, 01 Jan 99999 00:00:00 GMT", AFTER),
    came("no quota", "quota", user=True, status=429, error={"message": "insufficient_quota: no money"}),
    came("no credit", "quota", user=True, status=400, error={"message": "Your credit balance is too low"}),
    Case("a rate limit that stays", ({"status": 429, "headers": {"Retry-After": 0.001}},), ("rate_limited",) * 4, True),
    came("overloaded for ages", "overloaded", status=503, headers={"Retry-After": 10**9}, who={"retries": 2}),
    Case("broken, again and again", ({"status": 500},), ("server_error",) * 3, False, {"retries": 2}),
    Case("cut off, then broken", ({"drop": True}, {"status": 500}), ("cut", "server_error"), who={"retries": 1}),
]  # fmt: skip

BRIEF = {"timeout_s": 0.1}
WAY = [
    came("hung up", "cut", drop=True),
    came("cut at once", "cut", text=J, cut=0),
    came("cut after a byte", "cut", text=J, cut=1),
    came("cut in the middle", "cut", text=J, cut=200),
    came("cut before a chunk", "cut", text=J, cut_chunked=0),
    came("cut between chunks", "cut", text=J, cut_chunked=200),
    came("more promised than sent", "cut", text=J, headers={"Content-Length": 10**6}),
    came("less promised than sent", "bad_body", text=J, headers={"Content-Length": 20}),
    came("a length that is no number", "cut", text=J, headers={"Content-Length": "many"}),
    came("not packed as it says", "cut", text=J, bad_gzip=True),
    came("packed in an unknown way", "bad_body", body_base64=b64encode(b"\x00\x01" * 50).decode(),
         headers={"Content-Encoding": "zip"}),
    came("dripping", "timeout", text=J, slow_s=5, who=BRIEF),
    came("nothing for too long", "timeout", text=J, delay_s=5, who=BRIEF),
    came("too large", "too_large", text="x", pad=9 << 20),
    came("a bomb of spaces", "too_large", text="x", pad=40 << 20, gzip=True),
    came("a large error", "too_large", status=500, pad=9 << 20),
    came("nobody there", "unreachable", text=J, who={"base_url": "http://127.0.0.1:1/v1"}),
    came("no such host", "unreachable", text=J, who={"base_url": "http://nobody.invalid/v1"}),
    came("TLS where there is none", "unreachable", text=J, who={"base_url": "TLS"}),
    came("another address", "not_found", text=J, user=True, who={"base_url": "ELSEWHERE"}),
]  # fmt: skip

HYPOTHESIS = [*NOT_JSON, *ROOTS, *MISSING, *UNKNOWN, *TYPES, *SHAPES, *KINDS]
SERVICE = [*BODIES, *ODD, *STATUS, *ERRORS, *RATES, *WAY]
EACH_THIRD = HYPOTHESIS[::3]


def edit(path: str, search: str = "WIDTH", replace: str = "# slope\nWIDTH") -> dict[str, Any]:
    return {"plan": "x", "edits": [{"path": path, "search": search, "replace": replace}]}


def write(path: str, content: str = "x = 1\n") -> dict[str, Any]:
    return {"plan": "x", "files": [{"path": path, "content": content}]}


def misplaced(name: str, output: dict[str, Any]) -> Case:
    """An answer whose changes are refused, by its form or by the engine: it goes back once."""
    return Case(f"implementation: {name}", ({"output": output},), ("invalid",) * 2, stage="implementation")


FINDING = {"check": "code", "severity": "blocking", "message": "it is wrong"}
ARM = {"name": "baseline", "config_overrides": {}}
OTHERS = [
    *[gave(name, GOOD["design"] | more, stage="design") for name, more in {
        "arms in words": {"variants": "steep"},
        "an arm without a name": {"variants": [{}]},
        "seeds in words": {"seeds": "all"},
        "seeds that are fractions": {"seeds": [0.5]},
        "a command of its own": {"entrypoint": {"command": "rm -rf /"}},
        "a budget of its own": {"compute": {"hours": 1000}},
        "criteria in words": {"criteria": ["it is better"]},
        "a delta below nothing": {"success_delta": -1},
        "an arm that leaves its folder": {"variants": [{"name": "../steep"}]},
        "an arm without letters": {"variants": [{"name": ""}]},
        "a nest of settings": {"train": {"a": DEEP}},
        "a NUL in the settings": {"train": {"width": "4\0"}},
        "a key that cannot be seen": {"train": {"wi\u200bdth": 4}},
        "settings that act on a terminal": {"train": {"width": ["\x1b[2J"]}},
        "arms without number": {"variants": [{"name": f"v{n}"} for n in range(101)]},
        "arms of long settings": {"variants": [{"name": f"v{n}", "config_overrides": {"a": "x" * 9_000}}
                                               for n in range(3)]},
        "seeds without number": {"seeds": list(range(1_001))},
        "a seed of a thousand digits": {"seeds": [10**1_000]},
    }.items()],
    *[Case(f"design: {name}", ({"output": GOOD["design"] | more},), ("ok",), stage="design") for name, more in {
        "no arms": {"variants": [], "baselines": []},
        "two arms of one name": {"variants": [{"name": "steep"}, {"name": "steep"}]},
        "seeds below nothing": {"seeds": [-1]},
    }.items()],
    *[gave(name, output, stage="implementation") for name, output in {
        "no plan": {"files": []},
        "files in words": {"plan": "x", "files": "all"},
        "a file without content": {"plan": "x", "files": [{"path": "a.py"}]},
        "a file of a number": write("a.py") | {"files": [{"path": "a.py", "content": 7}]},
        "an edit without search": {"plan": "x", "edits": [{"path": "a.py", "replace": ""}]},
        "via": write("a.py") | {"via": "assembler"},
        "a mode": {"plan": "x", "files": [{"path": "a.py", "content": "", "mode": "0777"}]},
        "half a character": write("a.py", "\ud800"),
    }.items()],
    *[misplaced(name, output) for name, output in {
        "out of the worktree": write("../escape.py"),
        "out by a detour": write("models/../../escape.py"),
        "an absolute path": write("/tmp/escape.py"),
        "into .git": write(".git/hooks/pre-commit", "#!/bin/sh\n"),
        "into .GIT": write(".GIT/config"),
        "into .autolab": write(".autolab/config.yaml", "budget: {iterations: 99999}\n"),
        "the evaluator": write("eval.py", "print(0)\n"),
        "an edit of the evaluator": edit("eval.py", "import", "import os, "),
        "the evaluator deleted": {"plan": "x", "delete": ["eval.py"]},
        "the data": write("data/eval/x.csv", "1,1\n"),
        "the table of results": write("results.tsv"),
        "the user's journal": write("human_journal.md", "META_MODE: on\n"),
        "the program": write("program.md"),
        "an empty path": write(""),
        "a path that is a dot": write("."),
        "a folder": write("models/"),
        "a folder as file": write("models"),
        "below a file": write("train.py/x.py"),
        "a backslash": write("models\\x.py"),
        "a null byte": write("a\0.py"),
        "a line break": write("a\nb.py"),
        "a long name": write("a" * 300 + ".py"),
        "a long path": write("a/" * 900 + "x.py"),
        "a file that is not there": edit("models/none.py"),
        "an edit of nothing": edit("models/width.py", ""),
        "an edit of what is not there": edit("models/width.py", "nowhere"),
        "an edit of what is there twice": edit("train.py", "import"),
        "ten thousand edits": {"plan": "x", "edits": [
            {"path": "models/width.py", "search": "WIDTH", "replace": "WIDTH"}] * 9_999
            + [{"path": "models/width.py", "search": "gone", "replace": ""}]},
        "a file twice": {"plan": "x", "files": [{"path": "models/a.py", "content": text} for text in ("", "x = 1\n")]},
        "a file that is deleted too": write("models/width.py") | {"delete": ["models/width.py"]},
        "a file that is edited too": write("models/width.py") | edit("models/width.py"),
        "deleted twice": {"plan": "x", "delete": ["models/width.py"] * 2},
        "an edit of what is deleted": edit("models/width.py") | {"delete": ["models/width.py"]},
        "two names in one without case": {"plan": "x", "files": [
            {"path": f"models/{name}.py", "content": "x = 1\n"} for name in ("Wide", "wide")]},
        "two names in one without normal form": {"plan": "x", "files": [
            {"path": f"models/caf{name}.py", "content": "x = 1\n"} for name in ("\u00e9", "e\u0301")]},
        "a name of the base without case": write("Train.py"),
        "201 files": {"plan": "x", "files": [{"path": f"models/m{n}.py", "content": ""} for n in range(201)]},
        "201 files in three lists": {"plan": "x", "files": [{"path": f"a{n}.py", "content": ""} for n in range(100)],
            "edits": [{"path": f"b{n}.py", "search": "a", "replace": ""} for n in range(100)], "delete": ["c.py"]},
        "nothing at all": {"plan": "I would set the slope."},
        "nothing, in empty lists": {"plan": "x", "files": [], "edits": [], "delete": []},
        "a NUL in a file": write("models/a.py", "x = 1\ny = '\0'\n"),
        "a NUL in a file that is not Python": write("models/a.txt", "a\0b"),
        "a NUL in an edit": edit("models/width.py", replace="\0"),
        "no Python": write("models/a.py", "def f(x:\n    pass\n"),
        "a return outside of a function": write("models/a.py", "return 1\n"),
        "Python 2": write("models/a.py", "print 'hello'\n"),
        "prose as code": write("models/a.py", "Here is the file, as you asked.\n"),
        "an edit that breaks the file": edit("models/width.py", replace="WIDTH ="),
        "one good, one bad": {"plan": "x", "files": [
            {"path": "models/new.py", "content": "x = 1\n"}, {"path": "eval.py", "content": ""}]},
    }.items()],
    *[gave(name, output, stage="implementation_review") for name, output in {
        "a hundred long findings": {"findings": [FINDING | {"message": "word " * 3_900}] * 100},
        "an unknown severity": {"findings": [FINDING | {"severity": "fatal"}]},
        "a verdict of its own": {"findings": [], "status": "pass"},
        "findings in words": {"findings": "none"},
        "a gate of its own": {"findings": [], "required_checks": {"sacred": "pass"}},
    }.items()],
    *[gave(name, output, stage="update_docs") for name, output in {
        "no claim": {"observation": "a", "inference": "b"},
        "a paper in words": GOOD["update_docs"] | {"paper": "all of it"},
        "numbers of its own": GOOD["update_docs"] | {"accuracy": 1.0},
    }.items()],
    gave("a target out of the lab", GOOD["update_docs"] | {"paper": [{"path": "../escape.md", "text": "x"}]},
         stage="update_docs"),
    gave("a hundred papers", GOOD["update_docs"] | {"paper": [{"path": f"p{n}.md", "text": "x" * 3_000}
                                                              for n in range(100)]}, stage="update_docs"),
    *[Case(f"update_docs: {name}", ({"output": GOOD["update_docs"] | {"paper": [{"path": path, "text": "x"}]}},),
           ("ok",), stage="update_docs") for name, path in {
        "an unknown target": "paper/other.md",
        "the results as target": "results.tsv",
    }.items()],
    *[gave(name, output, stage="decide_repeat") for name, output in {
        "an unknown word": {"decision": "celebrate", "reason": "x"},
        "a word in capitals": {"decision": "STOP", "reason": "x"},
        "no reason": {"decision": "stop"},
        "two words": {"decision": ["stop", "refine"], "reason": "x"},
        "its own verdict": {"decision": "stop", "reason": "x", "verdict": "kept"},
        "both names": {"decision": "stop", "action": "refine", "reason": "x"},
        "a reason of five megabytes": {"decision": "stop", "reason": "word " * 1_000_000},
        "giving up in five megabytes": {"status": "failed", "summary": "word " * 1_000_000},
    }.items()],
    Case("decide_repeat: achieved without a target", ({"output": {"decision": "achieve", "reason": "surely"}},),
         ("ok",), stage="decide_repeat"),
]  # fmt: skip

TABLE = [
    *[("openai", one) for one in (*HYPOTHESIS, *SERVICE, *OPENAI_BODIES, *OPENAI_USAGE, *OTHERS)],
    *[("anthropic", one) for one in (*HYPOTHESIS[::15], *KINDS, *BODIES[::3], *ODD[::2], *ANTHROPIC_BODIES)],
    *[("anthropic", one) for one in (*STATUS[::4], *ERRORS[::3], *RATES[::6], *WAY[::5])],
]


def rows() -> Iterator[Any]:
    """What the other form has, too, is read by the same code behind the wire, of which test_wire.py has both forms."""
    both = {one.name for form, one in TABLE if form == "openai"}
    for form, one in TABLE:
        again = [pytest.mark.nightly] if form == "anthropic" and one.name in both else []
        yield pytest.param(form, one, id=f"{form}-{one.name}"[:90], marks=again)


def test_the_table_is_as_long_as_promised() -> None:
    assert len({one.name for _, one in TABLE}) >= 150
    assert len({(form, one.name) for form, one in TABLE}) == len({(form, id(one)) for form, one in TABLE})


@pytest.mark.process
@pytest.mark.parametrize(("form", "case"), list(rows()))
def test_a_bad_answer_is_on_record_and_the_lab_as_it_was(
    rig: Rig, form: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "RATE_WAITS", 3)
    state = rig.kit.state()
    if state["stage"] != case.stage or state["stage_attempt"] > SERIES:
        rig.go_to(case.stage)
    places = {"TLS": rig.server.url.replace("http", "https"), "ELSEWHERE": f"{rig.server.origin}/elsewhere/v1"}
    rig.who(form, **{name: places.get(value, value) for name, value in case.who.items()})
    rig.tell(*[_trapped(one, rig.trap.url) for one in case.replies])
    count = len(rig.kit.events())
    code, out, err = rig.autolab("run")
    new = rig.kit.events()[count:]
    assert code == (3 if case.user else 0), out + err
    assert "Traceback" not in out + err
    calls = [line["data"] for line in new if line["event"] == "call"]
    assert tuple(one["reason"] for one in calls) == case.reasons, [one["said"] for one in calls]
    assert all(one["input_tokens"] >= 0 and one["output_tokens"] >= 0 for one in calls)
    assert all(one["said"].isprintable() for one in calls)
    assert out.replace("\n", "").isprintable() and KEY not in out + err + json.dumps(new)
    state = rig.kit.state()
    if case.user:
        assert (state["stage"], state["from_stage"]) == ("human_review", case.stage)
        assert rig.autolab("review", "retry")[0] == 0
    assert rig.kit.state()["stage"] == case.stage
    assert rig.looks() == rig.looked[case.stage]
    assert not rig.trap.requests


def _trapped(reply: dict[str, Any], url: str) -> dict[str, Any]:
    headers = reply.get("headers", {})
    return reply | {"headers": headers | {"Location": url}} if "Location" in headers else reply


@pytest.mark.process
def test_a_lab_that_met_them_all_is_sound_and_goes_on(rig: Rig) -> None:
    rig.go_to("hypothesis")
    rig.who("openai", timeout_s=0.5)
    told_back = [one for one in ERRORS if "key" in one.name]
    for one in (*HYPOTHESIS[::20], *SERVICE[::12], *told_back):
        rig.tell(*[_trapped(reply, rig.trap.url) for reply in one.replies])
        if rig.autolab("run")[0] == 3:
            assert rig.autolab("review", "retry")[0] == 0
    rig.who("openai")
    rig.step({"output": GOOD["hypothesis"]})
    assert rig.kit.state()["stage"] == "design"
    code, out, err = rig.autolab("verify")
    assert code == 0, out + err
    files = [path for path in rig.kit.root.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()], "the key is nowhere in the lab"
    replies = [json.loads(path.read_text()) for path in rig.kit.store.rglob("*.reply.json") if "calls" in path.parts]
    packed = [b64decode(one["body"]) for one in replies if one["base64"]]
    assert not [body for body in packed if KEY.encode() in body]


TAKEN = {
    "bare": J,
    "in a fence": f"```json\n{J}\n```",
    "in a fence without a name": f"```\n{J}\n```",
    "in a fence of one line": f"```json\n{J}```",
    "with Windows' line ends": f"```JSON\r\n{J}\r\n```\r\n",
    "with spaces around": f"\n\t {J} \n",
    "with a byte order mark": f"\ufeff{J}",
    "marks of direction inside": J.replace("steeper", "\u202esteeper"),
    "emoji": J.replace("steeper", "\U0001f680"),
    "a fence in a text": J.replace("A steeper slope fits better.", "```js```"),
    "prose before": f"Here it is:\n{J}",
    "prose after": f"{J}\nI hope this helps!",
    "prose before a fence": f"Sure:\n```json\n{J}\n```",
    "prose after a fence": f"```json\n{J}\n```\nDone.",
    "a fence that is not closed": f"```json\n{J}",
    "a fence that is only closed": f"{J}\n```",
    "a fence of tildes": f"~~~\n{J}\n~~~",
    "an assignment": f"output = {J}",
    "two byte order marks": f"\ufeff\ufeff{J}",
    "a mark of direction before it": f"\u202e{J}",
    "thoughts before": f"<think>{{ {J[:30]} or {J}?</think>{J}",
    "thoughts without a beginning": f'a {{brace and a quote": {J[:30]}\n</think>\n\n{J}',
    "braces in prose": f"For {{x | x > 0}} and {{{{name}}}} I say: {J} (and \\frac{{a}}{{b}})",
    "an example in prose": f'Not {{"lr": 0.1}} alone, so: {J}',
    "marks of thoughts inside": J.replace("steeper", "steeper </think> <think> {", 1),
    "giving up": json.dumps({"status": "failed", "summary": "no data"}),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_fits_is_taken(name: str) -> None:
    form = AnswerForm("hypothesis", HypothesisOutput)
    assert output_parser.read_answer(ModelReply(TAKEN[name], "ok"), form).problem == ""
