"""How much memory this machine, or the container we run in, has for prepared pictures."""

import os
from pathlib import Path

# Of all memory: more than one process, and the pictures' own copy in Ray's object store, must find room beside them.
_SHARE = 0.25
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


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
