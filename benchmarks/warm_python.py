"""A python for benchmarks that has imported torch already: `python: <this>` in a lab's config.yaml.

    benchmarks/warm_python.py SOCKET train.py [...]      as `python train.py [...]`
    benchmarks/warm_python.py SOCKET --serve             the process that is forked for each script

Importing torch costs more than a small training; a benchmark of a thousand trials would mostly measure imports. The
first call starts a server (one a socket) that imports torch and numpy, on one thread, and nothing of any
lab; each script runs in a fork of it, with the caller's environment, folder and output. What is not a script (`-c ...`)
is given to the real interpreter. The same seeds give the same bytes as a cold start.

What it is not: a way to run trials that nobody trusts. A killed caller leaves its fork to end by itself.
"""

import array
import json
import os
import runpy
import socket
import subprocess
import sys
import time
import traceback

IDLE_S = 600.0


def main(place, *words):
    if words == ("--serve",):
        return serve(place)
    if not words or words[0].startswith("-"):
        os.execv(sys.executable, [sys.executable, *words])
    with connect(place) as link:
        order = json.dumps({"argv": words, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
        descriptors = array.array("i", [0, 1, 2])
        link.sendmsg([len(order).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        link.sendall(order)
        status = link.recv(1)
    return status[0] if status else 70


def connect(place):
    """The server's socket; the server is started where there is none."""
    for attempt in range(400):
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(place)
        except OSError:
            link.close()
            if attempt == 0:
                command = [sys.executable, __file__, place, "--serve"]
                null = subprocess.DEVNULL
                subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True, env={}, cwd="/")
            time.sleep(0.05)
        else:
            return link
    raise SystemExit(f"warm_python: no server at {place}")


def serve(place):
    """Fork for every caller until nobody has called for a while."""
    lock = os.open(f"{place}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.lockf(lock, os.F_TLOCK, 0)
    except OSError:
        return 0
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    import numpy  # noqa: F401
    import torch  # noqa: F401

    if os.path.exists(place):
        os.unlink(place)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        os.chmod(place, 0o600)
        door.listen(64)
        door.settimeout(IDLE_S)
        while True:
            try:
                link, _ = door.accept()
            except TimeoutError:
                os.unlink(place)
                return 0
            if os.fork() == 0:  # twice, so that the server has no children to wait for
                door.close()
                if os.fork() == 0:
                    answer(link)
                os._exit(0)
            os.wait()
            link.close()


def answer(link):
    """Run one caller's script in a child of its own and say how it ended."""
    head, ancillary, _, _ = link.recvmsg(4, socket.CMSG_SPACE(3 * 4))
    size, order = int.from_bytes(head, "big"), b""
    while len(order) < size:
        order += link.recv(size - len(order))
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2][:12])
    told = json.loads(order)
    child = os.fork()
    if child == 0:
        link.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os._exit(run(told))
    _, status = os.waitpid(child, 0)
    link.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
    os._exit(0)


def run(told):
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    sys.argv = told["argv"]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr, flush=True)
            return 1
        return ended.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
