"""Changes of pictures in batches on the device, image and mask moved together, each sample in its own way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from data.augmentation import Augmentation

Numbers = npt.NDArray[np.float64]
ColourStep = Callable[[Tensor, Tensor], Tensor]

KNOTS = 7  # a side, for elastic distortion: four pieces of a cubic spline lie between them
NOISE_BANK = 2**21  # random numbers that all noise is read from
NOISE_PIECE = NOISE_BANK // 2  # as many are read in a row at most, so that there are as many places to begin
CACHED = 2**19  # numbers that a processor's fast memory holds: as many are worked on at a time


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What happens to each of B samples of height h and width w, drawn on the host.

    shape: (h, w) in pixels. matrices: (B, 2, 2), take an offset from a sample's centre (x, y), in pixels, to one in the
    picture. shifts: (B, 2), by how many pixels (x, y) the centre moves. knots: (B, 2, KNOTS, KNOTS), by how many pixels
    (x, y) the knots of a cubic spline over the sample, rows and columns, move what lies there.
    gamma: (B, 1), exponent of the brightness. gain, offset: (B, C), of each channel, in grey levels.
    noise: (B,), deviation in grey levels; its sign is that of the numbers read. noise_starts: (B, P), where in the bank
    each piece of a sample's noise begins.
    """

    shape: tuple[int, int]
    matrices: Numbers
    shifts: Numbers
    knots: Numbers
    gamma: Numbers
    gain: Numbers
    offset: Numbers
    noise: Numbers
    noise_starts: npt.NDArray[np.int64]

    @cached_property
    def moves(self) -> bool:
        """Whether any pixel changes its place."""
        return bool((self.matrices != np.eye(2)).any() or self.shifts.any() or self.knots.any())

    @cached_property
    def reach(self) -> tuple[int, int]:
        """Height and width, in pixels, of the pieces of the pictures that the samples are made from.

        A piece lies around its sample's centre and shift, both rounded to whole pixels.
        """
        if not self.moves:
            return self.shape
        height, width = self.shape
        half = np.array([width / 2, height / 2])
        # A spline lies between its knots.
        bent = np.abs(self.knots).max(axis=(2, 3))
        across, down = np.ceil(((np.abs(self.matrices) * half).sum(axis=2) + bent).max(axis=0)) + 2
        return 2 * int(down), 2 * int(across)

    def part(self, some: slice) -> "Changes":
        """What happens to these of the samples."""
        of_samples = (declared.name for declared in fields(self) if declared.name != "shape")
        return replace(self, **{name: getattr(self, name)[some] for name in of_samples})


