"""Trainings side by side for a moment, in workers of Ray: how many samples a second they come to."""

import platform
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.segmentation_data import SegmentationData, Split
from model.config import TrainConfig
from search.resources import Needs

if TYPE_CHECKING:
    import torch

ROUNDS = 2  # each way takes turns with the others, so that what else the machine does slows all alike
SECONDS_A_TURN = 0.5
WARM_UP_STEPS = 2  # before each turn: kernels are made for each number of threads
# How long all of it may take: 15 seconds on two cores. A network that takes longer keeps any number of threads busy.
SECONDS_TO_BEGIN, SECONDS_A_WAY = 9.0, 3.0
LONGEST_ON_A_GPU = 60.0  # seconds; its processes take longer to begin
PROCESSOR = Path("/proc/cpuinfo")


class NotMeasuredError(Exception):
    """It could not be measured; the message says why, without a full stop."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine of the running Ray. gpu: the kind of its GPUs, as Ray knows it."""

    node_id: str
    address: str
    cpus: float
    gpus: float
    gpu: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """So many trainings side by side, on all cores of a machine or on one GPU, with so many CPU threads each.

    samples_per_second: of all of them together.
    """

    trials: int
    threads: int
    samples_per_second: float


def choose_host(*, on_gpus: bool) -> Host:
    """A machine of the running Ray to measure on, of the kind that has the most of what trials train on."""
    import ray

    return most_common([node for node in ray.nodes() if node["Alive"]], on_gpus=on_gpus)  # type: ignore[no-untyped-call]


def most_common(nodes: Sequence[Mapping[str, Any]], *, on_gpus: bool) -> Host:
    """The first machine, of those that Ray describes so, of the kind that has the most GPUs, or CPU cores, in all."""
    hosts = [
        Host(
            node_id=node["NodeID"],
            address=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            gpu=" ".join(sorted(name for name in node["Resources"] if name.startswith("accelerator_type:"))),
        )
        for node in nodes
    ]
    in_all: dict[tuple[float, float, str], float] = defaultdict(float)
    for host in hosts:
        in_all[host.cpus, host.gpus, host.gpu] += host.gpus if on_gpus else host.cpus
    kind = max(in_all, key=lambda one: in_all[one])
    return next(host for host in hosts if (host.cpus, host.gpus, host.gpu) == kind)


