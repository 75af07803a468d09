#!/bin/sh
# Print the interpreter of the trials: `python` of config.yaml, else the lab's venv/bin/python, else the one that runs
# Autolab, which the lab's record names.
set -eu
control=$(cd "$(dirname "$0")" && pwd)
record=$(git -C "$control" rev-parse --path-format=absolute --git-common-dir)
lab=$(dirname "$record")
named=$(sed -n 's/^python:[[:space:]]*\([^#]*[^#[:space:]]\).*$/\1/p' "$control/config.yaml" | tr -d "\"'")
case "$named" in
    "" | null | "~")
        if [ -x "$lab/venv/bin/python" ]; then
            echo "$lab/venv/bin/python"
        elif [ -f "$record/autolab/interpreter" ]; then
            cat "$record/autolab/interpreter"
        else
            echo python3
        fi
        ;;
    /*) echo "$named" ;;
    */*) echo "$lab/$named" ;;
    *) echo "$named" ;;
esac
