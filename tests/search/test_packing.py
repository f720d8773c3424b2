"""How many trials share a machine: what is measured, what is chosen from it, and when it is given up again."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

import search.driver
import search.packing
import search.packing_probe
import search.watch
from data.cache import cache_folder
from data.replacing import write_text
from model.config import TrainConfig
from search.packing import (
    Packing,
    choose,
    counts_in_memory,
    cpu_ways,
    facts_about,
    fewer_at_a_time,
    gpu_counts,
    in_words,
    is_worth_measuring,
    pack,
    recall,
    usual_training,
)
from search.packing_probe import (
    Host,
    Measured,
    NotMeasuredError,
    Training,
    choose_host,
    describe_machine,
    facts_of,
    measure_on_cpus,
    measure_on_gpu,
    most_common,
)
from search.placement import NEEDS, resources_of
from search.record import Status, TrialRecord
from search.resources import Machine, Needs
from search.run_folder import RunFolder
from search.settings import SearchSettings
from search.space import parse_space
from tests.search.trainings import QUICK, epoch_report
from tests.toys import colored_squares, split_in_two

DATA = colored_squares("binary")
SPLIT = split_in_two(DATA)
TINY = TrainConfig(
    depth=2, width=2, batch_size=4, crop_size=16, epoch_pixels=0, precision="float32", schedule="one_cycle"
)


def host(cpus: float = 2, gpus: float = 0, **more: str) -> Host:
    return Host(**{"node_id": "id", "address": "10.0.0.1", "gpu": ""} | more, cpus=cpus, gpus=gpus)


def measured(*ways: tuple[int, int, float]) -> list[Measured]:
    return [
        Measured(trials=trials, threads=threads, samples_per_second=samples_per_second)
        for trials, threads, samples_per_second in ways
    ]


@pytest.mark.parametrize(
    ("cores", "most", "ways"),
    [
        (1, 99, [(1, 1)]),
        (2, 99, [(1, 2), (2, 1)]),
        (3, 99, [(1, 3), (3, 1)]),
        (6, 99, [(1, 6), (2, 3), (6, 1)]),
        (8, float("inf"), [(1, 8), (2, 4), (4, 2), (8, 1)]),
        (12, 99, [(1, 12), (2, 6), (4, 3), (12, 1)]),
        (64, 12, [(1, 64), (2, 32), (4, 16), (8, 8)]),
        (8, 0.5, []),
    ],
)
def test_every_way_uses_all_cores(cores: int, most: float, ways: list[tuple[int, int]]) -> None:
    assert cpu_ways(cores, most) == ways


@pytest.mark.parametrize(
    ("cpus", "gpus", "each", "most", "counts"),
    [
        (64, 8, 1, 99, [1, 2, 4, 8]),
        (4, 1, 1, 99, [1, 2, 4]),
        (4, 1, 2, 99, [1, 2]),
        (16, 8, 1, 1.5, [1]),
        (1, 2, 1, 99, [1]),
        (256, 1, 1, 99, [1, 2, 4, 8]),
    ],
)
def test_as_many_share_a_gpu_as_have_a_core(
    cpus: float, gpus: float, each: float, most: float, counts: list[int]
) -> None:
    assert gpu_counts(host(cpus, gpus), each, most) == counts


@pytest.mark.parametrize(
    ("memory_mb", "counts"),
    [(1000, [1, 2, 4, 8]), (1200, [1, 2, 4]), (4700, [1, 2]), (5000, [1]), (9000, [1]), (float("inf"), [1])],
)
def test_as_many_share_a_gpu_as_the_largest_training_fits_into_it(memory_mb: float, counts: list[int]) -> None:
    assert counts_in_memory([1, 2, 4, 8], memory_mb, 10_000) == counts


@pytest.mark.parametrize(
    ("figures", "on_gpus", "trials"),
    [
        (measured((1, 2, 100), (2, 1, 131)), False, 2),
        (measured((1, 2, 131), (2, 1, 100)), False, 1),
        (measured((1, 2, 100), (2, 1, 96)), False, 2),
        (measured((1, 4, 94), (2, 2, 100), (4, 1, 96)), False, 4),
        (measured((1, 1, 100), (2, 1, 160), (4, 1, 240), (8, 1, 200)), True, 4),
        (measured((1, 1, 96), (2, 1, 100)), True, 1),
        (measured((1, 1, 100)), True, 1),
    ],
)
def test_the_fastest_is_chosen_and_of_those_as_fast_the_one_that_gets_in_the_way_least(
    figures: Sequence[Measured], on_gpus: bool, trials: int
) -> None:
    assert choose(figures, on_gpus=on_gpus).trials == trials


def test_what_was_chosen_is_said_in_one_line() -> None:
    two, one = measured((2, 1, 131), (1, 2, 100))
    assert (
        in_words(two, [one, two], on_gpus=False)
        == "2 trials at a time with 1 thread each: 1.31 times the samples of 1 with 2 threads"
    )
    assert (
        in_words(one, [one, replace(two, samples_per_second=80)], on_gpus=False)
        == "1 trial at a time with 2 threads: 1.25 times the samples of 2 with 1 thread each"
    )
    assert in_words(two, [one, two], on_gpus=True) == "2 trials on each GPU: 1.31 times the samples of 1"
    assert in_words(one, [one], on_gpus=True) == "1 trial on each GPU: more of the largest may not fit into its memory"


@pytest.mark.parametrize(
    ("asked", "worth_it"),
    [
        ({"num_trials": 12, "max_epochs": 60}, True),
        ({"num_trials": 12, "max_epochs": 30}, False),
        ({"num_trials": 12, "max_epochs": 30, "folds": 2}, True),
        ({"num_trials": 999, "budget": "400epochs"}, False),
        ({"budget": "20x"}, True),
        ({"budget": "2m"}, False),
        ({"max_time": "1h"}, True),
        ({"max_time": "2m"}, False),
        ({"patience": 20}, True),
    ],
)
def test_small_searches_are_not_worth_measuring(asked: dict[str, Any], worth_it: bool) -> None:
    settings = SearchSettings(**asked)
    limits = settings.limits(settings.max_epochs)
    assert is_worth_measuring(limits, TrainConfig(), DATA, SPLIT) == worth_it
    tiny = is_worth_measuring(limits, TINY, DATA, SPLIT)
    assert tiny == (worth_it and limits.trials is None and limits.budget is None), "as many epochs of 4096 pixels"


def test_what_is_measured_is_the_default_training_as_far_as_the_space_has_it() -> None:
    pinned = {"init_from": "imagenet", "freeze_epochs": 3, "compiled": True}
    space = parse_space(("depth=5:6,width=8|16,loss=dice",), pinned=pinned)
    usual = usual_training(space)
    assert (usual.depth, usual.width, usual.loss) == (5, TrainConfig().width, "dice")
    assert (usual.init_from, usual.freeze_epochs, usual.compiled) == ("", 0, False)


def records(*statuses: Status) -> list[TrialRecord]:
    return [TrialRecord(trial_id=f"t{number:04d}", config={}, status=one) for number, one in enumerate(statuses)]


@pytest.mark.parametrize(
    ("gpus", "statuses", "earlier", "then"),
    [
        (0.25, ["completed", "out_of_memory", "running"], 0, 0.5),
        (0.25, ["completed", "out_of_memory", "running"], 2, 0.25),
        (0.5, ["out_of_memory"], 0, 1.0),
        (0.7, ["out_of_memory"], 0, 1.0),
        (1.0, ["out_of_memory"], 0, 1.0),
        (0.0, ["out_of_memory"], 0, 0.0),
        (0.5, ["completed"] * 10 + ["out_of_memory"], 0, 0.5),
        (0.5, ["completed"] * 9 + ["out_of_memory"], 0, 1.0),
        (0.5, ["completed"] * 10 + ["out_of_memory"], 5, 1.0),
        (0.5, ["diverged", "failed", "collapsed"], 0, 0.5),
        (0.5, [], 0, 0.5),
    ],
)
def test_fewer_trials_share_a_gpu_when_they_run_out_of_memory(
    gpus: float, statuses: list[Status], earlier: int, then: float
) -> None:
    known = {f"t{number:04d}" for number in range(earlier)}
    assert fewer_at_a_time(Needs(cpus=2, gpus=gpus), records(*statuses), known) == Needs(cpus=2, gpus=then)


def short_of_memory(config: Any, *_: Any, folder: Path, **_more: Any) -> Any:
    """The first trial runs out of memory, and all others wait until a person is told; each notes what it has."""
    assigned: dict[str, float] = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    folder.joinpath("cpus").write_text(str(assigned["CPU"]))
    if folder.name == "t0000":
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    until = time.monotonic() + 60
    while not (folder.parents[1] / "said").exists() and time.monotonic() < until:
        time.sleep(0.05)
    for epoch in range(1, config.max_epochs + 1):
        yield epoch_report(epoch, (0.5, 0.5))


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_trials_that_begin_after_that_take_more_and_a_person_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no GPU here: the one CPU core of a node stands for one that trials share."""

    def more(needs: Needs, seen: Sequence[TrialRecord], earlier: frozenset[str]) -> Needs:
        short = any(one.status == "out_of_memory" and one.trial_id not in earlier for one in seen)
        return Needs(cpus=2 * needs.cpus, gpus=0) if short else needs

    monkeypatch.setattr(search.watch, "fewer_at_a_time", more)
    for module in (search.driver, search.watch):
        monkeypatch.setattr(module, "machines", lambda *_: [Machine(cpus=1, gpus=0)])
    for name in ("SECONDS_BETWEEN_MAKING_ROOM", "SECONDS_BETWEEN_COUNTS", "SECONDS_BETWEEN_LOOKS"):
        monkeypatch.setattr(search.watch, name, 0.1)
    settings = SearchSettings(num_trials=4, max_epochs=2, scheduler="none", space=QUICK)
    outcome = search.driver.search(
        settings,
        parse_space(settings.space, pinned=settings.pinned),
        DATA,
        (SPLIT,),
        RunFolder(path=tmp_path),
        Needs(cpus=0.5, gpus=0),
        look=lambda *_: None,
        say=lambda words: write_text(tmp_path / "said", words),
        train=short_of_memory,
    )
    ended = {record.trial_id: record.status for record in outcome.records}
    assert ended == {"t0000": "out_of_memory"} | dict.fromkeys(("t0001", "t0002", "t0003"), "completed")
    cpus = {path.parent.name: path.read_text() for path in tmp_path.glob("trials/*/cpus")}
    assert (cpus["t0000"], cpus["t0001"], cpus["t0003"]) == ("0.5", "0.5", "1.0")
    assert (tmp_path / "said").read_text().startswith("memory did not suffice for trials that share a GPU: from now on")


