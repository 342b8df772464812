"""Whether bfloat16 is worth it here: asked of the processor once, in a process of its own, which may die of it.

Some virtual machines show AMX and forbid it: the first product of two bfloat16 matrices is then an illegal instruction.
"""

from __future__ import annotations

import functools
import logging
import subprocess
import sys

import torch

from .recipe import TrainingRecipe

_PROBE = """
import time, torch
def seconds(dtype):
    a = torch.ones(384, 384, dtype=dtype)
    times = []
    for _ in range(12):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return min(times)
print(seconds(torch.float32) / seconds(torch.bfloat16))
"""
_FASTER, _SECONDS = 1.2, 120

logger = logging.getLogger(__name__)


@functools.cache
def bfloat16_is_fast() -> bool:
    """Whether products of bfloat16 matrices are faster here than those of float32 ones: on the accelerator, else on the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        found = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    if found.returncode:
        logger.warning(
            "bfloat16 products fail on this processor, so float32 is used; where AMX is shown and forbidden, "
            "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment helps"
        )
        return False
    return float(found.stdout) > _FASTER


def with_precision(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe with `bf16` decided where it is left open, and with weights loaded in bfloat16 where it is chosen."""
    if recipe.bf16 is not None:
        return recipe
    fast = bfloat16_is_fast()
    return recipe.changed(bf16=fast, dtype=recipe.dtype or ("bfloat16" if fast else None))
