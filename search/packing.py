"""How many trials share a machine, or a GPU: measured once for each kind of machine and of work, and kept."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data.cache import cache_folder
from data.replacing import write_text
from data.segmentation_data import SegmentationData, Split
from data.typed_record import build_record
from model.config import TrainConfig
from search.budget import Limits
from search.packing_probe import (
    Host,
    Measured,
    NotMeasuredError,
    choose_host,
    facts_of,
    measure_on_cpus,
    measure_on_gpu,
)
from search.record import TrialRecord
from search.resources import Needs, choose_needs, machines
from search.settings import SearchSettings
from search.space import Space, extremes

# Pixels that the trainings of a search look at, all together, from which on it is worth measuring: 500 of the usual
# epochs, about two minutes on two cores.
LEAST_PIXELS = 500 * 2**20
LEAST_SECONDS = 300.0  # of a search, in the same sense, where only its time is known
TIE = 0.05  # how much faster one way must be than another to count as faster
MOST_ON_A_GPU = 8  # trials that share one
# Share of the trials that may run out of memory before fewer run at a time: some suit no GPU, however few share it.
TOLERATED = 0.1

FOLDER = "packing"  # in the cache
# The hyperparameters on which the time of a step, or its memory, depends.
WORK = (
    *("encoder", "block", "passes", "depth", "width", "dilation", "normalisation", "dropout", "dropout_place"),
    *("upsampling", "loss", "optimizer", "ema", "batch_size", "accumulation", "crop_size", "augmentation", "precision"),
    "deterministic",
)


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What each trial takes of a machine, and in one line why; the line is empty where nothing was measured.

    facts: all on which it depends, as JSON values; None where it was not measured.
    """

    needs: Needs
    words: str = ""
    facts: Mapping[str, Any] | None = None


def pack(
    settings: SearchSettings,
    limits: Limits,
    space: Space,
    data: SegmentationData,
    split: Split,
    *,
    anew: bool,
    before: Mapping[str, Any] | None = None,
) -> Packing:
    """What each trial takes of the machines of the running Ray: as asked, and measured where nothing is said of it.

    On CPUs, the cores of a trial; on GPUs, what part of one. Nothing is measured for a search so small that it is
    not worth it, nor where there is only one way to go; a trial then takes one core, or one GPU. What was measured is
    kept in the cache; anew: measures it all the same. before: the packing with which the search began, as a mapping,
    which holds while it goes on with the same work on the same kind of machine. Raises InputError when not even one
    trial fits on any machine.
    """
    usual_needs = choose_needs(settings.cpus_per_trial, settings.gpus_per_trial, machines())
    on_gpus = usual_needs.gpus > 0
    asked = settings.gpus_per_trial if on_gpus else settings.cpus_per_trial
    usual = usual_training(space)
    worth_it = is_worth_measuring(limits, usual, data, split)
    if asked is not None or (before is None and not worth_it):
        return Packing(needs=usual_needs)
    host = choose_host(on_gpus=on_gpus)
    works = [usual, replace(extremes(space)[1], init_from="", compiled=False)] if on_gpus else [usual]
    try:
        facts = facts_about(host, facts_of(host), works, data)
        if before is not None and before.get("facts") == facts:
            return _pack_as_before(before, limits, host, usual_needs)
        if not worth_it:
            return Packing(needs=usual_needs)
        return _pack_by_measure(limits, works, data, split, host, usual_needs, facts, anew=anew)
    except NotMeasuredError as error:
        return Packing(
            needs=usual_needs,
            words=f"one {'GPU' if on_gpus else 'core'} a trial: what is best was not measured ({error})",
        )


def _pack_as_before(before: Mapping[str, Any], limits: Limits, host: Host, usual_needs: Needs) -> Packing:
    """The packing with which the search began; where there are too few trainings for it now, each has more."""
    packed = build_record(Packing, before, what="the packing in the study")
    needs, most = packed.needs, most_on_each(limits, on_gpus=usual_needs.gpus > 0)
    if usual_needs.gpus > 0:
        wider = replace(needs, gpus=max(needs.gpus, 1 / max(gpu_counts(host, usual_needs.cpus, most))))
    else:
        at_once = max((trials for trials, _ in cpu_ways(int(host.cpus), most)), default=1)
        wider = replace(needs, cpus=max(needs.cpus, host.cpus / at_once))
    how = "as before" if wider == needs else "fewer at a time than before, for there are no more"
    return Packing(needs=wider, words=f"{how}: {packed.words}")


