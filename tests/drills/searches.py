"""The search that all drills disturb: the real command, on a cluster, small and the same to the last bit each time."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.drills.nodes import Cluster

PROJECT = Path(__file__).parents[2]
SPY = Path(__file__).parent / "spy"
TRIALS, EPOCHS = 6, 6
NAME = "drill"
PACE = 0.6  # seconds that each epoch takes at least
# What trials propose must not hang on which results came first: a sequence fixed beforehand, and nobody stopped early.
SPACE = "depth=2,width=2,batch_size=8,crop_size=64,epoch_pixels=0,precision=float32,collapse_epochs=999"
SETTINGS = (
    *("--space", SPACE, "--space", "learning_rate=0.001:0.1", "--space", "dropout=0:0.3"),
    *("--searcher", "quasi_random", "--scheduler", "none", "--deterministic"),
    *("--num-trials", str(TRIALS), "--max-epochs", str(EPOCHS), "--cpus-per-trial", "1", "--gpus-per-trial", "0"),
)


def environment(folder: Path, constants: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What all processes of a drill are given. constants: numbers of the product's, module -> name -> value."""
    import json

    (folder / "home").mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "UNET_SEARCH_CACHE": str(folder.parent / "cache"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "400",
        "PYTHONPATH": str(SPY),
        "DRILL_FOLDER": str(folder),
        "DRILL_PACE": str(PACE),
        "DRILL_CONSTANTS": json.dumps(constants),
    }


class Search:
    """One run of the search, through all its sessions. storage: the folder of its run."""

    def __init__(self, folder: Path, storage: Path) -> None:
        self.storage = storage
        self.run = storage / NAME
        self.screen = folder / "screen.txt"
        self.driver: subprocess.Popen[str] | None = None

    def start(self, cluster: Cluster) -> None:
        """Starts it on the head, or has it go on where there is a study."""
        words = ["--storage", str(self.storage), "--name", NAME, "--address", cluster.address]
        goes_on = (self.run / "settings.yaml").exists()
        words += ["--resume"] if goes_on else SETTINGS
        with self.screen.open("a") as screen:
            self.driver = cluster.start(
                *(sys.executable, "-m", "search.run", *words),
                cwd=PROJECT,
                env={**cluster.environment, "PYTHONPATH": f"{SPY}:{PROJECT}"},
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
            )

    @property
    def ended(self) -> bool:
        """Whether the driver is gone."""
        return self.driver is None or self.driver.poll() is not None

    def kill(self) -> None:
        """Ends the driver at once."""
        if self.driver is not None:
            self.driver.send_signal(signal.SIGKILL)
            self.driver.wait()

    def told(self) -> str:
        """All that it has said, on the screen and in its log."""
        log = self.run / "events.log"
        return self.screen.read_text() + (log.read_text() if log.exists() else "")
