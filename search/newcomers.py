"""Machines that join while a search runs: each is looked at before it gets trials."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from search.nodes import SECONDS_TO_ANSWER, alive_nodes, ask, complaint


class Newcomers:
    """Asks machines that join whether they can be used, and keeps trials away from those that cannot, or not yet.

    What such a machine has is set aside, so that Ray places nothing else there, be it a trial, a fold or one of
    several processes. A trial that is placed there before a look has seen the machine finds out itself (see
    `check_like`).
    """

    def __init__(self, paths: Sequence[Path], welcome: Iterable[str]) -> None:
        """paths: files and folders that all machines must see. welcome: ids of those that have been looked at."""
        self._paths = paths
        self._welcome = set(welcome)
        self._replies: dict[Any, str] = {}
        self._since: dict[str, float] = {}
        self._late: set[str] = set()
        self._reserved: dict[str, Any] = {}

    @property
    def shut_out(self) -> frozenset[str]:
        """Ids of the machines that get no trials."""
        return frozenset(self._reserved)

    @property
    def asked(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._replies)

    def look(self) -> tuple[list[str], list[str]]:
        """The addresses of machines that can be used from now on, and what to say of those that cannot."""
        there = alive_nodes()
        for gone in set(self._reserved) - set(there):
            self._let_in(gone)
        self._replies = {reply: node for reply, node in self._replies.items() if node in there}
        for node in set(there) - self._welcome - set(self._reserved):
            self._reserved[node] = _reserve(node)
            self._replies |= ask([node], self._paths)
            self._since[node] = time.monotonic()
        return self._hear(there)

    def _hear(self, there: dict[str, str]) -> tuple[list[str], list[str]]:
        import ray

        joined, refused = [], []
        ready = ray.wait(list(self._replies), num_returns=len(self._replies), timeout=0)[0] if self._replies else []
        for reply in ready:
            node = self._replies.pop(reply)
            words = complaint(reply)
            if words:
                refused.append(f"machine {there[node]} joined, but {words}: it gets no trials")
            else:
                self._welcome.add(node)
                self._let_in(node)
                joined.append(there[node])
        now = time.monotonic()
        for node in set(self._replies.values()) - self._late:
            if now - self._since[node] > SECONDS_TO_ANSWER:
                self._late.add(node)
                refused.append(f"machine {there[node]} joined, but does not answer: it gets no trials until it does")
        return joined, refused

    def _let_in(self, node: str) -> None:
        from ray.util import remove_placement_group

        remove_placement_group(self._reserved.pop(node))


def _reserve(node: str) -> Any:
    """Sets all that a machine has aside, until this process ends or lets it go."""
    import ray
    from ray.util import placement_group

    found = next(one for one in ray.nodes() if one["NodeID"] == node)  # type: ignore[no-untyped-call]
    has = {name: found["Resources"][name] for name in ("CPU", "GPU") if found["Resources"].get(name)}
    return placement_group([has or {"memory": 1.0}], bundle_label_selector=[{"ray.io/node-id": node}])