def facts_of(host: Host) -> dict[str, str]:
    """What `describe_machine` says there. Raises NotMeasuredError when nobody answers."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if host.node_id == ray.get_runtime_context().get_node_id():
        return describe_machine()
    there = NodeAffinitySchedulingStrategy(host.node_id, soft=False)
    describe: Any = ray.remote(num_cpus=0)(describe_machine)
    described: dict[str, str] = _wait(
        [describe.options(scheduling_strategy=there).remote()], time.monotonic() + SECONDS_TO_BEGIN
    )[0]
    return described


def describe_machine() -> dict[str, str]:
    """The processor of this machine, and its torch."""
    lines = PROCESSOR.read_text(encoding="utf-8").splitlines() if PROCESSOR.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.processor(), "torch": version("torch")}


def measure_on_cpus(
    config: TrainConfig, data: SegmentationData, split: Split, host: Host, ways: Sequence[tuple[int, int]]
) -> list[Measured]:
    """What trainings come to on this machine, each way so many of them with so many threads each.

    Raises NotMeasuredError, when it takes too long, the machine is busy with something else, or a process dies.
    """
    until = time.monotonic() + SECONDS_TO_BEGIN + SECONDS_A_WAY * len(ways)
    most = max(trials for trials, _ in ways)
    with _reserved(host, {"CPU": host.cpus}, "cpu", (data, split), until) as start:
        trainings = [start(num_cpus=host.cpus / most) for _ in range(most)]
        _wait([training.begin.remote(config) for training in trainings], until)
        turns = [[_side_by_side(trainings[:trials], threads, until) for trials, threads in ways] for _ in range(ROUNDS)]
    return [
        Measured(trials=trials, threads=threads, samples_per_second=sum(rates) / ROUNDS)
        for (trials, threads), rates in zip(ways, zip(*turns, strict=True), strict=True)
    ]


def measure_on_gpu(
    config: TrainConfig,
    largest: TrainConfig,
    data: SegmentationData,
    split: Split,
    host: Host,
    cpus: float,
    counts: Sequence[int],
    allowed: Callable[[float, float], list[int]],
) -> list[Measured]:
    """What trainings come to that share one GPU of this machine, for each of these numbers of them, rising.

    cpus: CPU cores of each. largest: whose memory is measured. allowed: which of the counts to go on with, for the MiB
    that it takes and those of the GPU. Ends with the first count that is slower than the one before.
    Raises NotMeasuredError, when it takes too long, the GPU is busy with something else, or a process dies.
    """
    until = time.monotonic() + LONGEST_ON_A_GPU
    most, threads = max(counts), Needs(cpus=cpus, gpus=1.0).threads
    measured: list[Measured] = []
    with _reserved(host, {"CPU": most * cpus, "GPU": 1.0}, "cuda", (data, split), until) as start:
        trainings = [start(num_cpus=cpus, num_gpus=1 / most)]
        [(memory_mb, device_mb)] = _wait([trainings[0].memory.remote(largest)], until)
        for trials in allowed(memory_mb, device_mb):
            trainings += [start(num_cpus=cpus, num_gpus=1 / most) for _ in range(trials - len(trainings))]
            _wait([training.begin.remote(config) for training in trainings], until)
            rate = sum(_side_by_side(trainings, threads, until) for _ in range(ROUNDS)) / ROUNDS
            measured.append(Measured(trials=trials, threads=threads, samples_per_second=rate))
            if rate < max(one.samples_per_second for one in measured):
                break
    return measured


class Training:
    """One training, step by step, in a process of its own: the steps of so many seconds are counted."""

    def __init__(self, shared: tuple[SegmentationData, Split], device: str) -> None:
        """shared: the data, and which of it to train on."""
        self._data, self._split = shared
        self._device = device
        self._batch_size = 0
        self._steps: Generator[None, None, None] | None = None

    def memory(self, largest: TrainConfig) -> tuple[float, float]:
        """MiB of a GPU that this training takes in all, alone on it, and that there are; infinitely many if it fails.

        What CUDA itself and torch's store of memory take counts, which `peak_memory_mb` leaves out.
        """
        import torch

        from model.device import release_memory
        from search.dry_run import measure_training

        estimate = measure_training(largest, (self._data, self._split), Needs(cpus=1.0, gpus=1.0))
        free, there = torch.cuda.mem_get_info()
        release_memory(torch.device(self._device))
        return float("inf") if estimate.problem else (there - free) / 2**20, there / 2**20

    def begin(self, config: TrainConfig) -> None:
        """Makes ready for the steps of this training."""
        import torch

        if self._steps is not None:
            return
        self._batch_size = config.batch_size
        self._steps = take_steps(config, self._data, self._split, torch.device(self._device))

    def warm_up(self, threads: int) -> None:
        """Takes the first steps with so many threads."""
        import torch

        assert self._steps is not None
        torch.set_num_threads(threads)
        for _ in range(WARM_UP_STEPS):
            next(self._steps)
        self._finish()

    def run(self, seconds: float) -> float:
        """Samples a second, of as many steps as begin in so many seconds; one at least."""
        assert self._steps is not None
        started, samples = time.perf_counter(), 0
        while not samples or time.perf_counter() - started < seconds:
            next(self._steps)
            samples += self._batch_size
        self._finish()
        return samples / (time.perf_counter() - started)

    def _finish(self) -> None:
        """Waits until the device has done what it was told."""
        import torch

        if self._device == "cuda":
            torch.cuda.synchronize()


def take_steps(
    config: TrainConfig, data: SegmentationData, split: Split, device: "torch.device"
) -> Generator[None, None, None]:
    """Trains, a step each time it is asked, without end and without a look at the validation images."""
    from model.checkpoint import ModelCard
    from model.device import reproducible
    from model.epoch import set_to_learn, take_step
    from model.start import begin, prepare

    config = replace(config, max_epochs=1_000_000)  # so that no schedule comes to its end
    lesson = prepare(config, data, split, device)
    card = ModelCard.of(config, data, thresholds=(0.5,) * len(data.class_names), split=split)
    state = begin(lesson, data, split, card, None, None)
    with reproducible(config.deterministic, device):
        for epoch in count(1):
            set_to_learn(state, config)
            _, batches = lesson.batches(epoch, skip=0)
            with closing(batches):  # type: ignore[type-var]
                for batch in batches:
                    take_step(state, lesson, batch)
                    yield


def _side_by_side(trainings: Sequence[Any], threads: int, until: float) -> float:
    """Samples a second of all these together, which begin at the same moment."""
    _wait([training.warm_up.remote(threads) for training in trainings], until)
    rates: list[float] = _wait([training.run.remote(SECONDS_A_TURN) for training in trainings], until)
    return sum(rates)


@contextmanager
def _reserved(
    host: Host, resources: Mapping[str, float], device: str, shared: tuple[SegmentationData, Split], until: float
) -> Iterator[Callable[..., Any]]:
    """Takes these resources of the machine, and gives what starts a `Training` in a part of them; all end with it."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([{**resources, f"node:{host.address}": 0.001}])
    there = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    training: Any = ray.remote(Training)
    try:
        if not group.wait(max(0.1, until - time.monotonic())):
            raise NotMeasuredError("the machine is busy with something else")
        lie_there = ray.put(shared)
        yield lambda **takes: training.options(scheduling_strategy=there, **takes).remote(lie_there, device)
    finally:
        remove_placement_group(group)


def _wait(calls: list[Any], until: float) -> list[Any]:
    """What the calls give. Raises NotMeasuredError when they take too long, or their process dies."""
    import ray

    try:
        return list(ray.get(calls, timeout=max(0.1, until - time.monotonic())))
    except ray.exceptions.GetTimeoutError:
        raise NotMeasuredError("it takes too long") from None
    except ray.exceptions.RayError as error:
        raise NotMeasuredError(f"a training failed ({str(error).strip().splitlines()[-1]})") from error
