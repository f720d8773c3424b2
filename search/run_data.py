"""The data of a run, read again as its search has read them."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from data.input_error import InputError
from data.readers import load
from data.segmentation_data import Preparation, SegmentationData, Split, Splitting
from data.split import split_data
from search.run_folder import RunFolder, check_same_data, describe_data


def read_data(run: RunFolder, saved: Mapping[str, Any]) -> tuple[SegmentationData, tuple[Split, ...]]:
    """The data of a run and how it split them. Raises InputError when they are gone, or not as they were."""
    if not run.dataset.is_file() or "data" not in saved:
        raise InputError(
            f"run {run.path.name!r} does not say what it learnt from: bring {run.dataset.name} and "
            f"{run.settings.name} back."
        )
    preparation = Preparation(**{one.name: saved[one.name] for one in fields(Preparation) if one.name in saved})
    splitting = Splitting(**{one.name: saved[one.name] for one in fields(Splitting) if one.name in saved})
    root = saved.get("data_root")
    data = load(str(saved["data"]), root=None if root is None else Path(root), preparation=preparation)
    splits = split_data(data, splitting, as_before=True)
    check_same_data(run, describe_data(data, splits))
    return data, splits
