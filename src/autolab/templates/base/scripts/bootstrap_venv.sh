#!/usr/bin/env bash
# Make venv/ beside this lab from requirements-pip.txt. PYTHON names the interpreter to start from (3.11 to 3.13);
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gets the smaller build of torch on Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -m venv venv
./venv/bin/pip install --quiet -r requirements-pip.txt
./venv/bin/python -c "import torch, numpy, einops, jaxtyping, loguru, tyro; print('venv/ is ready')"
