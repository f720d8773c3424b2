"""One training of a trial, in a worker of Ray: reports every epoch, and says in words how it ended."""

import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.input_error import InputError
from data.outlast import FIRST_WAIT, LONGEST_WAIT, PATIENCE, GaveUpError, is_passing, reason_of
from data.segmentation_data import SegmentationData, Split, UInt8
from model.config import TrainConfig
from search.curves import Curves
from search.memory_guard import guarded, processes_here
from search.nodes import check_like
from search.progress import in_words
from search.resources import PACKAGES, Needs
from search.storage import Storage
from search.trial_mirror import mirrored
from search.working_folder import working_folder

EVENT = "event"  # where a report has what befell the trial, in words
ERROR_FILE = "error.txt"
SAMPLE = "sample.png"

Report = dict[str, Any]
Reports = Generator[Report, None, None]
Train = Callable[..., Iterator[Any]]


@dataclass(frozen=True, kw_only=True)
class SharedWork:
    """What all trials of a search have in common; lies in Ray's object store, and its arrays are read there.

    splits: one, or one for each fold. train: used in place of `model.train.train` where it is not None. folder: has a
    folder for each trial; of a run at a URL, remote is its place there. needs: what one training takes of a machine.
    times_network: whether it is to be measured how long the networks take for a picture.
    """

    data: SegmentationData
    splits: tuple[Split, ...]
    train: Train | None
    folder: Path
    needs: Needs
    times_network: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    remote: Storage | None = None

    def here(self) -> "SharedWork":
        """The same on the machine that asks, with the folder that it has for a run at a URL."""
        if self.remote is None:
            return self
        return replace(self, folder=working_folder(self.remote.parent) / self.remote.name)

    def remote_of(self, folder: Path) -> Storage | None:
        """The place at the URL of a folder below that of the trials; None where there is none."""
        return None if self.remote is None else self.remote / folder.relative_to(self.folder).as_posix()


def train_and_report(params: Mapping[str, Any], folder: Path, work: SharedWork, split: Split) -> Reports:
    """Trains with these parameters and yields a report after every epoch, going on from where the folder stands.

    Each report has a `status`; the last one also `done`, and a `reason` when the training ended badly. Closed early,
    it lets go of what it held. While the disk has no room it waits, and goes on from its last state. Raises what is no
    fault of its own: RankLostError when another process of the training is gone, MachineDiffersError where it must go
    on elsewhere, and GaveUpError when the disk, or the URL of the run, fails for long.
    """
    import torch

    from model.device import release_memory

    check_like(work.versions)
    check_device(work.needs.device)
    try:
        with guarded(folder, lambda: processes_here(work.needs)), mirrored(work.remote_of(folder), folder) as mirror:
            for report in _train_to_an_end(params, folder, work, split):
                if mirror is not None:
                    mirror.take(report["done"])
                yield report
    finally:
        release_memory(torch.device(work.needs.device))


