"""Ends the process of a trial that takes more than its share while its machine runs short of memory."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from data.memory import memory_in_use, private_memory, total_memory
from search.resources import Machine, Needs

REASON_FILE = "out_of_memory.txt"  # in the folder of a trial, or of a fold, whose process was ended
SHORT = 0.92  # of the memory, from which on it is short; Ray itself ends any process from 0.95 on
OWN_FAULT = 0.5  # of its share, which a process may hold when a trial begins in it: more was left by earlier ones
SECONDS_BETWEEN_LOOKS = 0.5
GIB = 2**30


@contextmanager
def guarded(folder: Path, at_a_time: Callable[[], int]) -> Iterator[None]:
    """Inside, a thread ends this process when memory is short and it holds more than its share; the folder says why.

    Where an earlier trial of the process has left it large, nobody is to blame: then the folder says nothing, and the
    trial is started again in a fresh process.

    at_a_time: gives how many processes like this one share the machine.
    """
    with suppress(OSError):  # of a disk that fails: the training itself waits for it
        (folder / REASON_FILE).unlink()
    began, over = private_memory(), threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if memory_in_use() < SHORT:
                continue
            share, held = total_memory() / max(1, at_a_time()), private_memory()
            if held > share:
                if began < OWN_FAULT * share:
                    with suppress(OSError):
                        (folder / REASON_FILE).write_text(_reason(held, share), encoding="utf-8")
                os._exit(1)  # what was taken is only given back with the process

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def reason_in(folder: Path) -> str:
    """Why the guard ended a process of the trial in this folder; empty where it did not, or the disk fails."""
    try:
        return next((file.read_text(encoding="utf-8") for file in folder.rglob(REASON_FILE)), "")
    except OSError:
        return ""


def processes_here(needs: Needs) -> int:
    """How many processes that train fit on this machine of Ray's side by side; 1 where there is no Ray."""
    import ray

    if not ray.is_initialized():
        return 1
    here = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    has = next(node["Resources"] for node in nodes if node["NodeID"] == here)
    return replace(needs, workers=1).fit([Machine(cpus=has.get("CPU", 0.0), gpus=has.get("GPU", 0.0))])


def _reason(held: int, share: float) -> str:
    return (
        f"its machine ran low on memory while it held {held / GIB:.2g} GiB, more than its share of {share / GIB:.2g}: "
        "try a smaller batch_size, crop_size, width or depth"
    )
