"""How much memory this machine, or the container we run in, has for prepared pictures."""

import os
from pathlib import Path

# Of all memory: more than one process, and the pictures' own copy in Ray's object store, must find room beside them.
_SHARE = 0.25
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
# Of both versions of control groups: the limit, what is used, and the entry for files in memory.
_GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def memory_limit() -> int:
    """Bytes of prepared pictures that are held in memory; larger data stay in files and are read from there."""
    return int(_SHARE * total_memory())


def total_memory() -> int:
    """Bytes of memory that this process may use at most: the machine's, or less where its control group says so."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _own_groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                word = (folder / name).read_text(encoding="ascii").strip()
            except OSError:  # not this version of control groups, or none that limits memory
                continue
            if word.isdecimal():
                limits.append(int(word))
    return min(limits)


def _own_groups() -> list[Path]:
    """The folders of this process's control groups and all above them, whose limits hold for it too."""
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        folder = _CGROUPS / controllers / path.lstrip("/")
        folders += [above for above in (folder, *folder.parents) if above.is_relative_to(_CGROUPS)]
    return folders


def memory_in_use() -> float:
    """How much of the memory that this process may use is taken, from 0 to 1: where it is shortest. 0 if unknown."""
    shares = [0.0]
    machine = _numbers(Path("/proc/meminfo"))
    if machine.get("MemTotal:") and "MemAvailable:" in machine:
        shares.append(1 - machine["MemAvailable:"] / machine["MemTotal:"])
    for folder in _own_groups():
        for limit, used, cached in _GROUP_FILES:
            try:
                most, taken = (folder / limit).read_text(encoding="ascii"), (folder / used).read_text(encoding="ascii")
            except OSError:  # as in `total_memory`
                continue
            if most.strip().isdecimal() and 0 < int(most) < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
                files = _numbers(folder / "memory.stat").get(cached, 0)  # which are given up when it is needed
                shares.append((int(taken) - files) / int(most))
    return max(shares)


def private_memory() -> int:
    """Bytes that this process alone has, without files and memory that it shares. 0 if unknown."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:  # not Linux
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _numbers(path: Path) -> dict[str, int]:
    """The first number behind each word at the beginning of a line; nothing where there is no such file."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {words[0]: int(words[1]) for line in lines if len(words := line.split()) > 1 and words[1].isdecimal()}
