"""Reading ahead: the same things in the same order, their errors, and a thread that ends."""

import threading
from collections.abc import Iterator

import pytest

from data.read_ahead import AHEAD, read_ahead


def threads_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_the_same_things_come_in_the_same_order() -> None:
    assert list(read_ahead(iter(range(20)))) == list(range(20))
    assert list(read_ahead(iter([]))) == []
    assert threads_alive() == []


def test_things_are_made_before_they_are_asked_for_but_never_many() -> None:
    made = []
    enough = threading.Semaphore(0)

    def making() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            enough.release()
            yield number

    items = read_ahead(making())
    assert next(items) == 0
    for _ in range(1 + AHEAD):  # the one that came, and those after it
        assert enough.acquire(timeout=10)
    assert not enough.acquire(timeout=0.05)
    assert made == list(range(1 + AHEAD))
    items.close()


def test_an_error_comes_in_the_place_of_its_thing() -> None:
    def making() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    items = read_ahead(making())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert threads_alive() == []
    assert list(items) == []


def test_closing_ends_the_thread_and_what_it_reads_from() -> None:
    ended = threading.Event()

    def making() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    items = read_ahead(making())
    next(items)
    assert threads_alive() != []
    items.close()
    assert threads_alive() == []
    assert ended.wait(10)
