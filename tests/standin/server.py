"""The server itself: what came, which reply it gets, and how that goes over the wire."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from standin.forms import (
    CHAT,
    MESSAGES,
    MODELS,
    RUNNING,
    ReceivedRequest,
    Wire,
    models,
    on_wire,
    parse_request,
    read_as,
    refused,
    wrong,
)
from standin.script import Script, ScriptedReply

HOST = "127.0.0.1"
NO_REPLY = "the script has no reply for this request"
DEFAULT_MODEL = "scripted"
_PIECES = 20
_POLL_S = 0.05


def _key(headers: Message) -> str:
    """The key that came, empty if none did."""
    return headers.get("x-api-key") or (headers.get("Authorization") or "").removeprefix("Bearer ").strip()


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request: every answer closes it."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "autolab-standin", ""
    server: _Server

    def do_POST(self) -> None:
        """Any request: what it asks for decides."""
        length = self.headers.get("Content-Length") or ""
        size = int(length) if length.isdecimal() else 0
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionAbortedError("the request was not sent to its end")
        # Anthropic's clients name their version with every request, also with one for the models.
        path, version = self.path.partition("?")[0], "anthropic-version" in self.headers
        wire = self.server.settle(self.command, path, version or path.startswith(MESSAGES), _key(self.headers), data)
        self.close_connection = True
        if not self.server.closing.wait(wire.scripted.delay_s) and not wire.scripted.drop:
            self._send(wire)

    do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST

    def _send(self, wire: Wire) -> None:
        scripted, body = wire.scripted, wire.body
        self.send_response(wire.status)
        for name, value in wire.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if scripted.cut is not None:
            body = body[: scripted.cut]
        if scripted.cut_chunked is not None:
            body = body[: scripted.cut_chunked]
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""  # a chunk of no bytes would be the end
        if not scripted.slow_s:
            self.wfile.write(body)
            return
        size = max(1, -(-len(body) // _PIECES))
        for start in range(0, len(body), size):
            self.wfile.write(body[start : start + size])
            if self.server.closing.wait(scripted.slow_s / _PIECES):
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: `StandIn.requests` has what came."""


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread a connection. `end` breaks those that are open, and returns when all threads are through."""

    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, settle: Callable[[str, str, bool, str, bytes], Wire], port: int) -> None:
        self.settle, self.closing = settle, threading.Event()
        self.bugs: list[BaseException] = []
        self._open: set[Any] = set()
        super().__init__((HOST, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to speak of; all else is a bug."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.bugs.append(error)
            super().handle_error(request, client_address)

    def end(self) -> None:
        self.closing.set()
        self.shutdown()
        for request in list(self._open):
            with contextlib.suppress(OSError):  # closed meanwhile
                request.shutdown(socket.SHUT_RDWR)
        self.server_close()


class StandIn:
    """The server, while the `with` block lasts. OpenAI's clients take `url` as their base, Anthropic's take `origin`.

    `answer` is called first, on any thread; it returns a reply, or None to let the script answer. `script` may be a
    list of replies as plain values. `requests` holds the requests that came. An exception in `answer` is printed,
    breaks that connection, and is raised again at the end of the block. `port`: 0 for any that is free.
    """

    def __init__(
        self,
        script: Script | Sequence[Mapping[str, Any]] = (),
        answer: Callable[[ReceivedRequest], ScriptedReply | None] | None = None,
        port: int = 0,
    ) -> None:
        if not isinstance(script, Script):
            script = Script.from_value({"replies": [dict(reply) for reply in script]}, "script")
        self.requests: list[ReceivedRequest] = []
        self._script, self._answer, self._port = script, answer, port
        self._left = [reply.times or None for reply in script.replies]
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = _Server(self._settle, self._port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="standin")
        self._thread.start()
        self.origin = f"http://{HOST}:{self._server.server_address[1]}"
        self.url = f"{self.origin}/v1"
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._server.end()
        self._thread.join()
        if self._server.bugs and kind is None:
            raise self._server.bugs[0]

    def _settle(self, method: str, path: str, anthropic: bool, key: str, data: bytes) -> Wire:
        """Record the request and choose its reply."""
        value = read_as(data)
        with self._lock:
            request = parse_request(len(self.requests) + 1, path, bool(key), value)
            self.requests.append(request)
        reply = self._outside(method, request, anthropic, key)
        if reply is None and self._answer is not None:
            reply = self._answer(request)
        if reply is None:
            reply = self._take(request)
        return on_wire(request, reply, anthropic)

    def _outside(self, method: str, request: ReceivedRequest, anthropic: bool, key: str) -> ScriptedReply | None:
        """What is answered without asking the script: the models, and what a service refuses."""
        if (method, request.path) == ("GET", RUNNING) and self._answer is not None:
            return self._answer(request) or refused(404, "not Ollama")
        if (method, request.path) not in (("GET", MODELS), ("POST", CHAT), ("POST", MESSAGES)):
            return refused(404, f"no such address: {method} {request.path}")
        if self._script.key is not None and key != self._script.key:
            return refused(401, "the key is missing or wrong")
        if method == "GET":
            return ScriptedReply(body=json.dumps(models(self._script.models or (DEFAULT_MODEL,), anthropic)))
        if reason := wrong(request):
            return refused(400, reason)
        if self._script.models and request.model not in self._script.models:
            return refused(404, f"the model {request.model!r} does not exist", "model_not_found")
        return None

    def _take(self, request: ReceivedRequest) -> ScriptedReply:
        """The first reply that fits and is not used up; an error where there is none."""
        with self._lock:
            for index, reply in enumerate(self._script.replies):
                left = self._left[index]
                if left == 0 or (reply.when is not None and not re.search(reply.when, request.text)):
                    continue
                self._left[index] = None if left is None else left - 1
                return reply
        return refused(500, NO_REPLY)