def most_on_each(limits: Limits, *, on_gpus: bool) -> float:
    """How many of the search's trainings there are for each GPU, or for each machine where there are none."""
    places = sum(one.gpus if on_gpus else 1.0 for one in machines())
    return math.inf if limits.trials is None else limits.trials * limits.folds / places


def _pack_by_measure(
    limits: Limits,
    works: Sequence[TrainConfig],
    data: SegmentationData,
    split: Split,
    host: Host,
    usual_needs: Needs,
    facts: Mapping[str, Any],
    *,
    anew: bool,
) -> Packing:
    """The packing that is fastest for the first of these works, and, on GPUs, has room for the last one.

    facts: under which it is kept. Raises NotMeasuredError.
    """
    on_gpus, usual = usual_needs.gpus > 0, works[0]
    most = most_on_each(limits, on_gpus=on_gpus)
    if on_gpus:
        counts = gpu_counts(host, usual_needs.cpus, most)

        def measure() -> list[Measured]:
            def allowed(memory_mb: float, device_mb: float) -> list[int]:
                return counts_in_memory(counts, memory_mb, device_mb)

            return measure_on_gpu(usual, works[-1], data, split, host, usual_needs.cpus, counts, allowed)
    else:
        if usual.deterministic:  # which computes with a single thread
            return Packing(needs=usual_needs)
        ways = cpu_ways(int(host.cpus), most)
        counts = [trials for trials, _ in ways]

        def measure() -> list[Measured]:
            return measure_on_cpus(usual, data, split, host, ways)

    if len(counts) < 2:
        return Packing(needs=usual_needs)
    started = time.monotonic()
    measured, kept = recall(facts, measure, anew=anew)
    best = choose(measured, on_gpus=on_gpus)
    how = "measured before" if kept else f"measured in {time.monotonic() - started:.0f} s"
    return Packing(
        needs=replace(usual_needs, gpus=1 / best.trials) if on_gpus else Needs(cpus=host.cpus / best.trials, gpus=0.0),
        words=f"{in_words(best, measured, on_gpus=on_gpus)} ({how})",
        facts=facts,
    )


def usual_training(space: Space) -> TrainConfig:
    """The training with the defaults, as far as the space has them, from fresh weights, not compiled."""
    defaults = asdict(TrainConfig())
    chosen = {
        name: defaults[name] if domain.holds(defaults[name]) else domain.ends[0]
        for name, domain in space.domains.items()
    }
    return TrainConfig(**chosen | {"init_from": "", "freeze_epochs": 0, "compiled": False})


def is_worth_measuring(limits: Limits, usual: TrainConfig, data: SegmentationData, split: Split) -> bool:
    """Whether the search may be so long that a better packing is worth the seconds it takes to find."""
    epochs = [] if limits.trials is None else [float(limits.trials * limits.whole_training)]
    seconds = [] if limits.seconds is None else [limits.seconds]
    if limits.budget is not None and limits.budget_amount is not None:
        (seconds if limits.budget.unit == "seconds" else epochs).append(limits.budget_amount)
    _, height, width, _ = data.images.shape
    pixels = max(usual.epoch_pixels, len(split.train) * height * width)
    return all(one * pixels >= LEAST_PIXELS for one in epochs) and all(one >= LEAST_SECONDS for one in seconds)


