#!/usr/bin/env bash
# Makes venv/ with everything that `make test`, `make check` and `make demo` need, and stamps it (venv/.stamp) when whole.
#   PYTHON               the interpreter to build on (default: the first of python3, python3.13, 3.12, 3.11 that fits)
#   AUTOLAB_TORCH_INDEX  where torch alone is taken from, e.g. https://download.pytorch.org/whl/cpu (default: pip's own index)
# Run again it repairs: a venv that was moved or lost its interpreter is made anew, missing packages are added.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; }

choose_python() {
  local name
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if fits "$name"; then
      echo "$name"
      return
    fi
  done
  echo "bootstrap: none of '${PYTHON:-python3 python3.13 python3.12 python3.11}' is Python 3.11-3.13 with venv: install one" \
    "(Debian: apt install python3-venv; macOS: brew install python@3.13) or name it: PYTHON=/path/to/python make" >&2
  return 1
}

command -v git >/dev/null || { echo "bootstrap: git is missing (Debian: apt install git; macOS: xcode-select --install)" >&2; exit 1; }
# Scripts in venv/bin carry the absolute path they were installed under, so a moved venv would run the old place's.
if ! { fits venv/bin/python && grep -qF "$PWD/venv/bin/python" venv/bin/pip; } 2>/dev/null; then
  python=$(choose_python)
  echo "bootstrap: making venv/ with $("$python" --version)" >&2
  "$python" -m venv --clear venv
fi
rm -f venv/.stamp
export PIP_DISABLE_PIP_VERSION_CHECK=1
if [ -n "${AUTOLAB_TORCH_INDEX:-}" ]; then
  venv/bin/pip install --quiet --index-url "$AUTOLAB_TORCH_INDEX" "$(grep '^torch==' requirements-pip.txt)"
fi
echo "bootstrap: installing the pinned stack (torch is large: this can take minutes)" >&2
venv/bin/pip install --quiet -r requirements-pip.txt
venv/bin/pip install --quiet -e ".[torch,llm,mcp,dev]"
touch venv/.stamp