def test_ray_sets_aside_what_the_trial_says_it_takes() -> None:
    assert resources_of({NEEDS: Needs(cpus=2, gpus=0.25)}).bundles == [{"CPU": 2.0, "GPU": 0.25}]
    assert resources_of({NEEDS: Needs(cpus=0.5, gpus=0)}).bundles == [{"CPU": 0.5}]


def test_it_is_measured_on_the_kind_of_machine_that_has_the_most() -> None:
    def node(name: str, **resources: float) -> dict[str, Any]:
        return {"NodeID": name, "NodeManagerAddress": name, "Resources": resources}

    nodes = [
        node("head", CPU=64.0),
        node("a", CPU=16.0, GPU=1.0, **{"accelerator_type:A100": 1.0}),
        node("b", CPU=16.0, GPU=1.0, **{"accelerator_type:H100": 1.0}),
        node("c", CPU=16.0, GPU=1.0, **{"accelerator_type:H100": 1.0}),
        node("store"),
    ]
    assert most_common(nodes, on_gpus=True) == host(16, 1, node_id="b", address="b", gpu="accelerator_type:H100")
    assert most_common(nodes, on_gpus=False).node_id == "head"


def test_what_was_measured_is_kept_until_the_machine_or_the_work_is_another() -> None:
    calls: list[list[Measured]] = []

    def measure() -> list[Measured]:
        calls.append(measured((1, 2, 100.5), (2, 1, 131.25 + len(calls))))
        return calls[-1]

    facts = {**describe_machine(), "cpus": 2.0}
    assert recall(facts, measure, anew=False) == (measured((1, 2, 100.5), (2, 1, 131.25)), False)
    assert recall(facts, measure, anew=False) == (calls[0], True)
    assert recall(facts | {"torch": "9"}, measure, anew=False)[1] is False
    assert recall(facts, measure, anew=True) == (calls[2], False)
    assert recall(facts, measure, anew=False) == (calls[2], True)
    for file in cache_folder().rglob("*.json"):
        file.write_text(file.read_text()[:-3])
    assert recall(facts, measure, anew=False) == (calls[3], False)


