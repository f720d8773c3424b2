"""A trained network, or several that answer together, as a file that runs without this project: ONNX, torch.export."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from data.input_error import InputError
from data.segmentation_data import LabelMode
from model.ensemble import Model, weighted_mean
from model.losses import class_probabilities
from model.unet import UNet

INPUT, OUTPUT = "images", "probabilities"
OPSET = 18  # of ONNX: the lowest that torch writes; onnxruntime reads it since 1.14
LARGEST_ONNX = 2 * 10**9  # bytes: more than a file of ONNX can hold in one piece
# Pictures (N, H, W) by which the network is written down, for any others: a 1 would be taken for "always 1".
TRACED = (2, 75, 91)
SIZES = {0: "N", 2: "H", 3: "W"}  # which sides may differ, and their names

Run = Callable[[Tensor], Tensor]


class PortableNetwork(nn.Module):
    """Prepared pictures, float (N, C, H, W) in 0..255, to class probabilities (N, K, H, W), of any height and width.

    All that happens in between is inside: normalisation, padding, the network in evaluation mode, sigmoid or softmax.
    Pixels are padded and cut off by their indices: what depends on a size is then a number that is computed, and no
    case that is decided when the network is written down.
    """

    def __init__(self, network: UNet, label_mode: LabelMode) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval()
        self.label_mode = label_mode
        self.multiple = 2**network.depth

    def forward(self, images: Tensor) -> Tensor:
        """The probabilities of the pictures."""
        height, width = images.shape[2:]
        padded = _take_pixels(_take_pixels(images, 2, self._padded(height)), 3, self._padded(width))
        probabilities = class_probabilities(self.network(padded), self.label_mode)
        return _take_pixels(_take_pixels(probabilities, 2, height), 3, width)

    def _padded(self, side: int) -> int:
        """As `pad_to_multiple`, with a division of positive numbers: ONNX rounds others towards zero."""
        padded: int = self.multiple * torch.sym_max((side + self.multiple - 1) // self.multiple, 2)
        return padded


class PortableMean(nn.Module):
    """The weighted mean of what several networks find, each as a `PortableNetwork`."""

    def __init__(self, models: Sequence[Model]) -> None:
        super().__init__()
        self.members = nn.ModuleList(PortableNetwork(model.network, model.card.label_mode) for model in models)
        self.weights = [model.weight for model in models]

    def forward(self, images: Tensor) -> Tensor:
        """The mean probabilities (N, K, H, W) of the pictures."""
        return weighted_mean((member(images) for member in self.members), self.weights)


def portable(models: Sequence[Model]) -> nn.Module:
    """One network, or the mean of several whose weights come to 1, with all that belongs to them."""
    if len(models) == 1:
        return PortableNetwork(models[0].network, models[0].card.label_mode)
    return PortableMean(models)


def trace(network: nn.Module, channels: int) -> ExportedProgram:
    """A portable network written down by torch.export, for any number, height and width of pictures.

    Where in our files its steps come from is left out: it is of no use to others.
    """
    count, height, width = TRACED
    sizes = {INPUT: {axis: Dim(name) for axis, name in SIZES.items()}}
    with torch.no_grad():
        program = torch.export.export(network, (torch.zeros(count, channels, height, width),), dynamic_shapes=sizes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Writes the program as one ONNX file. Raises InputError where it is too large for that."""
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size > LARGEST_ONNX:
        raise InputError(f"the network has {size / 1e9:.1f} GB, more than ONNX can hold: use --format torch_export.")
    written = torch.onnx.export(
        program,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={INPUT: SIZES},
        opset_version=OPSET,
        verbose=False,
        external_data=False,
    )
    assert written is not None
    written.save(str(path), external_data=False)


def open_onnx(path: Path) -> Run:
    """The network of an ONNX file, run by onnxruntime on the CPU."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def write_torch_export(program: ExportedProgram, path: Path) -> None:
    """Writes the program as torch.export's own file."""
    # By way of memory: where a disk is full, torch's own writing ends the whole process.
    written = BytesIO()
    torch.export.save(program, written)
    path.write_bytes(written.getbuffer())


def open_torch_export(path: Path) -> Run:
    """The network of a file by torch.export, on the CPU."""
    module: Run = torch.export.load(path).module()
    return module


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of file: its name, how a program is written to it, and how it is opened, to be run on pictures.

    packages: what has to be installed for that besides torch.
    """

    file: str
    write: Callable[[ExportedProgram, Path], None]
    open: Callable[[Path], Run]
    packages: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "onnx": Format(file="model.onnx", write=write_onnx, open=open_onnx, packages=("onnx", "onnxscript", "onnxruntime")),
    "torch_export": Format(file="model.pt2", write=write_torch_export, open=open_torch_export),
}


def _take_pixels(pictures: Tensor, axis: int, count: int) -> Tensor:
    """The first `count` rows or columns; beyond the last one there is, the last one again."""
    places = torch.arange(count, device=pictures.device).clamp(max=pictures.shape[axis] - 1)
    return pictures.index_select(axis, places)