def cpu_ways(cores: int, most: float) -> list[tuple[int, int]]:
    """How many trials, at most so many, with how many threads each use all cores: powers of two, and one a core."""
    counts = {2**power for power in range(cores.bit_length())} | {cores}
    return [(one, cores // one) for one in sorted(counts) if cores % one == 0 and one <= most]


def gpu_counts(host: Host, cpus: float, most: float) -> list[int]:
    """How many trials, at most so many, with so many CPU cores each, may share each GPU of the machine."""
    most = min(most, MOST_ON_A_GPU, host.cpus / host.gpus / cpus)
    return [1, *(2**power for power in range(1, MOST_ON_A_GPU.bit_length()) if 2**power <= most)]


def counts_in_memory(counts: Sequence[int], memory_mb: float, device_mb: float) -> list[int]:
    """Those of the counts with which trainings that each take so much memory fit on the device; one at least."""
    spare = 0.05 * device_mb  # what lies in pieces too small to use
    return [one for one in counts if one == 1 or one * memory_mb <= device_mb - spare]


def choose(measured: Sequence[Measured], *, on_gpus: bool) -> Measured:
    """The way that gives the most samples a second.

    Of ways that are about as fast, on CPUs the one with the most trials, whose threads wait for each other the least;
    on GPUs that with the fewest, which leaves the most memory to each.
    """
    fastest = max(one.samples_per_second for one in measured)
    fast = [one for one in measured if one.samples_per_second >= fastest * (1 - TIE)]
    return min(fast, key=lambda one: one.trials if on_gpus else -one.trials)


def in_words(best: Measured, measured: Sequence[Measured], *, on_gpus: bool) -> str:
    """The way that was chosen, against one trial at a time, or against the most where it is one that was chosen."""

    def threads(one: Measured) -> str:
        if on_gpus:
            return ""
        return f" with {one.threads} thread{'s' * (one.threads > 1)}" + " each" * (one.trials > 1)

    where = "on each GPU" if on_gpus else "at a time"
    words = f"{best.trials} trial{'s' * (best.trials > 1)} {where}{threads(best)}"
    fewest, most = (pick(measured, key=lambda one: one.trials) for pick in (min, max))
    other = most if best == fewest else fewest
    if other == best:
        return f"{words}: more of the largest may not fit into its memory"
    ratio = best.samples_per_second / other.samples_per_second
    return f"{words}: {ratio:.2f} times the samples of {other.trials}{threads(other)}"


def fewer_at_a_time(needs: Needs, records: Sequence[TrialRecord], earlier: AbstractSet[str]) -> Needs:
    """What a trial takes from now on: twice its part of a GPU where those that share one run out of memory.

    records: of all trials; earlier: the ids of those that were started when more, or others, shared a GPU, and so say
    nothing of what is asked for now.
    """
    since = [one for one in records if one.trial_id not in earlier]
    ended = [one for one in since if one.status != "running"]
    without_memory = [one for one in ended if one.status == "out_of_memory"]
    if not needs.shares_gpu or not without_memory or len(without_memory) < TOLERATED * len(ended):
        return needs
    return replace(needs, gpus=min(1.0, 2 * needs.gpus))


def facts_about(
    host: Host, described: Mapping[str, str], works: Sequence[TrainConfig], data: SegmentationData
) -> dict[str, Any]:
    """All on which the outcome depends: the machine, what it says of itself, and the shape of the work."""
    return {
        **described,
        "cpus": host.cpus,
        "gpus": host.gpus,
        "gpu": host.gpu,
        "pictures": list(data.images.shape),
        "classes": len(data.class_names),
        "work": [{name: getattr(config, name) for name in WORK} for config in works],
    }


def recall(
    facts: Mapping[str, Any], measure: Callable[[], list[Measured]], *, anew: bool
) -> tuple[list[Measured], bool]:
    """What was measured under these facts, and whether that was before; otherwise, or anew, it is measured and kept."""
    text = json.dumps(facts, sort_keys=True)
    file = cache_folder() / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    kept = None if anew else _read(file, facts)
    if kept is not None:
        return kept, True
    measured = measure()
    with suppress(OSError):  # a cache that cannot be written costs the same seconds the next time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"facts": facts, "measured": [asdict(one) for one in measured]}, indent=1))
    return measured, False


def _read(file: Path, facts: Mapping[str, Any]) -> list[Measured] | None:
    """What the file says under these facts; None where there is none, or it is damaged."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return [Measured(**one) for one in kept["measured"]] or None if kept["facts"] == facts else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
