"""Entries through worker threads: a loop's results, in order, few at a time, and nothing left behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from faceum.batching import Pace, run_in_order

PACE = Pace(workers=3, group=4)


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("faceum")]


def square(number):
    return number * number


def negated(numbers):
    return [-number for number in numbers]


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 57])
@pytest.mark.parametrize("pace", [PACE, Pace(workers=1, group=1), Pace(workers=9, group=2)])
def test_results_are_those_of_a_loop_in_its_order(count, pace):
    expected = [-number * number for number in range(count)]
    assert list(run_in_order(range(count), square, negated, pace)) == expected
    assert not workers()


def test_order_is_kept_when_later_entries_are_ready_first():
    def slow_at_first(number):
        time.sleep(0.02 * (number % 5 == 0))
        return number

    assert list(run_in_order(range(30), slow_at_first, negated, PACE)) == [-number for number in range(30)]


def test_several_threads_prepare_and_the_callers_finishes():
    prepared, finished = set(), set()

    def prepare(number):
        prepared.add(threading.get_ident())
        time.sleep(0.01)
        return number

    def finish(numbers):
        finished.add(threading.get_ident())
        return numbers

    assert list(run_in_order(iter(range(20)), prepare, finish, PACE)) == list(range(20))
    assert len(prepared) == 3 and finished == {threading.get_ident()}


def test_one_entry_alone_needs_no_thread():
    here = []
    results = run_in_order(
        [7], square, negated, PACE, alone=lambda n: here.append(threading.get_ident()) or n
    )
    assert list(results) == [-7] and here == [threading.get_ident()]
    assert list(run_in_order([7, 8], square, negated, PACE, alone=lambda n: 0)) == [-49, -64]


def test_few_entries_are_held_however_many_there_are():
    class Entry:
        pass

    living, most = weakref.WeakSet(), 0

    def entries():
        for _ in range(300):
            entry = Entry()
            living.add(entry)
            yield entry

    for _ in run_in_order(entries(), lambda entry: entry, lambda group: [None] * len(group), PACE):
        most = max(most, len(living))
    assert PACE.group < most <= PACE.group * (PACE.ahead + 2)
    gc.collect()
    assert not living


def test_failure_waits_until_its_turn():
    def prepare(number):
        if number == 6:
            raise ZeroDivisionError("six")
        return number

    results = run_in_order(range(50), prepare, negated, PACE)
    got = []
    with pytest.raises(ZeroDivisionError, match="six"):
        for result in results:
            got.append(result)
    assert got == [0, -1, -2, -3, -4, -5] and not workers()


@pytest.mark.parametrize("good", [0, 1, 6])
def test_entries_that_cannot_be_taken_fail_after_those_before(good):
    def entries():
        yield from range(good)
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="disk"):
        for result in run_in_order(entries(), square, negated, PACE, alone=square):
            got.append(result)
    assert got == [-number * number for number in range(good)] and not workers()


def test_interruption_while_taking_does_not_wait():
    def entries():
        yield from range(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_in_order(entries(), square, negated, PACE))
    assert not workers()


def test_closing_leaves_no_worker():
    begun = []

    def prepare(number):
        begun.append(number)
        time.sleep(0.01)
        return number

    results = run_in_order(range(10_000), prepare, negated, PACE)
    assert next(results) == 0
    assert workers()
    results.close()
    assert not workers() and len(begun) < 40


INTERRUPTED = """
import time
from faceum.batching import Pace, run_in_order

def prepare(number):
    time.sleep(0.05)
    return number

for result in run_in_order(range(100_000), prepare, list, Pace(workers=4, group=4)):
    print(result, flush=True)
"""


def test_ctrl_c_ends_the_process_and_its_workers():
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "0\n"
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=20)
    assert process.returncode != 0 and complaint.rstrip().endswith("KeyboardInterrupt")
