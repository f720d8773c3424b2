"""What was asked and found, in three sentences, and the words around the charts."""

from collections import Counter

from search.progress import in_words
from search.record import split_warnings
from search.report.run_facts import RunFacts
from search.space import parse_space


def asked(facts: RunFacts) -> str:
    """What the search was to find, on which data, within which limits."""
    split = facts.dataset.get("split") or (facts.dataset.get("folds") or [{}])[0]
    parts = {part: len(split.get(part, ())) for part in ("train", "validation", "test")}
    pictures = f"{parts['train']} pictures to learn from and {parts['validation']} to choose by"
    if folds := len(facts.dataset.get("folds") or ()):
        pictures += f", in {folds} folds"
    if parts["test"]:
        pictures += f", {parts['test']} kept for the end"
    names = facts.class_names
    classes = f"the class {names[0]}" if len(names) == 1 else f"{len(names)} classes"
    limits = [
        f"{name.replace('_', ' ')} {facts.saved[name]}"
        for name in ("num_trials", "max_time", "budget", "stop_at", "patience")
        if facts.saved.get(name) is not None
    ]
    within = f" within {', '.join(limits)}" if limits else ""
    space = parse_space(facts.saved.get("space") or (), pinned={"max_epochs": facts.saved.get("max_epochs", 1)})
    searched = [name for name, domain in space.domains.items() if len(domain.ends) > 1]
    return (
        f"A U-net was sought for {classes} of {facts.dataset.get('source', 'the data')} ({pictures}), over "
        f"{len(searched)} settings, with trainings of at most {facts.saved.get('max_epochs')} epochs{within}."
    )


def found(facts: RunFacts) -> str:
    """What came out: how many trials, the best of them, and its settings."""
    statuses = Counter(trial.record.status for trial in facts.trials)
    told = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in statuses.most_common())
    so_far = " so far" if facts.under_way else ""
    trials = f"{len(facts.trials)} trials ({told}) took {in_words(facts.spent)}{so_far}"
    best = facts.best
    if best is None:
        return f"{trials}; none has a model yet."
    settings = ", ".join(f"{name} {_value(best.config.get(name))}" for name in facts.searched[:5])
    folds = f", a mean over {best.folds} folds" if best.folds > 1 else ""
    return (
        f"{trials}; the best, {best.trial_id}, reached a val_dice of {best.val_dice:.4f}{folds} after "
        f"{best.best_epoch} epochs" + (f" with {settings}." if settings else ".")
    )


def advice(facts: RunFacts) -> str:
    """What a person does next."""
    if facts.finalists is not None:
        return "Its finals are done: go by their table below, whose scores are of pictures that nothing was chosen by."
    if facts.under_way:
        return "The search is at work, or was cut off: this page shows how it stood when it was made."
    best = facts.best
    if best is None:
        return "Read below why trials ended badly, and begin with what is written there."
    warnings = split_warnings(best.warnings)
    if warnings:
        return f"Before it is used: {warnings[0]}"
    has_test = bool((facts.dataset.get("split") or (facts.dataset.get("folds") or [{}])[0]).get("test"))
    if has_test:
        return "The best of many noisy scores is too good: python -m search.finals says what it is worth."
    return (
        "The best of many noisy scores is too good: keep pictures for the end (--test-fraction 0.2) where the number "
        "itself matters."
    )


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
