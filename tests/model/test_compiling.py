"""A compiled training goes the way of one that is not, compiles a few times, and is refused where nothing compiles."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from data.input_error import InputError
from data.segmentation_data import SegmentationData, Split
from model import compiling, start
from model import epoch as stepping
from model.blocks import PlainBlock
from model.checkpoint import load_model
from model.compiling import compile_passes
from model.diagnose import TrainingFailure
from model.train import BEST, LAST, train
from model.unet import UNet
from tests.model.trainings import CPU, SHORT, assert_same_tensors, tensors_of, without_clock
from tests.toys import colored_squares, write_folder

# In one of several test processes, for what compiles takes a while to load.
pytestmark = pytest.mark.xdist_group("compiling")

COMPILED = replace(SHORT, max_epochs=2, compiled=True)
NETWORKS: dict[str, dict[str, Any]] = {
    "residual_w_net": {"block": "residual", "passes": 2, "ema": 0.9, "accumulation": 2},
    "resnet18": {"encoder": "resnet18"},
}


class Block(nn.Module):
    """A part of a network: machine code for all of one takes long to make."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = PlainBlock(3, channels, normalisation="batch")

    def logits_of_passes(self, images: Tensor) -> list[Tensor]:
        return [self.block(images)]


def test_machine_code_computes_the_same_and_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # Of a processor without vectors; to find out what this one has takes seconds.
    monkeypatch.setattr("torch._inductor.cpu_vec_isa.valid_vec_isa_list", list)
    network, images = Block(2), torch.rand(2, 3, 16, 16)
    as_it_is = deepcopy(network)
    passes = compile_passes(cast("UNet", network), CPU)
    for compute, of in ((passes, network), (as_it_is.logits_of_passes, as_it_is)):
        compute(images)[0].square().sum().backward()
        for name, weight in list(of.named_parameters()):
            assert weight.grad is not None
            of.register_buffer(name.replace(".", "_"), weight.grad)
    assert list(tmp_path.rglob("*.so")), "nothing was compiled"
    torch.testing.assert_close(network.state_dict(), as_it_is.state_dict(), rtol=1e-4, atol=1e-4)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_compiled_training_goes_the_way_of_one_that_is_not(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    # The network and its gradients are taken apart as for compiling, but computed as they are.
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    config = replace(COMPILED, **NETWORKS[network])
    as_it_is = list(train(replace(config, compiled=False), *squares, folder=tmp_path / "as it is"))
    compiled = list(train(config, *squares, folder=tmp_path / "compiled"))
    for one, other in zip(compiled, as_it_is, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-3)
        assert one.val.auc_roc == pytest.approx(other.val.auc_roc, abs=1e-3)
    kept, expected = (tensors_of(tmp_path / name / LAST) for name in ("compiled", "as it is"))
    torch.testing.assert_close(kept, expected, rtol=1e-3, atol=1e-3)
    assert load_model(tmp_path / "compiled" / BEST)[1].config == config


def test_a_compiled_training_is_resumed(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    epochs = train(COMPILED, *squares, folder=tmp_path / "whole")
    first = next(iter(epochs))
    copytree(tmp_path / "whole", tmp_path / "pieces")
    whole = [first, *epochs]
    resumed = list(train(COMPILED, *squares, folder=tmp_path / "pieces", resume=True))
    assert without_clock(resumed) == without_clock(whole)
    assert_same_tensors(tensors_of(tmp_path / "pieces" / LAST), tensors_of(tmp_path / "whole" / LAST))


def count_compilings(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """What is compiled from now on, though computed as it is; the first is the trial whether it can be."""
    graphs: list[nn.Module] = []

    def keep(graph: nn.Module, _inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", keep)
    return graphs


def test_parts_of_batches_and_weights_held_still_make_it_compile_a_few_times(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(train(replace(COMPILED, compiled=False), *squares, folder=tmp_path))
    loss_on, sizes = stepping.loss_on, []

    def short_of_memory(state: Any, lesson: Any, images: Tensor, *rest: Tensor) -> Tensor:
        sizes.append(len(images))
        loss = loss_on(state, lesson, images, *rest)
        if len(images) > 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return loss

    monkeypatch.setattr(stepping, "loss_on", short_of_memory)
    graphs = count_compilings(monkeypatch)
    config = replace(COMPILED, init_from=str(tmp_path / BEST), freeze_epochs=1, batch_size=9)
    assert [report.batch_parts for report in train(config, *squares)] == [4, 4]
    assert set(sizes) == {9, 5, 3, 2}
    # Nine samples, then any number; the latter again when all weights learn.
    assert len(graphs) == 1 + 2 + 1


def test_what_was_compiled_before_does_not_count_and_giving_up_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from torch._dynamo import config

    graphs = count_compilings(monkeypatch)
    with config.patch(recompile_limit=1):
        for channels in (2, 3):
            passes = compile_passes(cast("UNet", Block(channels)), CPU)
            passes(torch.rand(2, 3, 16, 16))
        assert capfd.readouterr() == ("", "")
        passes(torch.rand(3, 3, 16, 16))
    assert len(graphs) == 2 * (1 + 1)
    assert "hit config.recompile_limit" in capfd.readouterr().err


def test_what_is_not_finite_is_found_inside_a_compiled_network(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_compilings(monkeypatch)
    monkeypatch.setattr(start, "set_pixel_statistics", lambda network, *_: network.pixel_deviation.zero_())
    with pytest.raises(TrainingFailure, match=r"first not finite: the input of passes\.0 "):
        next(iter(train(COMPILED, *squares)))


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"compiled True cannot be had on cpu here \(.*file.*TORCHINDUCTOR_CACHE_DIR"):
        compile_passes(cast("UNet", Block(2)), CPU)


def test_a_machine_without_a_compiler_refuses_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    from torch._inductor import cpp_builder

    # It remembers what it has found.
    monkeypatch.setattr(cpp_builder, "cpp_compiler_search", cpp_builder.cpp_compiler_search.__wrapped__)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    pictures = write_folder(tmp_path / "pictures", colored_squares("binary"))
    words = refusal("model.train", "--data", pictures, "--folder", tmp_path / "run", "--device", "cpu", "--compiled")
    assert "compiled True cannot be had on cpu here (No working C++ compiler found" in words
    assert "such as g++" in words
    assert list((tmp_path / "run").iterdir()) == []
