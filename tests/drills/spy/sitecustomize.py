"""What every Python of a drill runs first: it tells of each epoch, and misbehaves on demand. The product is unchanged.

A node's processes and the driver find this by PYTHONPATH. DRILL_FOLDER: a folder that all share; DRILL_PACE: seconds
that each epoch takes longer, so that there is time to strike; DRILL_CONSTANTS: as JSON, module -> name -> value,
numbers of the product's that would make a drill too long; DRILL_MEMORY: bytes that a machine has; DRILL_CLOCK: whether
the clock may be turned.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(os.environ.get("DRILL_FOLDER", "/nonexistent"))
PACE = float(os.environ.get("DRILL_PACE", "0"))
CONSTANTS: dict[str, dict[str, Any]] = json.loads(os.environ.get("DRILL_CONSTANTS", "{}"))
MEMORY = int(os.environ.get("DRILL_MEMORY", "0"))
LEAK = 16 << 20  # bytes, every tenth of a second


def tell(what: str, trial: str, epoch: int) -> None:
    """Adds a line to the drill's log, in one piece: who trained what."""
    line = f"{what} {trial} {epoch} {os.getpid()} {Path('/proc/self/ns/net').readlink()}\n"
    with (FOLDER / "epochs.log").open("a") as file:
        file.write(line)


def is_asked(trouble: str) -> bool:
    """Whether somebody asked for this trouble, and no other process was quicker to take it on."""
    try:
        (FOLDER / trouble).rename(FOLDER / f"{trouble}.taken")
    except FileNotFoundError:
        return False
    return True


def misbehave(trial: str, epoch: int) -> None:
    """Does the harm that the drill asked for, if it did."""
    if is_asked("hang"):
        tell("hangs", trial, epoch)
        while True:
            time.sleep(1000)
    if is_asked("leak"):
        tell("leaks", trial, epoch)
        kept = []
        while True:
            kept.append(b"x" * LEAK)
            time.sleep(0.1)


def watch_training(module: ModuleType) -> None:
    """Tells from which epoch a training goes on, and of every epoch that is on disk."""
    begin, keep_state = module.begin, module.keep_state

    def begin_and_tell(lesson: Any, data: Any, split: Any, card: Any, folder: Any, kept: Any) -> Any:
        state = begin(lesson, data, split, card, folder, kept)
        tell("began", folder.name, state.progress.epoch)
        return state

    def keep_and_tell(path: Path, state: Any, *others: Any) -> None:
        time.sleep(PACE)
        keep_state(path, state, *others)
        tell("kept", path.parent.name, state.progress.epoch)
        misbehave(path.parent.name, state.progress.epoch)

    module.begin, module.keep_state = begin_and_tell, keep_and_tell  # type: ignore[attr-defined]


def shrink_machine(module: ModuleType) -> None:
    """Lets the guard of a trial's memory see a machine that has less, of which the trial alone takes."""
    module.total_memory = lambda: MEMORY  # type: ignore[attr-defined]
    module.memory_in_use = lambda: module.private_memory() / MEMORY  # type: ignore[attr-defined]


def shift_clock() -> None:
    """Lets the time of day be as many seconds off as the file `clock` says."""
    true_time, true_time_ns = time.time, time.time_ns

    def off() -> float:
        try:
            return float((FOLDER / "clock").read_text())
        except (OSError, ValueError):
            return 0.0

    time.time = lambda: true_time() + off()
    time.time_ns = lambda: true_time_ns() + int(off() * 1e9)


class Changes(MetaPathFinder):
    """Changes modules right after they were loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        """Finds the modules that are to be changed, and leaves all others to Python."""
        changes: list[Callable[[ModuleType], None]] = [watch_training] if name == "model.train" else []
        changes += [shrink_machine] if name == "search.memory_guard" and MEMORY else []
        if not (changes or name in CONSTANTS):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            for constant, value in CONSTANTS.get(name, {}).items():
                assert hasattr(module, constant), f"{name} has no {constant}"
                setattr(module, constant, value)
            for change in changes:
                change(module)

        spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec


if FOLDER.is_dir():
    sys.meta_path.insert(0, Changes())
    if os.environ.get("DRILL_CLOCK"):
        shift_clock()
