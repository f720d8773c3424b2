"""The command `python -m search.run`, as a person starts it and in this process."""

import os
import subprocess
import sys
from pathlib import Path

from data.command_line import run_command
from search.resources import QUIET
from search.run import read_defaults, run

PROJECT = Path(__file__).parents[2]
# Small enough that an epoch takes a fraction of a second; nothing ends a training early.
SMALL = (
    *("--space", "depth=2,width=2,batch_size=8,crop_size=64,epoch_pixels=0,precision=float32,collapse_epochs=999"),
    *("--scheduler", "none", "--no-report"),
)


def start(*words: str, **environment: str) -> "subprocess.Popen[str]":
    """The command in a process of its own, its output to be read when it ends."""
    return subprocess.Popen(
        [sys.executable, "-m", "search.run", *words],
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if name not in QUIET} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_here(*words: str) -> int:
    """The command in this process, on the Ray that it has joined; its exit code."""
    return run_command(run, words, defaults=read_defaults)
