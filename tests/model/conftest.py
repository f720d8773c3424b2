"""What all tests of this room share: the same fresh weights, pictures to learn from, and commands run in here."""

import runpy
import sys
import warnings
from collections.abc import Callable

import pytest
import torch

from data.segmentation_data import SegmentationData, Split
from tests.toys import colored_squares, split_in_two


@pytest.fixture(autouse=True)
def fresh_weights_are_the_same_in_every_run() -> None:
    """Networks that a test makes begin at the same weights, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def squares() -> tuple[SegmentationData, Split]:
    data = colored_squares("multilabel", side=16)
    return data, split_in_two(data)


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`python -m MODULE ARGUMENT ...` inside this process: gives the exit code."""

    def run(module: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
            runpy.run_module(module, run_name="__main__")
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


@pytest.fixture
def refusal(run_module: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a module that must end with exit code 2 and one line on the error stream: gives the line."""

    def refuse(module: str, *arguments: object) -> str:
        capsys.readouterr()
        assert run_module(module, *arguments) == 2
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1, shown.err
        return shown.err

    return refuse
