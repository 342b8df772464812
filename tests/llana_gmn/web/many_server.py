"""A server for `test_many_visitors.py`: serves until its standard input ends, then says how long its visitors waited.

python -m tests.llana_gmn.web.many_server MODEL NERFS
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict

from llana_gmn.checkpoints.loading import load_model
from llana_gmn.web.access import AccessOptions
from llana_gmn.web.options import ServiceOptions
from llana_gmn.web.server import running
from llana_gmn.web.state import Service

from .conftest import SMALL


class TimedLock:
    """A lock that knows how long each waited for it."""

    waited: list[float] = []  # noqa: RUF012 (all locks')

    def __init__(self):
        self._lock = threading.Lock()

    def acquire(self, timeout=-1):
        began = time.monotonic()
        found = self._lock.acquire(timeout=timeout)
        self.waited.append(time.monotonic() - began)
        return found

    def release(self):
        self._lock.release()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        self.release()


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(model_path, nerfs):
    model, processor = load_model(model_path)
    options = ServiceOptions(max_upload=1 << 20, sizes=SMALL, generation={"max_new_tokens": 6})
    with Service(model, processor, options=options) as service:
        service.gallery._locks = defaultdict(TimedLock)
        service._lock = TimedLock()
        service.gallery.fill(nerfs)
        with running(service, port=0, access=AccessOptions(rate=600)) as address:
            say(address)
            sys.stdin.read()
    lines = {"questions": service.questions, "uploads": service.reading, "pictures": service.gallery._rendering}
    waits = {"locks": TimedLock.waited, **{name: line.waited for name, line in lines.items()}}
    say(json.dumps(waits))


if __name__ == "__main__":
    main(*sys.argv[1:])
