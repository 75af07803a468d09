"""Programs that reach for other files, directly, by links, and by races."""

from __future__ import annotations

from .program import Program

FILES = "files and links"
RACES = "races"

PROGRAMS = [
    Program(
        "read_by_path",
        FILES,
        "reads a file of the user and keeps a copy among its results",
        "loot(open(F['secret'], 'rb').read())\n",
        ("secret_read",),
        layers=("uid+mounts", "partial:landlock"),
    ),
    Program(
        "read_by_descriptors",
        FILES,
        "climbs out of its folder by opening .. from descriptor to descriptor",
        """
fd = os.open('.', os.O_RDONLY)
while not os.path.samestat(os.fstat(fd), os.stat('..', dir_fd=fd)):
    fd = os.open('..', os.O_RDONLY, dir_fd=fd)
loot(open(os.open(F['secret'][1:], os.O_RDONLY, dir_fd=fd), 'rb').read())
""",
        ("secret_read",),
    ),
    Program(
        "list_private",
        FILES,
        "lists a private folder, whose names say enough",
        "loot(repr(os.listdir(F['private'])))\n",
        ("secret_read",),
        layers=("partial:landlock",),
    ),
    Program(
        "read_a_link",
        FILES,
        "reads where a link of the user points to",
        "loot(os.readlink(F['pointer']))\n",
        ("secret_read",),
        partial=False,
    ),
    Program(
        "measure_a_file",
        FILES,
        "learns size and time of a file of the user without opening it",
        "loot(repr(os.stat(F['secret'])))\nheld()\n",
        ("held",),
        partial=False,
    ),
    Program(
        "overwrite",
        FILES,
        "overwrites a file of the user",
        "open(F['keep'], 'w').write('gone')\n",
        ("host_changed",),
        layers=("uid+mounts", "partial:landlock"),
    ),
    Program("unlink", FILES, "deletes a file of the user", "os.unlink(F['keep'])\n", ("host_changed",)),
    Program(
        "truncate_by_proc",
        FILES,
        "empties a file by the root link of its own process",
        "os.truncate('/proc/self/root' + F['keep'], 0)\n",
        ("host_changed",),
    ),
    Program(
        "create_outside",
        FILES,
        "leaves a file in a folder that anybody may write",
        "open(F['outside'] + '/' + F['plant'], 'w').write(F['plant'])\n",
        ("host_changed",),
    ),
    Program(
        "link_outside_nameless",
        FILES,
        "makes a nameless file next door and gives it a name afterwards",
        """
fd = os.open(F['outside'], os.O_TMPFILE | os.O_WRONLY)
os.write(fd, b'here')
call(libc.linkat(-100, f'/proc/self/fd/{fd}'.encode(), -100, (F['outside'] + '/named').encode(), 0x400))
""",
        ("host_changed",),
    ),
    Program(
        "move_in",
        FILES,
        "moves a file of the user into its own folder",
        "os.rename(F['keep'], 'keep')\n",
        ("host_changed",),
    ),
    Program(
        "exchange_folders",
        FILES,
        "exchanges its folder's content with a folder of the user in one call",
        """
os.mkdir('mine')
call(libc.renameat2(-100, b'mine', -100, F['private'].encode(), 2))
""",
        ("host_changed",),
    ),
    Program(
        "hard_link_write",
        FILES,
        "gives a file of the user a second name among its results and writes through it",
        "os.link(F['keep'], 'mine')\nopen('mine', 'w').write('gone')\n",
        ("host_changed",),
    ),
    Program(
        "symbolic_link_write",
        FILES,
        "writes to a file of the user through a link of its own",
        "os.symlink(F['keep'], 'result.txt')\nopen('result.txt', 'a').write('more')\n",
        ("host_changed",),
    ),
    Program(
        "shared_map_write",
        FILES,
        "changes a file of the user in memory, without a write",
        """
import mmap
with open(F['keep'], 'r+b') as file, mmap.mmap(file.fileno(), 0) as there:
    there[:4] = b'gone'
""",
        ("host_changed",),
    ),
    Program(
        "close_a_file",
        FILES,
        "takes the rights of a file away, so that nobody can read it",
        "os.chmod(F['keep'], 0)\n",
        ("host_changed",),
    ),
    Program(
        "age_a_file",
        FILES,
        "sets a file's time back, so that a build or a backup leaves it out",
        "os.utime(F['keep'], (1, 1))\n",
        ("host_changed",),
    ),
    Program(
        "attribute",
        FILES,
        "hangs an attribute on a file of the user",
        "os.setxattr(F['keep'], 'user.note', b'seen')\n",
        ("host_changed",),
    ),
    Program(
        "own_code",
        FILES,
        "rewrites the program that the next trial will run",
        "open(F['reads'] + '/program', 'a').write('print(1)')\n",
        ("host_changed",),
    ),
    Program(
        "take_the_lock",
        FILES,
        "holds the lock without which the engine cannot write its ledger",
        "import fcntl\nlock = open(F['lock'])\nfcntl.flock(lock, fcntl.LOCK_EX)\ntime.sleep(0.3)\n",
        ("heard",),
        during="try_the_lock",
        layers=("partial:landlock",),
    ),
    Program(
        "watch_the_user",
        FILES,
        "is told by the kernel whenever a file of the user is touched",
        """
fd = call(libc.inotify_init())
call(libc.inotify_add_watch(fd, F['private'].encode(), 0x3b))
held()
""",
        ("held",),
    ),
    Program(
        "queue_a_job",
        FILES,
        "adds a job without a sandbox to the queue of its own supervisor",
        """
step = {'name': 'x', 'argv': ['/bin/touch', F['outside'] + '/x'], 'cwd': '/', 'env': {}, 'time_limit_s': 5,
        'output_bytes': 0, 'box': {'level': 'none', 'without': [], 'reads': [], 'writes': []}}
job = {'key': 'x', 'trial': 'x', 'attempt': 1, 'order': 9, 'cores': 1, 'folder': F['work'] + '/x', 'steps': [step]}
open(F['work'] + '/jobs/x.a1.json', 'w').write(json.dumps(job))
""",
        ("work_changed",),
    ),
    Program(
        "cancel_a_sibling",
        FILES,
        "cancels the trial of a rival by the file that says so",
        "open(F['work'] + '/cancel/sibling.a1', 'w').close()\n",
        ("work_changed",),
    ),
    Program(
        "spoil_a_sibling",
        FILES,
        "replaces the predictions of the baseline by noise",
        "open(F['sibling'] + '/predictions.npy', 'wb').write(os.urandom(384))\n",
        ("host_changed",),
        layers=("partial:landlock",),
    ),
    # races: each goes on after the first process has ended, or against something outside
    Program(
        "swap_under_collection",
        RACES,
        "goes on after its end and swaps a result for a link to the secret, back and forth",
        """
open('b', 'w').write('harmless')
os.symlink(F['secret'], 'c')
if os.fork() == 0:
    os.setsid()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        libc.renameat2(-100, b'b', -100, b'c', 2)
os._exit(0)
""",
        ("secret_read", "survived"),
        race=True,
    ),
    Program(
        "swap_a_folder",
        RACES,
        "swaps a folder of its results for a link to a private folder while it is copied",
        """
os.mkdir('model')
open('model/notes.txt', 'w').write('harmless')
os.symlink(F['private'], 'other')
if os.fork() == 0:
    os.setsid()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        libc.renameat2(-100, b'model', -100, b'other', 2)
os._exit(0)
""",
        ("secret_read", "survived"),
        race=True,
    ),
    Program(
        "write_after_the_end",
        RACES,
        "goes on improving its results after the time that it was given",
        """
open('result', 'w').close()
if os.fork() == 0:
    os.setsid()
    for number in range(600):
        open('result', 'a').write(str(number))
        time.sleep(0.02)
os._exit(0)
""",
        ("collected_late",),
        race=True,
    ),
    Program(
        "fork_from_death",
        RACES,
        "each process forks the next and ends, so that whoever lists processes is too late",
        """
until = time.monotonic() + 20
open('pulse', 'w').close()
while time.monotonic() < until:
    fd = os.open('pulse', os.O_WRONLY | os.O_APPEND)
    os.write(fd, b'x')
    os.close(fd)
    if os.fork():
        os._exit(0)
    os.setsid()
""",
        ("collected_late",),
        race=True,
    ),
    Program(
        "swarm_at_the_end",
        RACES,
        "starts twenty processes at the very moment of its end",
        """
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            sleeper()
        os._exit(0)
os._exit(0)
""",
        ("survived",),
        race=True,
        box={"processes": 64, "memory_bytes": 1 << 30},
    ),
    Program(
        "grow_while_read",
        RACES,
        "goes on appending to a result whose size has been checked",
        """
open('weights', 'wb').write(b'w' * 1000)
if os.fork() == 0:
    if os.fork() == 0:
        file = open('weights', 'ab', 0)
        for _ in range(3000):
            file.write(b'w' * 1000)
            time.sleep(0.002)
    os._exit(0)
os._exit(0)
""",
        ("collected_late",),
        race=True,
    ),
]
