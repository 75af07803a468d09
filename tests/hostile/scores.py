"""Programs that move their own score: poisoned byte-code, a changed evaluator, forged numbers."""

from __future__ import annotations

from .program import Program

BYTECODE, EVALUATOR, METRICS = "byte-code poisoning", "evaluator tampering", "forged metrics"
POISON = """
import importlib.util, marshal
def poisoned(source, flags, first=0, second=0):
    code = compile(f"open({F['outside'] + '/' + F['plant']!r}, 'w').close()", source, 'exec')
    head = flags.to_bytes(4, 'little') + first.to_bytes(4, 'little') + second.to_bytes(4, 'little')
    return importlib.util.MAGIC_NUMBER + head + marshal.dumps(code)
"""
PREDICTIONS = """
import struct
def npy(rows):
    words = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, 2), }}".ljust(117).encode() + b'\\n'
    head = b'\\x93NUMPY\\x01\\x00' + struct.pack('<H', len(words)) + words
    return head + b''.join(struct.pack('<2f', *row) for row in rows)
def predict(rows):
    with open('predictions.npy', 'wb') as file:
        file.write(npy(rows))
"""
ZEROS = PREDICTIONS + "predict([(1.0, 0.0)] * 32)\n"

PROGRAMS = [
    Program(
        "code_by_time",
        BYTECODE,
        "leaves byte-code beside the lab's code with the time and size of the honest source",
        POISON
        + """
source = F['code'] + '/helper.py'
facts = os.stat(source)
path = importlib.util.cache_from_source(source)
open(path, 'wb').write(poisoned(source, 0, int(facts.st_mtime), facts.st_size))
""",
        ("planted_code_ran",),
        then=("import",),
    ),
    Program(
        "code_unchecked",
        BYTECODE,
        "leaves byte-code that says of itself that it need not be checked",
        POISON
        + "open(F['code'] + '/helper.' + sys.implementation.cache_tag + '.pyc', 'wb').write(poisoned('helper.py', 1))\n"
        + "os.replace(F['code'] + '/helper.' + sys.implementation.cache_tag + '.pyc',"
        " importlib.util.cache_from_source(F['code'] + '/helper.py'))\n",
        ("planted_code_ran",),
        then=("import",),
    ),
    Program(
        "code_of_the_scorer",
        BYTECODE,
        "leaves byte-code in the folder where the scorer keeps its own",
        POISON
        + """
sys.pycache_prefix = F['pycache']
path = importlib.util.cache_from_source(F['code'] + '/helper.py')
os.makedirs(os.path.dirname(path), exist_ok=True)
open(path, 'wb').write(poisoned('helper.py', 1))
""",
        ("planted_code_ran",),
        then=("import",),
    ),
    Program(
        "startup_module",
        BYTECODE,
        "leaves a sitecustomize.py where the interpreter will find it",
        "open(F['library'] + '/sitecustomize.py', 'w').write(f\"open({F['outside'] + '/' + F['plant']!r}, 'w')\")\n",
        ("planted_code_ran",),
        then=("load",),
    ),
    Program(
        "path_file",
        BYTECODE,
        "leaves a .pth file in the user's own site folder, of which each line is run",
        """
version = f'python{sys.version_info[0]}.{sys.version_info[1]}'
site = F['home'] + f'/.local/lib/{version}/site-packages'
os.makedirs(site)
open(site + '/x.pth', 'w').write(f"import os; open({F['outside'] + '/x'!r}, 'w')")
""",
        ("host_changed",),
    ),
    Program(
        "shadow_of_a_module",
        BYTECODE,
        "leaves modules called argparse and struct among its results, for a scorer that runs there",
        ZEROS
        + """
for name in ('argparse', 'struct', 'sitecustomize'):
    open(name + '.py', 'w').write(f"open({F['outside'] + '/' + F['plant']!r}, 'w').close()")
""",
        ("planted_code_ran",),
        then=("score",),
    ),
    Program(
        "rewrite_the_evaluator",
        EVALUATOR,
        "replaces the evaluator by one that praises",
        "open(F['evaluator'] + '/eval.py', 'w').write('print(1.0)')\n",
        ("host_changed",),
        layers=("uid+mounts",),
    ),
    Program(
        "replace_the_folder",
        EVALUATOR,
        "moves the evaluator's folder away and puts its own in its place",
        "os.rename(F['evaluator'], F['evaluator'] + '.old')\nos.mkdir(F['evaluator'])\n",
        ("host_changed",),
    ),
    Program(
        "copy_the_labels",
        EVALUATOR,
        "predicts by copying the labels",
        "data = open(F['labels'], 'rb').read()\nopen('predictions.npy', 'wb').write(data[:384])\n",
        ("record_forged",),
        then=("score",),
        layers=("uid+mounts", "partial:landlock"),
    ),
    Program(
        "turn_the_labels",
        EVALUATOR,
        "changes the labels to what it predicts",
        ZEROS + "os.replace('predictions.npy', F['labels'])\npredict([(1.0, 0.0)] * 32)\n",
        ("host_changed", "record_forged"),
        then=("score",),
    ),
    Program(
        "link_to_the_labels",
        EVALUATOR,
        "leaves a link to the labels as its predictions",
        "os.symlink(F['labels'], 'predictions.npy')\n",
        ("record_forged",),
        then=("score",),
    ),
    Program(
        "second_name_of_the_labels",
        EVALUATOR,
        "gives the labels a second name among its results",
        "os.link(F['labels'], 'predictions.npy')\n",
        ("record_forged",),
        then=("score",),
    ),
    Program(
        "code_for_predictions",
        EVALUATOR,
        "leaves predictions that are code as soon as an evaluator unpacks them",
        """
import pickle
class Perfect:
    def __reduce__(self):
        code = f"(open({F['outside'] + '/' + F['plant']!r}, 'w').close(), [(i * 7 + 3) % 5 % 2 for i in range(32)])[1]"
        return eval, (code,)
open('predictions.npy', 'wb').write(pickle.dumps(Perfect()))
""",
        ("planted_code_ran", "record_forged"),
        then=("score",),
    ),
    Program(
        "pipe_for_predictions",
        EVALUATOR,
        "leaves a pipe as its predictions, on which a scorer waits for ever",
        "os.mkfifo('predictions.npy')\n",
        ("collection_unsafe",),
        then=("score",),
    ),
    Program(
        "change_after_the_check",
        EVALUATOR,
        "waits after its end until the evaluator's hash has been checked, then changes it",
        """
if os.fork() == 0:
    os.setsid()
    time.sleep(0.3)
    open(F['evaluator'] + '/eval.py', 'a').write('# changed')
    sleeper()
os._exit(0)
""",
        ("survived",),
    ),
    Program(
        "praise_itself",
        METRICS,
        "writes the score that it would like to have",
        ZEROS + "open('metrics.json', 'w').write('{\"accuracy\": 1.0}')\n",
        ("record_forged",),
        then=("believe",),
    ),
    Program(
        "print_praise",
        METRICS,
        "prints the score that it would like to have",
        ZEROS + "print('accuracy: 1.0')\n",
        ("record_forged",),
        then=("believe the log",),
    ),
    Program(
        "no_number",
        METRICS,
        "writes a number that is none, which no comparison can refuse",
        ZEROS + "open('metrics.json', 'w').write('{\"accuracy\": NaN}')\n",
        ("record_forged",),
        then=("believe",),
    ),
    Program(
        "endless_number",
        METRICS,
        "writes a number that becomes infinite when it is read",
        ZEROS + "open('metrics.json', 'w').write('{\"accuracy\": 1e999}')\n",
        ("record_forged",),
        then=("believe",),
    ),
    Program(
        "same_key_twice",
        METRICS,
        "says two numbers under one name, for two readers",
        ZEROS + "open('metrics.json', 'w').write('{\"accuracy\": 0.1, \"accuracy\": 1.0}')\n",
        ("record_forged",),
        then=("believe",),
    ),
    Program(
        "nested_without_end",
        METRICS,
        "nests its metrics so deeply that the reader falls over",
        ZEROS + "open('metrics.json', 'w').write('[' * 30_000 + ']' * 30_000)\n",
        ("heard",),
        then=("believe",),
    ),
    Program(
        "pipe_for_metrics",
        METRICS,
        "leaves a pipe as its metrics",
        ZEROS + "os.mkfifo('metrics.json')\n",
        ("collection_unsafe",),
        then=("believe",),
    ),
    Program(
        "own_exit_document",
        METRICS,
        "writes the document that says how it ended",
        """
said = {'key': F['plant'], 'outcome': 'completed', 'step': 'train', 'returncode': 0, 'signal': None, 'seconds': 1.0,
        'cpu_seconds': 1.0, 'max_rss_bytes': 1, 'output_bytes': 0, 'started': '', 'ended': '', 'message': F['plant'],
        'steps': []}
open(F['work'] + '/exits/t.a1.json', 'w').write(json.dumps(said))
sys.exit(1)
""",
        ("work_changed",),
    ),
    Program(
        "exit_document_nearby",
        METRICS,
        "leaves an exit document where the collected attempt has its own",
        "open('../exit.json', 'w').write('{\"outcome\": \"completed\"}')\nsys.exit(1)\n",
        ("work_changed",),
    ),
]
