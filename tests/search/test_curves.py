"""The curves of a trial, as TensorBoard reads them."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from search.curves import Curves


def test_tensorboard_finds_every_number_and_the_warnings_where_they_change(tmp_path: Path) -> None:
    curves = Curves(tmp_path, {"depth": 3, "loss": "dice", "deterministic": False})
    for epoch, warnings in enumerate(["", "loss_flat: so; do", "loss_flat: so; do", ""], start=1):
        numbers = {"epoch": epoch, "val_dice": epoch / 8, "parameters": 7, "device": "cpu", "warnings": warnings}
        curves.draw(numbers | ({"train_loss": math.nan} if epoch == 2 else {}))
        shown = EventAccumulator(str(tmp_path)).Reload()
        assert len(shown.Scalars("val_dice")) == epoch, "it can be looked at while the trial trains"
    curves.show("sample", np.zeros((4, 8, 3), np.uint8), 4)
    curves.close()
    assert sorted(shown.Tags()["scalars"]) == ["parameters", "train_loss", "val_dice"]
    assert [(point.step, point.value) for point in shown.Scalars("val_dice")] == [
        (1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)
    ]  # fmt: skip
    assert math.isnan(shown.Scalars("train_loss")[0].value)
    texts = [(point.step, point.tensor_proto.string_val[0]) for point in shown.Tensors("warnings/text_summary")]
    ended = EventAccumulator(str(tmp_path)).Reload()
    assert ended.Tags()["images"] == ["sample"]
    content = ended.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert {b"depth", b"loss", b"dice"} <= set(re.findall(rb"[a-z]+", content))
    assert texts == [(2, b"loss_flat: so; do"), (4, b"none any more")]


def test_curves_need_their_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        Curves(tmp_path / "missing", {})
