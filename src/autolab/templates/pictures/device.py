"""Where the tensors live, and what makes sums come out the same twice."""

from __future__ import annotations

import os

import torch


def settle() -> torch.device:
    """CUDA where there is one, else this processor, set so that the same work gives the same result twice.

    One thread: sums on one thread have one order. CUDA: deterministic kernels, with a warning where there is none.
    """
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")