def draw_changes(
    count: int, channels: int, shape: tuple[int, int], augmentation: Augmentation, generator: np.random.Generator
) -> Changes:
    """Draws the changes of `count` samples of this shape: each has its own.

    As many numbers are drawn whatever the strengths are, so one kind of change leaves the others as they were.
    """
    limits = augmentation.limits

    def either_way(limit: float, *size: int) -> Numbers:
        return generator.uniform(-1, 1, (count, *size)) * limit

    matrices = _matrices(
        either_way(limits.rotation),
        either_way(limits.zoom),
        either_way(limits.shear),
        np.where(generator.random((count, 2)) < limits.flips, -1.0, 1.0),
    )
    height, width = shape
    contrast = np.exp(either_way(limits.contrast, 1))
    cast = np.exp(either_way(limits.color_cast, channels))
    return Changes(
        shape=shape,
        matrices=matrices,
        shifts=either_way(limits.shift, 2) * (width, height),
        knots=either_way(limits.elastic, 2, KNOTS, KNOTS) * min(shape),
        gamma=np.exp(either_way(limits.gamma, 1)),
        # Contrast is about mid-grey, which a cast then colours.
        gain=contrast * cast,
        offset=127.5 * (1 - contrast) * cast + either_way(limits.brightness, 1),
        noise=either_way(limits.noise),
        noise_starts=generator.integers(
            0, NOISE_BANK - NOISE_PIECE, (count, -(-channels * height * width // NOISE_PIECE))
        ),
    )


def apply_changes(
    images: Tensor, labels: Tensor, changes: Changes, centres: Sequence[tuple[float, float]]
) -> tuple[Tensor, Tensor]:
    """The samples: images float (B, C, h, w), in 0..255 but for changes of colour, and labels uint8 (B, L, h, w).

    images, labels: uint8 pieces of the pictures. centres: B (x, y), the sample's centre in its piece before its shift,
    in pixels from the middle of the piece. Images are read bilinearly, labels by nearest neighbour; pixels from outside
    are mirrored in the image and 0 in the labels. What no change asks for is not computed.
    """
    # Samples that stay where they are, beside others that move, lie in pieces as large as those need.
    moves = changes.moves or images.shape[2:] != changes.shape
    batch, channels = images.shape[:2]
    # Channels lie last in memory, which is how the network wants them.
    samples = torch.empty((batch, channels, *changes.shape), device=images.device, memory_format=torch.channels_last)
    moved_labels = torch.empty((batch, labels.shape[1], *changes.shape), dtype=torch.uint8, device=labels.device)
    coefficients = _coefficients(images, changes, centres)
    colour_steps = _colour_steps(changes, images.device)
    together = _samples_together(images)
    for first in range(0, batch, together):
        some = slice(first, first + together)
        # Pixels are read fastest, out of order, where each channel lies by itself.
        few = images[some].to(torch.float32, memory_format=torch.contiguous_format)
        few_labels = labels[some]
        if moves:
            grid = _grid(coefficients[some], changes.shape)
            # What lies outside is mirrored by hand: grid_sample takes longer to do so.
            mirrored = torch.lerp(grid, grid.clamp(-1, 1), 2.0)
            few = F.grid_sample(few, mirrored, mode="bilinear", padding_mode="border", align_corners=False)
            # A whole number survives nearest neighbour.
            few_labels = F.grid_sample(
                few_labels.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
            )
        for step, numbers in colour_steps:
            step(few, numbers[some])
        if changes.noise.any():
            _add_noise(few, changes.noise[some].tolist(), changes.noise_starts[some].tolist())
        samples[some] = few
        moved_labels[some] = few_labels
    return samples, moved_labels


def _samples_together(images: Tensor) -> int:
    """How many samples are changed at a time: all, but on a CPU one for each thread, or as many as its cache holds."""
    if images.device.type != "cpu":
        return len(images)
    threads = torch.get_num_threads()
    return threads * max(1, CACHED // (threads * images[0].numel()))


def _matrices(angle: Numbers, zoom: Numbers, shear: Numbers, flips: Numbers) -> Numbers:
    """(B, 2, 2): mirrored, sheared, turned, and enlarged."""
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    sheared = np.zeros_like(rotation)
    sheared[:, 0, 0] = flips[:, 0]
    sheared[:, 1, 1] = flips[:, 1]
    sheared[:, 0, 1] = shear
    matrices: Numbers = np.exp(zoom)[:, None, None] * rotation @ sheared
    return matrices


def _coefficients(images: Tensor, changes: Changes, centres: Sequence[tuple[float, float]]) -> Tensor:
    """How much of each curve of the rows times each of the columns moves x and y: float (B, 2, curves, curves)."""
    height, width = changes.shape
    half = np.array([width / 2, height / 2])
    curves = 2 + KNOTS if changes.knots.any() else 2
    coefficients = np.zeros((len(images), 2, curves, curves))
    coefficients[:, :, 0, 0] = np.array(centres) + changes.shifts
    coefficients[:, :, 0, 1] = changes.matrices[:, :, 0] * half[0]
    coefficients[:, :, 1, 0] = changes.matrices[:, :, 1] * half[1]
    if curves > 2:
        coefficients[:, :, 2:, 2:] = changes.knots
    coefficients /= np.array([images.shape[3] / 2, images.shape[2] / 2])[:, None, None]
    return _to_device(coefficients, images.device)


def _grid(coefficients: Tensor, shape: tuple[int, int]) -> Tensor:
    """Where each pixel of the samples is read: (x, y) in -1..1 from edge to edge of its piece, float (B, h, w, 2).

    Rows and columns contribute apart from each other, to what is affine as to the spline, so that all of it is
    rows' curves x coefficients x columns' curves: two small products of matrices.
    """
    rows, columns = (_curves(side, coefficients.device)[:, : coefficients.shape[2]] for side in shape)
    places = rows @ (coefficients @ columns.T)  # (B, 2, h, w)
    return places.permute(0, 2, 3, 1)


@lru_cache(maxsize=64)
def _curves(side: int, device: torch.device) -> Tensor:
    """Curves over a side of this many pixels, float (side, 2 + KNOTS): 1; from -1 to 1; each knot's cubic spline.

    The spline is the uniform cubic B-spline: its curves are not negative and add up to 1 everywhere.
    """
    middles = (np.arange(side) + 0.5) / side
    distances = np.abs(middles[:, None] * (KNOTS - 3) - (np.arange(KNOTS) - 1))
    near = 2 / 3 - distances**2 + distances**3 / 2
    far = np.maximum(2 - distances, 0) ** 3 / 6
    splines = np.where(distances < 1, near, far)
    return _to_device(np.column_stack([np.ones(side), 2 * middles - 1, splines]), device)


def _colour_steps(changes: Changes, device: torch.device) -> list[tuple[ColourStep, Tensor]]:
    """What is done in place to samples (B, C, h, w), one after the other, and its numbers, (B, C or 1, 1, 1)."""
    steps: list[tuple[ColourStep, Numbers]] = []
    gain = changes.gain
    if (changes.gamma != 1).any():
        # 255 (x / 255)^gamma = x^gamma 255^(1 - gamma)
        steps.append((_raise, changes.gamma))
        gain = gain * 255 ** (1 - changes.gamma)
    if (gain != 1).any():
        steps.append((Tensor.mul_, gain))
    if changes.offset.any():
        steps.append((Tensor.add_, changes.offset))
    return [(step, _to_device(numbers, device)[:, :, None, None]) for step, numbers in steps]


def _raise(samples: Tensor, exponents: Tensor) -> Tensor:
    """Raises to a power in place. Two logarithms cost half of `pow_`; that of 0 ends as 0."""
    return samples.log2_().mul_(exponents).exp2_()


def _add_noise(samples: Tensor, deviations: list[float], starts: list[list[int]]) -> None:
    """Adds normal noise in place, read from the bank from these starts on: it costs no more than adding."""
    bank = _noise_bank(samples.device)
    for sample, deviation, sample_starts in zip(samples.view(len(samples), -1), deviations, starts, strict=True):
        for piece, start in zip(sample.split(NOISE_PIECE), sample_starts, strict=True):
            piece.add_(bank[start : start + len(piece)], alpha=deviation)


@cache
def _noise_bank(device: torch.device) -> Tensor:
    """Normal numbers, the same on every machine."""
    return torch.randn(NOISE_BANK, generator=torch.Generator().manual_seed(0)).to(device)


def _to_device(numbers: Numbers, device: torch.device) -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32)).to(device, non_blocking=True)