def test_the_work_is_known_by_what_its_time_and_memory_depend_on() -> None:
    def same(**changes: Any) -> bool:
        configs = TINY, replace(TINY, **changes)
        one, other = (facts_about(host(), describe_machine(), [config], DATA) for config in configs)
        return one == other

    assert same(learning_rate=0.1, seed=3, max_epochs=7)
    assert not same(width=4)
    assert not same(deterministic=True)


def packed(monkeypatch: pytest.MonkeyPatch, measure: Callable[..., list[Measured]], **asked: Any) -> Packing:
    """What is chosen on a machine with two cores, where this measures."""
    monkeypatch.setattr(search.packing, "machines", lambda *_: [Machine(cpus=2, gpus=0)])
    monkeypatch.setattr(search.packing, "choose_host", lambda on_gpus: host())
    monkeypatch.setattr(search.packing, "facts_of", lambda _: describe_machine())
    monkeypatch.setattr(search.packing, "measure_on_cpus", measure)
    how = {"anew": asked.pop("anew", False), "before": asked.pop("before", None)}
    settings = SearchSettings(**asked)
    limits = settings.limits(settings.max_epochs)
    return pack(settings, limits, parse_space(settings.space, pinned=settings.pinned), DATA, SPLIT, **how)


def test_it_is_measured_where_nothing_is_said_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def measure(*arguments: Any) -> list[Measured]:
        calls.append(arguments)
        return measured((1, 2, 131), (2, 1, 100))

    first = packed(monkeypatch, measure)
    assert first.needs == Needs(cpus=2, gpus=0)
    line = "1 trial at a time with 2 threads: 1.31 times the samples of 2 with 1 thread each"
    assert first.words == f"{line} (measured in 0 s)"
    assert calls[0][-1] == [(1, 2), (2, 1)]
    assert packed(monkeypatch, measure) == replace(first, words=f"{line} (measured before)")
    assert packed(monkeypatch, measure, anew=True) == first
    assert len(calls) == 2
    usual = Packing(needs=Needs(cpus=1, gpus=0))
    assert packed(monkeypatch, measure, num_trials=1, max_epochs=999) == usual
    assert packed(monkeypatch, measure, num_trials=3, max_epochs=2) == usual
    assert packed(monkeypatch, measure, deterministic=True) == usual
    assert packed(monkeypatch, measure, cpus_per_trial=0.5) == Packing(needs=Needs(cpus=0.5, gpus=0))
    assert len(calls) == 2


