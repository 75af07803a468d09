"""Programs that multiply, outlive their end, or lay hands on other processes."""

from __future__ import annotations

from .program import Program

FORKS, THREADS, SIGNALS = "forks", "threads", "ptrace and signals"
ROOM = {"memory_bytes": 1 << 30}  # so that only the count is in question

PROGRAMS = [
    Program(
        "forty_children",
        FORKS,
        "starts more processes than it may have",
        """
pids = []
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        sleeper()
    pids.append(pid)
time.sleep(0.8)
if all(os.waitpid(pid, os.WNOHANG)[0] == 0 for pid in pids):
    held()
""",
        ("held",),
        layers=("processes",),
        box=ROOM,
    ),
    Program(
        "bomb",
        FORKS,
        "forks in all its children at once",
        """
for _ in range(5):
    os.fork()
time.sleep(0.5)
with open('count', 'ab', 0) as file:
    file.write(b'x')
time.sleep(0.3)
if os.path.getsize('count') > 30:
    held()
sleeper()
""",
        ("held",),
        layers=("processes",),
        limit_s=2,
        box=ROOM,
    ),
    Program(
        "daemon",
        FORKS,
        "forks twice, in a session of its own, and ignores every signal that can be ignored",
        """
import signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for one in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(one, signal.SIG_IGN)
        for fd in (0, 1, 2):
            os.close(fd)
        sleeper()
os._exit(0)
""",
        ("survived",),
    ),
    Program(
        "disguise",
        FORKS,
        "goes on under another name, without arguments and environment, in another folder",
        """
if os.fork() == 0:
    os.setsid()
    keep = os.open('loot', os.O_CREAT | os.O_RDWR)
    os.set_inheritable(keep, True)
    os.chdir('/')
    os.execve('/bin/sleep', ['[kworker/0:1]', '60'], {})
os._exit(0)
""",
        ("survived",),
    ),
    Program(
        "child_of_the_parent",
        FORKS,
        "makes its child a child of its parent, where nobody looks for it",
        """
if call(libc.syscall(number(56, 220), 0x8000 | 17, 0, 0, 0, 0)) == 0:
    sleeper()
time.sleep(0.05)
os._exit(0)
""",
        ("survived",),
    ),
    Program(
        "adopting_parent",
        FORKS,
        "makes itself the keeper of its orphans, and stops itself so that no wait ends",
        """
import signal
call(libc.prctl(36, 1, 0, 0, 0))
for _ in range(3):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            sleeper()
        os._exit(0)
os.kill(os.getpid(), signal.SIGSTOP)
""",
        ("survived", "overstayed"),
        limit_s=1,
    ),
    Program(
        "stopped_children",
        FORKS,
        "leaves children that are stopped and cannot react to anything polite",
        """
import signal
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        os.kill(os.getpid(), signal.SIGSTOP)
        sleeper()
time.sleep(0.05)
os._exit(0)
""",
        ("survived",),
    ),
    Program(
        "zombies",
        FORKS,
        "fills the table of processes with dead ones that it never buries",
        """
for _ in range(40):
    if os.fork() == 0:
        os._exit(0)
time.sleep(1)
dead = 0
for pid in os.listdir('/proc'):
    if pid.isdigit():
        try:
            fields = open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()
        except OSError:
            continue
        dead += fields[0] == 'Z' and int(fields[1]) == os.getpid()
if dead == 40:
    held()
""",
        ("held",),
        box=ROOM,
    ),
    Program(
        "spawned_by_the_shell",
        FORKS,
        "lets a shell start what goes on, with nohup and in the background",
        """
nohup setsid sleep 60 > /dev/null 2>&1 &
exit 0
""",
        ("survived",),
        shell=True,
    ),
    Program(
        "never_ends",
        FORKS,
        "ignores the end of its time and goes on",
        """
import signal
for one in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(one, signal.SIG_IGN)
pid = os.fork()
os.setsid() if pid == 0 else None
time.sleep(60)
""",
        ("overstayed", "survived"),
        limit_s=1,
    ),
    Program(
        "forty_threads",
        THREADS,
        "starts more threads than it may have processes",
        """
import threading
threads = [threading.Thread(target=time.sleep, args=(1.2,), daemon=True) for _ in range(40)]
for one in threads:
    one.start()
time.sleep(0.8)
if sum(one.is_alive() for one in threads) == 40:
    held()
os._exit(0)
""",
        ("held",),
        layers=("processes",),
        box=ROOM,
    ),
    Program(
        "threads_of_many",
        THREADS,
        "shares forty threads out among five processes, none of which has many",
        """
import threading
for _ in range(5):
    if os.fork() == 0:
        threads = [threading.Thread(target=time.sleep, args=(1.5,), daemon=True) for _ in range(8)]
        for one in threads:
            one.start()
        time.sleep(0.8)
        if all(one.is_alive() for one in threads):
            with open('count', 'ab', 0) as file:
                file.write(b'x')
        time.sleep(0.3)
        os._exit(0)
for _ in range(5):
    os.wait()
if os.path.getsize('count') == 5:
    held()
""",
        ("held",),
        box=ROOM,
    ),
    Program(
        "first_thread_gone",
        THREADS,
        "ends its first thread, so that it looks dead while another goes on",
        """
import threading
threading.Thread(target=sleeper).start()
time.sleep(0.05)
libc.syscall(number(60, 93), 0)
""",
        ("overstayed",),
        limit_s=1,
    ),
    Program(
        "exec_in_a_thread",
        THREADS,
        "lets a second thread become another program, under the number of the first",
        """
import threading
def go():
    if os.fork() == 0:
        os.setsid()
        os.execv('/bin/sleep', ['sleep', '60'])
    os.execv('/bin/true', ['true'])
threading.Thread(target=go).start()
time.sleep(5)
""",
        ("survived",),
    ),
    Program(
        "threads_that_breed",
        THREADS,
        "starts a thread from every thread, so that the count doubles",
        """
import threading
def breed(depth):
    if depth:
        for _ in range(2):
            threading.Thread(target=breed, args=(depth - 1,), daemon=True).start()
    time.sleep(1.2)
threading.Thread(target=breed, args=(5,), daemon=True).start()
time.sleep(0.8)
if threading.active_count() > 50:
    held()
os._exit(0)
""",
        ("held",),
        box=ROOM,
    ),
    Program(
        "kill_another",
        SIGNALS,
        "kills another process of the user",
        "import signal\nos.kill(F['pid'], signal.SIGKILL)\ntime.sleep(0.05)\n",
        ("sentinel_harmed",),
    ),
    Program(
        "stop_by_descriptor",
        SIGNALS,
        "stops another process by a descriptor of it",
        """
import signal
fd = os.pidfd_open(F['pid'])
signal.pidfd_send_signal(fd, signal.SIGSTOP)
time.sleep(0.05)
""",
        ("sentinel_harmed",),
    ),
    Program(
        "signal_by_pipe",
        SIGNALS,
        "lets the kernel kill another process when a pipe has something to read",
        """
import fcntl, signal
there, here = os.pipe()
fcntl.fcntl(there, 10, signal.SIGKILL)
fcntl.fcntl(there, fcntl.F_SETOWN, F['pid'])
fcntl.fcntl(there, fcntl.F_SETFL, fcntl.fcntl(there, fcntl.F_GETFL) | 0x2000)
os.write(here, b'x')
time.sleep(0.05)
""",
        ("sentinel_harmed",),
    ),
    Program(
        "kill_the_keeper",
        SIGNALS,
        "kills its parent, which watches over its limits",
        "import signal\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(0.3)\n",
        ("killed",),
    ),
    Program(
        "kill_the_group",
        SIGNALS,
        "kills its whole process group",
        "import signal\nos.kill(0, signal.SIGKILL)\ntime.sleep(0.3)\n",
        ("killed",),
    ),
    Program(
        "trace_another",
        SIGNALS,
        "takes another process over as a debugger would, and leaves it stopped",
        """
call(libc.ptrace(16, F['pid'], None, None))
os.waitpid(F['pid'], 0x40000000)
call(libc.ptrace(17, F['pid'], None, ctypes.c_void_p(19)))
time.sleep(0.05)
""",
        ("sentinel_harmed",),
    ),
    Program(
        "read_memory",
        SIGNALS,
        "reads the memory of another process by a system call",
        """
class Span(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
stack = next(line for line in open(f"/proc/{F['pid']}/maps") if '[stack]' in line)
start, end = (int(word, 16) for word in stack.split()[0].split('-'))
there = ctypes.create_string_buffer(end - start)
mine, other = Span(ctypes.addressof(there), end - start), Span(start, end - start)
call(libc.process_vm_readv(F['pid'], ctypes.byref(mine), 1, ctypes.byref(other), 1, 0))
loot(there.raw)
""",
        ("secret_read",),
    ),
    Program(
        "steal_a_descriptor",
        SIGNALS,
        "takes an open file out of another process",
        """
fd = os.pidfd_open(F['pid'])
mine = call(libc.syscall(438, fd, F['held_fd'], 0))
loot(os.pread(mine, 1000, 0))
""",
        ("secret_read",),
    ),
    Program(
        "lower_limits",
        SIGNALS,
        "takes another process's right to open files away",
        """
import resource
soft, hard = resource.prlimit(F['pid'], resource.RLIMIT_NOFILE)
resource.prlimit(F['pid'], resource.RLIMIT_NOFILE, (3, hard))
""",
        ("sentinel_harmed",),
    ),
    Program(
        "lower_priority",
        SIGNALS,
        "lets another process wait behind everything else",
        "os.setpriority(os.PRIO_PROCESS, F['pid'], 19)\n",
        ("sentinel_harmed",),
    ),
    Program(
        "crowd_on_one_core",
        SIGNALS,
        "confines another process to one core",
        "os.sched_setaffinity(F['pid'], {min(os.sched_getaffinity(F['pid']))})\n",
        ("sentinel_harmed",),
        partial=False,
    ),
]
