"""Programs that lay out their results against whoever collects, unpacks, walks or clears them."""

from __future__ import annotations

from .program import Program

SPECIAL = "archives and special files"

PROGRAMS = [
    Program(
        "link_to_a_file",
        SPECIAL,
        "leaves a link to the secret among its results",
        "os.symlink(F['secret'], 'result.txt')\n",
        ("secret_read",),
    ),
    Program(
        "link_to_a_folder",
        SPECIAL,
        "leaves a link to a private folder among its results",
        "os.symlink(F['private'], 'model')\n",
        ("secret_read",),
    ),
    Program(
        "link_to_itself",
        SPECIAL,
        "leaves a link to the folder in which it lies, for those who follow",
        "os.symlink('.', 'again')\n",
        ("collection_unsafe",),
    ),
    Program(
        "two_names",
        SPECIAL,
        "leaves one file under two names, of which a later change of one changes the other",
        "open('a', 'w').write('x')\nos.link('a', 'b')\n",
        ("collection_unsafe",),
    ),
    Program(
        "pipe",
        SPECIAL,
        "leaves a pipe, on which a copy waits for ever",
        "os.mkfifo('weights')\n",
        ("collection_unsafe",),
    ),
    Program(
        "socket",
        SPECIAL,
        "leaves a socket",
        "os.mknod('weights', 0o140600)\n",
        ("collection_unsafe",),
    ),
    Program(
        "runs_as_its_owner",
        SPECIAL,
        "leaves a program that runs with the rights of whoever owns the copy",
        "open('tool', 'w').write('#!/bin/sh')\nos.chmod('tool', 0o6755)\n",
        ("collection_unsafe",),
    ),
    Program(
        "deep",
        SPECIAL,
        "leaves folders within folders, deeper than a recursive walk can go",
        """
for _ in range(1200):
    os.mkdir('d')
    os.chdir('d')
""",
        ("collection_unsafe",),
    ),
    Program(
        "names_with_commands",
        SPECIAL,
        "gives its results names that move the cursor of a terminal and end lines",
        "for name in ('a\\x1b[2J', 'b\\nc', 'd\\re'):\n    open(name, 'w').close()\n",
        ("collection_unsafe",),
    ),
    Program(
        "names_that_are_no_text",
        SPECIAL,
        "gives its results names that are no text",
        "open(b'\\xff\\xfe', 'w').close()\nos.mkdir(b'\\x80')\n",
        ("collection_unsafe",),
    ),
    Program(
        "names_that_turn",
        SPECIAL,
        "gives a result a name that reads as another kind of file",
        "open('model\\u202etxt.exe', 'w').close()\n",
        ("collection_unsafe",),
    ),
    Program(
        "closed_folder",
        SPECIAL,
        "closes its results to everybody, so that they can be neither read nor cleared away",
        """
os.makedirs('closed/inner')
open('closed/inner/file', 'w').close()
os.chmod('closed/inner/file', 0)
os.chmod('closed/inner', 0)
os.chmod('closed', 0)
""",
        ("collection_unsafe",),
    ),
    Program(
        "cannot_be_removed",
        SPECIAL,
        "marks a result as one that nobody may remove",
        """
import fcntl, struct
fd = os.open('stays', os.O_CREAT | os.O_RDONLY)
fcntl.ioctl(fd, 0x40086602, struct.pack('l', 0x10))
held()
""",
        ("held",),
        root=True,
    ),
    Program(
        "archive_with_dots",
        SPECIAL,
        "leaves an archive whose file names climb out of wherever it is unpacked",
        """
import io, tarfile
with tarfile.open('model.tar', 'w') as file:
    for name in ('../outside/' + F['plant'], F['outside'] + '/absolute'):
        one = tarfile.TarInfo(name)
        one.size = 4
        file.addfile(one, io.BytesIO(b'here'))
""",
        ("host_changed",),
        then=("unpack",),
    ),
    Program(
        "archive_with_links",
        SPECIAL,
        "leaves an archive that first makes a link and then writes through it",
        """
import io, tarfile
with tarfile.open('model.tar', 'w') as file:
    link = tarfile.TarInfo('way')
    link.type, link.linkname = tarfile.SYMTYPE, F['outside']
    file.addfile(link)
    one = tarfile.TarInfo('way/' + F['plant'])
    one.size = 4
    file.addfile(one, io.BytesIO(b'here'))
""",
        ("host_changed",),
        then=("unpack",),
    ),
    Program(
        "zip_with_dots",
        SPECIAL,
        "leaves a compressed archive that writes where it likes, for those who join paths themselves",
        """
import zipfile
with zipfile.ZipFile('model.zip', 'w') as file:
    file.writestr('../outside/' + F['plant'], 'here')
""",
        ("host_changed",),
        then=("unpack",),
    ),
    Program(
        "archive_that_swells",
        SPECIAL,
        "leaves an archive of 60 KB that becomes 60 MB",
        """
import zipfile
with zipfile.ZipFile('model.zip', 'w', zipfile.ZIP_DEFLATED) as file:
    with file.open('weights', 'w') as inner:
        for _ in range(60):
            inner.write(bytes(1_000_000))
""",
        ("host_changed",),
        then=("unpack",),
    ),
    Program(
        "model_that_runs",
        SPECIAL,
        "leaves a model that is code as soon as somebody loads it",
        """
import pickle
class Model:
    def __reduce__(self):
        return open, (F['outside'] + '/' + F['plant'], 'w')
open('model.pkl', 'wb').write(pickle.dumps(Model()))
""",
        ("planted_code_ran",),
        then=("load",),
    ),
    Program(
        "repository_that_runs",
        SPECIAL,
        "leaves a repository whose configuration names a program that git runs in it",
        """
plant = F['outside'] + '/' + F['plant']
os.makedirs('.git/objects')
os.makedirs('.git/refs')
open('.git/HEAD', 'w').write('ref: refs/heads/main')
with open('.git/config', 'w') as file:
    file.write('[core]\\n\\tfsmonitor = touch ' + plant + ';:\\n')
""",
        ("planted_code_ran",),
        then=("look with git",),
    ),
    Program(
        "tests_that_run",
        SPECIAL,
        "leaves tests and their configuration, which a test runner finds and runs",
        """
for name in ('conftest.py', 'test_results.py'):
    with open(name, 'w') as file:
        file.write('open(' + repr(F['outside'] + '/' + F['plant']) + ', "w")')
""",
        ("planted_code_ran",),
        then=("look with pytest",),
    ),
]