def test_a_search_that_goes_on_packs_as_before_as_long_as_its_machine_and_its_work_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure(*_: Any) -> list[Measured]:
        return measured((1, 2, 131), (2, 1, 100))

    began = packed(monkeypatch, measure)
    kept = json.loads(
        json.dumps(asdict(began) | {"needs": {"cpus": 1.0, "gpus": 0.0}, "words": "there was too little"})
    )
    same = Packing(needs=Needs(cpus=1, gpus=0), words="as before: there was too little")
    assert packed(monkeypatch, measure, before=kept) == same
    assert packed(monkeypatch, measure, before=kept, num_trials=3, max_epochs=2) == same, "however much is still to do"
    wider = Packing(
        needs=Needs(cpus=2, gpus=0), words="fewer at a time than before, for there are no more: there was too little"
    )
    assert packed(monkeypatch, measure, before=kept, num_trials=1) == wider
    assert packed(monkeypatch, measure, before=kept, cpus_per_trial=2.0).needs == Needs(cpus=2, gpus=0)
    assert packed(monkeypatch, measure, before=kept, space=("width=32",)).needs == Needs(cpus=2, gpus=0)
    kept["facts"]["cpu"] = "another"
    assert packed(monkeypatch, measure, before=kept).needs == Needs(cpus=2, gpus=0)
    assert packed(monkeypatch, measure, before=kept, num_trials=3, max_epochs=2) == Packing(needs=Needs(cpus=1, gpus=0))


def test_what_cannot_be_measured_is_said_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: Any) -> list[Measured]:
        raise NotMeasuredError("it takes too long")

    assert packed(monkeypatch, measure) == Packing(
        needs=Needs(cpus=1, gpus=0), words="one core a trial: what is best was not measured (it takes too long)"
    )


