"""Jobs as hostile files would like them; imported by the processes of `test_isolation.py`, as a registered family would be."""

from __future__ import annotations

import ctypes
import os
import time

from llana_gmn.web.reading import JOBS


def endless(arguments, progress):
    while True:
        progress("turning in circles", 1, 2)
        time.sleep(0)


def greedy(arguments, progress):
    kept = []
    while True:
        kept.append(bytearray(64 << 20))
        for place in range(0, len(kept[-1]), 4096):
            kept[-1][place] = 1


def crash(arguments, progress):
    ctypes.string_at(0)


def vanish(arguments, progress):
    os._exit(0)


def broken(arguments, progress):
    raise KeyError("/a/path/of/the/server")


def deep(arguments, progress):
    return deep(arguments, progress)


def refuse(arguments, progress):
    raise ValueError("the file is green; expected a red one")


def know(arguments, progress):
    return {"process": os.getpid(), "said": arguments["said"]}


JOBS.update({each.__name__: each for each in (endless, greedy, crash, vanish, broken, deep, refuse, know)})
