"""The processes of a run under ``torchrun`` or ``accelerate launch``: found before model and data are built.

Building comes first and the Trainer's arguments later, because PEFT and ZeRO-3 disagree about models that DeepSpeed partitions
while they are built.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
from torch import distributed


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def start_processes(*, deepspeed: bool = False) -> None:
    """Join the group of processes that a launcher started; nothing for a single one, or where it is joined already."""
    on_gpu = torch.cuda.is_available()
    if deepspeed and not on_gpu:
        _without_compiled_ops()
    if (world_size() == 1 and not deepspeed) or distributed.is_initialized():
        return
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", "29531")
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Embedding a data set on the main process may take longer than the usual half hour.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=timedelta(days=1))
    atexit.register(_leave)


def _leave() -> None:
    """End the group's threads before the interpreter does: what still runs then can abort a process that is done."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """The main process runs the block before the others do."""
    together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    if together and not is_main_process():
        distributed.barrier()
    try:
        yield
    finally:
        if together and is_main_process():
            distributed.barrier()


def _without_compiled_ops() -> None:
    """DeepSpeed compiles a shared-memory operator for minutes where it finds a compiler; gloo does without."""
    from gmn_encoder.extras import require

    deepspeed = require("deepspeed", "test")
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
