from __future__ import annotations

import threading

import pytest

from llana_gmn.web.lines import Line


class Crowd:
    """Visitors in a line, each in a thread; `leave` ends what a visitor has a turn for."""

    def __init__(self, line):
        self.line, self.order, self.leaving, self.threads = line, [], {}, []

    def come(self, name, visitor):
        self.leaving[name], waiting = threading.Event(), len(self.line._waiting) + len(self.line._served)

        def wait():
            with self.line.turn(visitor):
                self.order.append(name)
                self.leaving[name].wait(30)

        thread = threading.Thread(target=wait)
        thread.start()
        self.threads.append(thread)
        while len(self.line._waiting) + len(self.line._served) == waiting:
            pass

    def leave(self, name, *, then):
        self.leaving[name].set()
        until = threading.Event()
        for _ in range(500):
            if len(self.order) >= then:
                return
            until.wait(0.01)
        raise AssertionError(self.order)


def test_everybody_in_order_and_nobody_twice_at_a_time():
    crowd = Crowd(Line("questions", places=2, longest=9, own=9))
    for name in ("a1", "a2", "b1", "c1"):
        crowd.come(name, name[0])
    while len(crowd.order) < 2:
        pass
    assert sorted(crowd.order) == ["a1", "b1"]  # a2 was before, but a has its turn
    crowd.leave("a1", then=3)
    assert crowd.order[2] == "a2"
    crowd.leave("a2", then=4)
    assert crowd.order[3] == "c1"
    for each in crowd.leaving.values():
        each.set()
    for thread in crowd.threads:
        thread.join()
    assert len(crowd.line.waited) == 4 and not crowd.line._served


def test_too_many_are_told_so():
    line = Line("questions", places=1, longest=3, own=2)
    crowd = Crowd(line)
    for name in ("a1", "a2", "a3", "b1"):
        crowd.come(name, name[0])
    with pytest.raises(ValueError, match="2 of your questions are waiting already"), line.turn("a"):
        pass
    with pytest.raises(ValueError, match="3 questions of others are waiting; try again"), line.turn("c"):
        pass
    for each in crowd.leaving.values():
        each.set()
    for thread in crowd.threads:
        thread.join()
    with line.turn("a"):
        pass


def test_a_closed_line_sends_all_away():
    line, said = Line("questions", places=1, longest=9, own=9), []

    def wait():
        try:
            with line.turn("b"):
                pass
        except ValueError as error:
            said.append(str(error))

    thread = threading.Thread(target=wait)
    with line.turn("a"):
        thread.start()
        while not line._waiting:
            pass
        line.close()
        thread.join(30)
    assert said == ["the server is ending; come back later"]
