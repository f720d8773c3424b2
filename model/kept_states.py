"""The last two states of a training on disk, so that one that was damaged costs an epoch and not the training."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from data.input_error import InputError
from model.checkpoint import ModelCard, load_tensors
from model.state import TrainingState, save_state

NEXT = ".next.safetensors"  # a state that is being written
PREVIOUS = ".previous.safetensors"  # the one before the last


def keep_state(last: Path, state: TrainingState, card: ModelCard) -> None:
    """Writes all that the training needs to go on to this file, and keeps what was there as the previous state.

    What was there is moved once the new state can be read; one that was cut short takes no other's place. Whenever this
    is interrupted, `mend_state` finds a whole one.
    """
    waiting = last.with_name(NEXT)
    save_state(waiting, state, card)
    if not has_its_length(waiting):
        raise OSError(f"{str(waiting)!r} cannot be read after it was written")
    if has_its_length(last):
        last.replace(last.with_name(PREVIOUS))
    waiting.replace(last)


def mend_state(last: Path) -> str:
    """Puts the previous state in the place of a last one that is gone or damaged; says so in words, where it did.

    Raises InputError where the last state is damaged and there is no other.
    """
    previous = last.with_name(PREVIOUS)
    try:
        if last.exists():
            load_tensors(last)
            return ""
        if not previous.exists():
            return ""
        damage = f"{last.name} was missing"
    except InputError:
        damage = f"{last.name} was damaged"
        if not previous.exists():
            raise
    load_tensors(previous)
    previous.replace(last)
    return f"{damage}, and the state before it was taken"


def drop_states(last: Path, *, all_of_them: bool = False) -> None:
    """Removes the previous state, with which nobody goes on any more, or the last one, too."""
    for file in (last.with_name(PREVIOUS), last.with_name(NEXT), *((last,) if all_of_them else ())):
        file.unlink(missing_ok=True)


def has_its_length(path: Path) -> bool:
    """Whether there is a file of tensors that was not cut short: its head can be read, and says how long it is.

    The whole of it is compared with its checksum only where it is read, which would double the time of writing here.
    """
    try:
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False