def _train_to_an_end(params: Mapping[str, Any], folder: Path, work: SharedWork, split: Split) -> Iterator[Report]:
    """The training with its end, also a bad one."""
    from model.distributed import RankLostError

    try:
        yield from _train_patiently(params, folder, work, split)
    except (RankLostError, GaveUpError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a training dies of becomes its row in the leaderboard
        ending = bad_ending(error, folder)
        if ending["status"] == "out_of_memory" and work.needs.shares_gpu:
            ending["reason"] = f"beside others on its GPU, of which it had {work.needs.gpus:g}, {ending['reason']}"
        yield ending | {"devices": work.needs.devices}


def _train_patiently(params: Mapping[str, Any], folder: Path, work: SharedWork, split: Split) -> Iterator[Report]:
    """The training; when the disk is full, or does not answer, it waits, and goes on from the last state on it.

    Meanwhile its last report comes again and again: it does not hang, and may be stopped.
    """
    failing_since, wait, event = None, FIRST_WAIT, ""
    last: Report = {"epoch": 0}
    while True:
        try:
            with closing(_train(params, folder, work, split)) as reports:
                for report in reports:
                    if report["epoch"] > last["epoch"]:
                        failing_since, wait = None, FIRST_WAIT
                    last = report
                    yield {**report, EVENT: " and ".join(filter(None, (event, report[EVENT])))}
                    event = ""
        except OSError as error:
            if not is_passing(error, work.folder):
                raise
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since >= 2 * PATIENCE:  # the driver, whose disk it may be, gives up first
                raise GaveUpError(f"folder {str(folder)!r} cannot be written ({reason_of(error)})") from error
            if last["epoch"]:
                yield {**last, EVENT: ""}
            waited = time.monotonic() - failing_since + wait
            event = f"could not write ({reason_of(error)}), and goes on from its last epoch after {in_words(waited)}"
        else:
            return
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def _train(params: Mapping[str, Any], folder: Path, work: SharedWork, split: Split) -> Reports:
    """The training itself, with its curves for TensorBoard."""
    from model.train import BEST

    config = TrainConfig.from_mapping(params)
    if work.remote is None:
        work.folder.stat()  # where it is not mounted, nothing may be made in its place
    folder.mkdir(parents=True, exist_ok=True)
    event = mend(folder)
    epochs: Any = start_training(config, folder, work, split)
    checkpoint = (Path(work.folder.name) / folder.relative_to(work.folder) / BEST).as_posix()
    with closing(epochs), closing(Curves(folder, vars(config))) as curves:
        for epoch in epochs:
            numbers = epoch.flat()
            curves.draw(numbers)
            done = numbers["epoch"] >= config.max_epochs
            if done and (sample := keep_sample(folder, work.data, split)) is not None:
                curves.show("sample", sample, numbers["epoch"])
            yield numbers | {
                "status": "completed" if done else "running",
                "checkpoint": checkpoint,
                "devices": work.needs.devices,
                "done": done,
                EVENT: event,
            }
            event = ""


def mend(folder: Path) -> str:
    """Sees to it that the training in the folder goes on from a whole state, or begins anew; what was amiss, or ""."""
    from model.kept_states import drop_states, mend_state
    from model.train import LAST

    try:
        return mend_state(folder / LAST)
    except InputError:
        drop_states(folder / LAST, all_of_them=True)
        return "its last state was damaged, and there is no whole one before it: it begins anew"


def start_training(config: TrainConfig, folder: Path, work: SharedWork, split: Split) -> Iterator[Any]:
    """The reports of the training, which goes on from where the folder stands."""
    import torch

    from model.train import train

    torch.set_num_threads(work.needs.threads)
    return (work.train or train)(
        config,
        work.data,
        split,
        device=work.needs.device,
        folder=folder,
        resume=True,
        times_network=work.times_network,
    )


def keep_sample(folder: Path, data: SegmentationData, split: Split) -> UInt8 | None:
    """Draws what the trial's best model makes of the first validation image, and keeps it; None without a model."""
    from PIL import Image

    from model.sample import draw_sample
    from model.train import BEST

    if not (folder / BEST).is_dir():
        return None
    sample = draw_sample(folder / BEST, data, split.validation[0])
    # A picture that cannot be written, say on a full disk, takes nothing from a training that is done.
    with suppress(OSError):
        Image.fromarray(sample).save(folder / SAMPLE)
    return sample


def check_device(device: str) -> None:
    """Raises where an earlier trial has left the device broken: Ray then starts this one in a fresh process.

    What a trial takes of its memory is counted from here.
    """
    import torch

    from model.device import reset_peak_memory

    torch.zeros(1, device=device)
    reset_peak_memory(torch.device(device))


def bad_ending(error: Exception, folder: Path) -> Report:
    """The last report of a training that died of this error, whose whole story goes into the folder."""
    # On a full disk the reason must reach the row all the same.
    with suppress(OSError):
        (folder / ERROR_FILE).write_text(traceback.format_exc(), encoding="utf-8")
    return {"status": failure_status(error), "reason": failure_reason(error), "done": True}


def failure_status(error: Exception) -> str:
    """The leaderboard's word for what the training died of."""
    from model.device import is_out_of_memory
    from model.diagnose import TrainingFailure

    if isinstance(error, TrainingFailure):
        return error.status
    return "out_of_memory" if is_out_of_memory(error) else "failed"


def failure_reason(error: Exception) -> str:
    """What the training died of, in words."""
    from model.device import is_out_of_memory
    from model.diagnose import TrainingFailure

    if isinstance(error, TrainingFailure):
        return error.reason
    if is_out_of_memory(error):
        return f"memory did not suffice ({first_line(error)}): try a smaller batch_size, crop_size, width or depth"
    return f"{type(error).__name__}: {first_line(error)} ({last_own_line(error)})"


def first_line(error: Exception) -> str:
    """The error's first sentence or line, for a row of a table."""
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(".") if lines else "no message"


def last_own_line(error: Exception) -> str:
    """The line of this project in which the error came up, as `model/train.py:12`."""
    frames = traceback.extract_tb(error.__traceback__)
    # Each package by itself: on a cluster they need not lie side by side.
    ours = {Path(str(sys.modules[name].__file__)).parent for name in PACKAGES if name in sys.modules}
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.parent in ours:
            return f"{path.parent.name}/{path.name}:{frame.lineno}"
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown line"
