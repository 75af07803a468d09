"""A small CIFAR-10 in its official form, and a server on this machine that sends it as badly as a test asks."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

import numpy as np

FOLDER = "cifar-10-batches-py"
TRAIN, TEST = tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch"


def batch(rows: int, seed: int) -> bytes:
    """A batch file byte for byte in the form of Python 2, as the official ones are: noise on a level of the class."""
    noise = np.random.default_rng(seed)
    labels = np.arange(rows) % 10
    pixels = (20 * labels[:, None] + noise.integers(0, 56, (rows, 3072))).astype(np.uint8)
    return official(pixels, labels.tolist())


def official(pixels: np.ndarray, labels: list[int]) -> bytes:
    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def two(value: int) -> bytes:
        return b"M" + value.to_bytes(2, "little")

    kind = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\0K\1\x87R(K\3"
        + text(b"|")
        + b"NNN"
        + 2 * b"J\xff\xff\xff\xff"
        + b"K\0tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R(K\1"
    array += two(len(pixels)) + two(3072) + b"\x86" + kind + b"\x89"
    array += b"T" + pixels.size.to_bytes(4, "little") + pixels.tobytes() + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\2}(" + text(b"labels") + numbers + text(b"data") + array + b"u."


def batches() -> dict[str, bytes]:
    """200 pictures for training, 60 for testing."""
    return {name: batch(40, seed) for seed, name in enumerate(TRAIN)} | {TEST: batch(60, 5)}


def archive(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """A .tar.gz of them, in the archive's folder; a TarInfo stands for what is no plain file."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for name, content in {"batches.meta": b"names", **files}.items():
            if isinstance(content, bytes):
                info = tarfile.TarInfo(f"{FOLDER}/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                content.name = f"{FOLDER}/{name}"
                tar.addfile(content)
    return whole.getvalue()


class Server:
    """Sends `content` under any path; `asked` is where each request wanted to begin.

    `cuts`: after how many bytes the first answers break off. `ranges`: whether it can send a part.
    """

    def __init__(self, content: bytes, *, cuts: tuple[int, ...] = (), ranges: bool = True, status: int = 200) -> None:
        self.content = content
        self.asked: list[int] = []
        self._cuts = list(cuts)
        server = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if ranges else None
                start = int(begin[1]) if begin else 0
                server.asked.append(start)
                rest = server.content[start:]
                if status != 200 or not rest:
                    self.send_error(416 if status == 200 else status)
                    return
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(rest)))
                if begin:
                    self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
                self.end_headers()
                self.wfile.write(rest[: server._cuts.pop(0)] if server._cuts else rest)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._thread = Thread(target=self._server.serve_forever)

    @property
    def env(self) -> dict[str, str]:
        """What names this server and its archive to the lab."""
        return {
            "AUTOLAB_CIFAR10_URL": f"http://127.0.0.1:{self._server.server_port}/cifar-10-python.tar.gz",
            "AUTOLAB_CIFAR10_MD5": hashlib.md5(self.content).hexdigest(),
            "no_proxy": "127.0.0.1",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
