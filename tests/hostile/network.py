"""Programs that talk to what is outside, or let it talk to them."""

from __future__ import annotations

from .program import Program

NETWORK, SOCKETS = "network", "sockets"

PROGRAMS = [
    Program(
        "connect",
        NETWORK,
        "connects to a service of this machine",
        "import socket\nsocket.create_connection(('127.0.0.1', F['tcp']), 2).sendall(b'hello')\n",
        ("listener_reached",),
        layers=("net",),
    ),
    Program(
        "connect_v6",
        NETWORK,
        "connects to a service that listens on the newer protocol alone",
        "import socket\nsocket.create_connection(('::1', F['tcp6']), 2).sendall(b'hello')\n",
        ("listener_reached",),
        layers=("net",),
    ),
    Program(
        "datagram",
        NETWORK,
        "sends what it saw in a datagram, without a connection",
        """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'seen', ('127.0.0.1', F['udp']))
""",
        ("listener_reached",),
        layers=("net", "partial:seccomp"),
    ),
    Program(
        "connect_while_sending",
        NETWORK,
        "connects without connect(), by a first packet that carries data",
        """
import socket
socket.socket().sendto(b'hello', 0x20000000, ('127.0.0.1', F['tcp']))
""",
        ("listener_reached",),
    ),
    Program(
        "mapped_address",
        NETWORK,
        "writes the old address as a new one, past a filter of the old family",
        """
import socket
one = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
one.settimeout(2)
one.connect(('::ffff:127.0.0.1', F['tcp']))
""",
        ("listener_reached",),
    ),
    Program(
        "backdoor",
        NETWORK,
        "listens on a port, so that somebody outside may come in",
        """
import socket
door = socket.socket()
door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
door.bind(('127.0.0.1', F['backdoor']))
door.listen(5)
door.settimeout(1)
door.accept()
""",
        ("heard",),
        layers=("net",),
        during="knock",
    ),
    Program(
        "by_a_tool",
        NETWORK,
        "lets a shell of the system connect for it",
        """
import subprocess
subprocess.run(['/bin/bash', '-c', f"echo hello > /dev/tcp/127.0.0.1/{F['tcp']}"], timeout=5)
""",
        ("listener_reached",),
    ),
    Program(
        "queue_of_requests",
        NETWORK,
        "lets the kernel make and connect a socket from a queue in memory, without a call for it",
        """
import mmap, struct
params = ctypes.create_string_buffer(120)
ring = call(libc.syscall(425, 4, params))
there = struct.unpack('<30I', params.raw)
queue = mmap.mmap(ring, 4096 * 4, offset=0)
entries = mmap.mmap(ring, 4096, offset=0x10000000)
where = struct.pack('<H', 2) + struct.pack('>H', F['tcp']) + bytes([127, 0, 0, 1]) + bytes(8)
address = ctypes.create_string_buffer(where)
tail, array = there[10 + 1], there[10 + 6]
done = there[20 + 5]

def ask(entry):
    number = struct.unpack_from('<I', queue, tail)[0]
    entries[:64] = entry.ljust(64, bytes(1))
    struct.pack_into('<I', queue, array + 4 * (number & 3), 0)
    struct.pack_into('<I', queue, tail, number + 1)
    call(libc.syscall(426, ring, 1, 1, 1, None, 0))
    return struct.unpack_from('<i', queue, done + 16 * (number & 7) + 8)[0]

fd = ask(struct.pack('<BBHiQQI', 45, 0, 0, 2, 1, 0, 0))
ask(struct.pack('<BBHiQQI', 16, 0, 0, fd, 16, ctypes.addressof(address), 0))
""",
        ("listener_reached",),
    ),
    Program(
        "socket_file",
        SOCKETS,
        "talks to a service by its socket in a folder, as one would to a container's",
        "import socket\nsocket.socket(socket.AF_UNIX).connect(F['unix'])\n",
        ("listener_reached",),
        layers=("partial:seccomp",),
    ),
    Program(
        "socket_file_datagram",
        SOCKETS,
        "sends a datagram to a service's file, as one would to the system's log",
        "import socket\nsocket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'seen', F['unix_datagram'])\n",
        ("listener_reached",),
    ),
    Program(
        "abstract_socket",
        SOCKETS,
        "talks to a service whose socket has a name and no file",
        "import socket\nsocket.socket(socket.AF_UNIX).connect(F['abstract'])\n",
        ("listener_reached",),
        layers=("net",),
    ),
    Program(
        "abstract_backdoor",
        SOCKETS,
        "listens on a name without a file, for an accomplice",
        """
import socket
door = socket.socket(socket.AF_UNIX)
door.bind('\\0backdoor-' + F['plant'])
door.listen(5)
door.settimeout(1)
door.accept()
""",
        ("heard",),
        layers=("net",),
        during="knock_by_name",
    ),
    Program(
        "inherited_descriptor",
        SOCKETS,
        "reads every descriptor that it was started with",
        """
for fd in range(3, 256):
    try:
        loot(os.pread(fd, 1000, 0))
    except OSError:
        pass
""",
        ("secret_read",),
    ),
    Program(
        "inherited_input",
        SOCKETS,
        "reads the input of the one who started it",
        "loot(os.read(0, 1000))\n",
        ("secret_read",),
    ),
    Program(
        "kernel_by_socket",
        SOCKETS,
        "asks the kernel for the names of all listening sockets",
        """
import socket, struct
line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
ask = struct.pack('<BBHIII2I', 1, 0, 0, 0xffffffff, 0, 0x1, 0xffffffff, 0xffffffff)
line.sendto(struct.pack('<IHHII', 16 + len(ask), 20, 0x301, 1, 0) + ask, (0, 0))
line.settimeout(1)
while True:
    answer = line.recv(65536)
    loot(answer)
    if struct.unpack_from('<H', answer, 4)[0] == 3:
        break
""",
        ("secret_read",),
    ),
]