def test_on_gpus_a_trial_has_the_part_of_one_that_does_most(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measure(*arguments: Any) -> list[Measured]:
        *asked[:], counts, allowed = arguments
        assert counts == [1, 2, 4]
        assert allowed(30_000, 80_000) == [1, 2]
        return measured((1, 1, 1000), (2, 1, 1900))

    monkeypatch.setattr(search.packing, "measure_on_gpu", measure)
    monkeypatch.setattr(search.packing, "machines", lambda *_: [Machine(cpus=8, gpus=2)])
    monkeypatch.setattr(search.packing, "choose_host", lambda on_gpus: host(8, 2, gpu="H100"))
    monkeypatch.setattr(search.packing, "facts_of", lambda _: describe_machine())
    settings = SearchSettings(num_trials=24)
    space = parse_space(("depth=3:6",), pinned=settings.pinned)
    found = pack(settings, settings.limits(60), space, DATA, SPLIT, anew=False)
    assert found.needs == Needs(cpus=1, gpus=0.5)
    assert found.words == "2 trials on each GPU: 1.90 times the samples of 1 (measured in 0 s)"
    assert found.needs.fit([Machine(cpus=8, gpus=2)]) == 4
    usual, largest, *_ = asked
    assert (usual.depth, largest.depth) == (TrainConfig().depth, 6)
    before = json.loads(json.dumps(asdict(found)))
    for trainings, part in ((24, 0.5), (4, 0.5), (3, 1.0), (1, 1.0)):
        limits = replace(settings, num_trials=trainings).limits(60)
        assert pack(settings, limits, space, DATA, SPLIT, anew=False, before=before).needs.gpus == part


class Pretended:
    """A training on a GPU of 80,000 MiB; with each one more, all are slower."""

    started = 0
    memory_mb = 0.0

    def __init__(self, **takes: float) -> None:
        assert takes == {"num_cpus": 1, "num_gpus": 1 / 8}
        Pretended.started += 1

    def __getattr__(self, name: str) -> Any:
        outcome = {"memory": (self.memory_mb, 80_000.0), "run": (0.0, 60.0, 50.0, 0.0, 20.0)[min(Pretended.started, 4)]}
        return SimpleNamespace(remote=lambda *_: outcome.get(name))


def test_more_and_more_share_a_gpu_until_it_is_slower_or_its_memory_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretended, "started", 0)
    monkeypatch.setattr(search.packing_probe, "_wait", lambda calls, _: calls)
    monkeypatch.setattr(search.packing_probe, "_reserved", lambda *_: nullcontext(Pretended))

    def measure(memory_mb: float) -> list[Measured]:
        monkeypatch.setattr(Pretended, "started", 0)
        monkeypatch.setattr(Pretended, "memory_mb", memory_mb)
        counts = [1, 2, 4, 8]
        return measure_on_gpu(TINY, TINY, DATA, SPLIT, host(16, 1), 1, counts, partial(counts_in_memory, counts))

    assert measure(9_000) == measured((1, 1, 60), (2, 1, 100), (4, 1, 80))
    assert Pretended.started == 4, "eight would be slower still"
    assert measure(30_000) == measured((1, 1, 60), (2, 1, 100))
    assert measure(50_000) == measured((1, 1, 60))


def test_steps_are_counted_with_so_many_threads() -> None:
    before = torch.get_num_threads()
    training = Training((DATA, SPLIT), "cpu")
    training.begin(TINY)
    try:
        training.warm_up(2)
        assert torch.get_num_threads() == 2
        assert training.run(0.0) > 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_trainings_run_side_by_side_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.packing_probe, "SECONDS_TO_BEGIN", 100.0)  # this machine may be busy with other tests
    monkeypatch.setattr(search.packing_probe, "SECONDS_A_TURN", 0.05)
    here = choose_host(on_gpus=False)
    assert here.cpus == 1
    assert facts_of(here) == describe_machine()
    found = measure_on_cpus(TINY, DATA, SPLIT, here, [(1, 1), (2, 1)])
    assert [(one.trials, one.threads) for one in found] == [(1, 1), (2, 1)]
    assert all(one.samples_per_second > 0 for one in found)

    def unlearnable() -> list[Measured]:
        return measure_on_cpus(replace(TINY, init_from="nowhere"), DATA, SPLIT, here, [(1, 1)])

    with pytest.raises(NotMeasuredError, match="a training failed"):
        unlearnable()


@pytest.mark.usefixtures("ray_cluster")
def test_a_busy_machine_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.packing_probe.SECONDS_TO_BEGIN", -3.0)
    busy = replace(choose_host(on_gpus=False), cpus=99.0)
    with pytest.raises(NotMeasuredError, match="the machine is busy with something else"):
        measure_on_cpus(TINY, DATA, SPLIT, busy, [(1, 1)])
