#!/bin/sh
# Run Autolab: with the interpreter that ran it here last, which the lab's record names, else the one on PATH.
set -eu
control=$(cd "$(dirname "$0")" && pwd)
record=$(git -C "$control" rev-parse --path-format=absolute --git-common-dir)/autolab/interpreter
if [ -f "$record" ]; then
    python=$(cat "$record")
    # -P: a folder called autolab in the repository is not the program.
    if "$python" -P -c 'import autolab' 2>/dev/null; then
        exec "$python" -P -m autolab "$@"
    fi
fi
if command -v autolab >/dev/null 2>&1; then
    exec autolab "$@"
fi
echo "autolab.sh: no autolab on PATH, and the Python that ran it here is gone: activate its environment" >&2
exit 1
