"""Work ahead of its consumer: order, how far ahead, and what errors on either side leave."""

import threading

import pytest

from tcig.eval.ahead import AHEAD, ahead


def test_as_map_in_order_from_one_other_thread():
    threads = set()

    def work(number):
        threads.add(threading.current_thread())
        return number**2

    assert list(ahead(work, range(50), "squares")) == [n**2 for n in range(50)]
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_none_of_none():
    assert list(ahead(str, [], "none")) == []


def test_items_are_drawn_no_further_than_they_may_wait():
    drawn = []
    results = ahead(str, (drawn.append(n) or n for n in range(20)), "strings")
    for asked, _ in enumerate(results, start=1):
        assert len(drawn) <= asked + AHEAD
    assert len(drawn) == 20


def test_work_goes_on_while_the_consumer_holds_a_result():
    later = threading.Event()
    for number in ahead(lambda n: later.set() if n == AHEAD else None, range(AHEAD + 1), "later"):
        assert later.wait(10), number


def test_what_is_begun_is_ended_when_items_fail():
    def items():
        yield from range(AHEAD)
        raise KeyError

    done = []
    with pytest.raises(KeyError):
        list(ahead(done.append, items(), "done"))
    assert done == list(range(AHEAD))


def test_what_is_begun_is_ended_when_the_consumer_stops():
    done = []
    results = ahead(done.append, range(99), "done")
    next(results)
    results.close()
    assert done == list(range(AHEAD + 1))


def test_an_error_of_the_work_reaches_the_consumer_after_the_results_before_it():
    results = ahead(lambda n: 6 // n, [3, 2, 0, 1], "quotients")
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
