"""Programs that use up memory, shared memory, disk and output beyond their share.

The limits: 100 MiB of memory, 24 processes, 20 MiB of disk, 100 kB of output. Each holds what it got for a second or so
before it says so: a burst is not yet a harm.
"""

from __future__ import annotations

from .program import Program

MEMORY, SHARED, DISK, OUTPUT = "memory", "shared memory", "disk", "output"
KEEP = "\ntime.sleep(1)\nheld()\n"

PROGRAMS = [
    Program("heap", MEMORY, "takes 250 MB in one piece", "data = b'x' * 250_000_000" + KEEP, ("held",), ("memory",)),
    Program(
        "by_children",
        MEMORY,
        "takes 240 MB in six processes, none of which is over the limit",
        """
for _ in range(6):
    if os.fork() == 0:
        data = b'x' * 40_000_000
        time.sleep(1)
        open('count', 'ab', 0).write(b'x')
        time.sleep(0.3)
        os._exit(0)
for _ in range(6):
    os.wait()
if os.path.getsize('count') == 6:
    held()
""",
        ("held",),
        ("memory",),
    ),
    Program(
        "memory_file",
        MEMORY,
        "writes 250 MB into files that have no name and no folder",
        """
for _ in range(25):
    os.write(os.memfd_create('x'), b'x' * 10_000_000)
"""
        + KEEP,
        ("held",),
        ("memory",),
    ),
    Program(
        "memory_file_in_flight",
        MEMORY,
        "sends memory files to itself over a socket and closes them: no process holds them any more",
        """
import array, socket
left, right = socket.socketpair()
for _ in range(25):
    fd = os.memfd_create('x')
    os.write(fd, b'x' * 10_000_000)
    left.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])
    os.close(fd)
"""
        + KEEP,
        ("held",),
    ),
    Program(
        "shared_map",
        MEMORY,
        "takes 250 MB that it shares with a child, and lets the child hold them",
        """
import mmap
data = mmap.mmap(-1, 250_000_000)
if os.fork() == 0:
    for at in range(0, len(data), 4096):
        data[at] = 1
    time.sleep(1)
    held()
    os._exit(0)
data.close()
os.wait()
""",
        ("held",),
    ),
    Program(
        "by_another_program",
        MEMORY,
        "lets a tool of the system keep 250 MB for it",
        """
head -c 250000000 /dev/zero | tail -n 1 | {
    sleep 1.2
    [ "$(wc -c)" = 250000000 ] && : > held
}
""",
        ("held",),
        shell=True,
    ),
    Program(
        "socket_buffers",
        MEMORY,
        "lets the kernel keep 200 MB in sockets that nobody reads",
        """
import resource, socket
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
pairs, kept = [], 0
while kept < 200_000_000:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pairs.append(pair)
    for one in pair:
        one.setblocking(False)
        try:
            while True:
                kept += one.send(b'x' * 65536)
        except BlockingIOError:
            pass
"""
        + KEEP,
        ("held",),
    ),
    Program(
        "temporary_files",
        MEMORY,
        "fills the folder for temporary files, which may lie in memory",
        """
place = os.environ.get('TMPDIR', '/tmp')
for number in range(12):
    open(f'{place}/{number}', 'wb').write(b'x' * 5_000_000)
"""
        + KEEP,
        ("held",),
        box={"memory_bytes": 40 << 20},
    ),
    Program(
        "named_memory",
        SHARED,
        "keeps 250 MB in /dev/shm",
        """
for i in range(25):
    open('/dev/shm/' + F['shared'] + f'-more{i}', 'wb').write(b'x' * 10_000_000)
"""
        + KEEP,
        ("held",),
        ("memory",),
    ),
    Program(
        "nameless_memory",
        SHARED,
        "keeps 250 MB in files of /dev/shm that it has deleted",
        """
path = '/dev/shm/' + F['shared'] + '-more'
files = []
for i in range(25):
    files.append(open(path, 'wb', 0))
    os.unlink(path)
    files[-1].write(b'x' * 10_000_000)
"""
        + KEEP,
        ("held",),
    ),
    Program(
        "segments",
        SHARED,
        "keeps 240 MB in segments that outlive every process",
        """
libc.shmat.restype = ctypes.c_void_p
for number in range(6):
    segment = call(libc.shmget(0, 40_000_000, 0o1600))
    address = libc.shmat(segment, None, 0)
    libc.shmctl(segment, 0, None)
    ctypes.memset(address, 1, 40_000_000)
"""
        + KEEP,
        ("held",),
        ("memory",),
    ),
    Program(
        "leave_a_segment",
        SHARED,
        "leaves a segment behind, by which a later trial is told what this one saw",
        """
call(libc.shmget(F['more_key'], 4096, 0o1666))
time.sleep(0.2)
""",
        ("shared_changed",),
        ("seccomp+ipc",),
        during="look_at_shared_memory",
    ),
    Program(
        "read_a_segment",
        SHARED,
        "reads a segment of another program of the user",
        """
libc.shmat.restype = ctypes.c_void_p
segment = call(libc.shmget(F['key'], 0, 0))
loot(ctypes.string_at(libc.shmat(segment, None, 0), 100))
""",
        ("secret_read",),
        ("seccomp+ipc",),
    ),
    Program(
        "write_a_segment",
        SHARED,
        "changes a segment of another program of the user",
        """
libc.shmat.restype = ctypes.c_void_p
segment = call(libc.shmget(F['key'], 0, 0))
ctypes.memset(libc.shmat(segment, None, 0), 0x21, 20)
""",
        ("shared_changed",),
        ("seccomp+ipc",),
    ),
    Program(
        "take_a_message",
        SHARED,
        "takes a message out of a queue of another program",
        """
queue = call(libc.msgget(F['key'], 0))
there = ctypes.create_string_buffer(200)
size = call(libc.msgrcv(queue, there, 100, 0, 0o4000))
loot(there.raw)
""",
        ("secret_read",),
        ("seccomp+ipc",),
    ),
    Program(
        "read_named_memory",
        SHARED,
        "reads a file of another program in /dev/shm",
        "loot(open('/dev/shm/' + F['shared'], 'rb').read())\n",
        ("secret_read",),
    ),
    Program(
        "remove_named_memory",
        SHARED,
        "removes a file of another program from /dev/shm",
        "os.unlink('/dev/shm/' + F['shared'])\n",
        ("shared_changed",),
    ),
    Program(
        "one_large_file",
        DISK,
        "writes one file of 50 MB",
        "file = open('large', 'wb')\nfor _ in range(50):\n    file.write(b'x' * 1_000_000)\nfile.flush()" + KEEP,
        ("held",),
        ("disk",),
    ),
    Program(
        "many_files",
        DISK,
        "writes 50 files of 1 MB, none of which is large",
        "for i in range(50):\n    open(str(i), 'wb').write(b'x' * 1_000_000)" + KEEP,
        ("held",),
        ("disk",),
    ),
    Program(
        "deleted_but_open",
        DISK,
        "writes 5 files of 10 MB that it has deleted: no walk through the folders finds them",
        """
files = [open(str(i), 'wb') for i in range(5)]
for i, file in enumerate(files):
    os.unlink(str(i))
    file.write(b'x' * 10_000_000)
    file.flush()
"""
        + KEEP,
        ("held",),
        ("disk",),
    ),
    Program(
        "reserved",
        DISK,
        "reserves 50 MB in files that stay empty",
        """
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
for i in range(5):
    call(libc.fallocate(os.open(str(i), os.O_CREAT | os.O_WRONLY), 1, 0, 10_000_000))
"""
        + KEEP,
        ("held",),
    ),
    Program(
        "written_by_memory",
        DISK,
        "lets the kernel write 50 MB that it changed in memory only",
        """
import mmap
for i in range(5):
    with open(str(i), 'w+b') as file:
        file.truncate(10_000_000)
        there = mmap.mmap(file.fileno(), 10_000_000)
        for at in range(0, 10_000_000, 4096):
            there[at] = 1
        there.flush()
        there.close()
"""
        + KEEP,
        ("held",),
        box={"memory_bytes": 200 << 20},
    ),
    Program(
        "hidden_below",
        DISK,
        "writes 50 MB into a folder that it closes to all others",
        """
os.makedirs('a/b')
for i in range(50):
    open(f'a/b/{i}', 'wb').write(b'x' * 1_000_000)
os.chmod('a/b', 0o300)
os.chmod('a', 0o300)
"""
        + KEEP,
        ("held",),
    ),
    Program(
        "sparse",
        DISK,
        "leaves a file that takes no room here and a terabyte wherever it is copied",
        "open('weights', 'wb').truncate(1 << 40)\n",
        ("collection_unsafe",),
    ),
    Program(
        "countless",
        DISK,
        "leaves more than ten thousand empty files",
        """
for folder in range(12):
    os.mkdir(str(folder))
    for name in range(900):
        os.close(os.open(f'{folder}/{name}', os.O_CREAT | os.O_WRONLY))
""",
        ("collection_unsafe",),
        limit_s=20,
    ),
    Program(
        "flood",
        OUTPUT,
        "prints 5 MB",
        "for _ in range(5000):\n    print('x' * 999)\n",
        ("log_flooded",),
    ),
    Program(
        "both_streams",
        OUTPUT,
        "keeps each stream just below the cap",
        "os.write(1, b'x' * 60_000)\nos.write(2, b'x' * 60_000)\n",
        ("log_flooded",),
    ),
    Program(
        "flood_after_the_end",
        OUTPUT,
        "leaves a child that prints on when the first process has ended",
        """
if os.fork() == 0:
    os.setsid()
    for _ in range(300):
        try:
            os.write(1, b'x' * 2000)
        except OSError:
            break
        time.sleep(0.002)
    time.sleep(5)
os._exit(0)
""",
        ("survived",),
    ),
    Program(
        "erase_the_log",
        OUTPUT,
        "empties its own log, so that nobody sees what it did first",
        """
os.write(1, b'what I did first\\n')
try:
    os.truncate('/proc/self/fd/1', 0)
except OSError:
    os.ftruncate(1, 0)
""",
        ("log_lost",),
    ),
    Program(
        "log_by_its_path",
        OUTPUT,
        "writes to its log by the path, past the counter of what it prints",
        """
with open('../logs/train.err', 'ab') as file:
    for _ in range(3000):
        file.write(b'x' * 1000)
""",
        ("log_flooded",),
    ),
    Program(
        "holds_the_pipe",
        OUTPUT,
        "leaves a child that keeps the output open, so that whoever reads to its end waits",
        """
if os.fork() == 0:
    os.setsid()
    for fd in range(3, 20):
        try:
            os.close(fd)
        except OSError:
            pass
    sleeper()
os.write(1, b'all done\\n')
os._exit(0)
""",
        ("survived",),
    ),
]
