"""Images per second of our augmentation against torchvision v2, kornia and albumentations, on the same threads.

Each changes 16 pictures of 256 x 256 with their masks, from uint8 in memory to float tensors for a network: flips,
rotation, shift, zoom, shear, elastic distortion, brightness, contrast, gamma and noise, all but the flips applied to
every picture. They take turns in one process. Run it alone: torch's threads wait for each other after every operation,
and where anything else keeps a core busy, all that is torch's becomes many times slower, and the rest does not.

  ours          `data.sampling.draw_batch`, as a training calls it
  torchvision   v2 on uint8 tv_tensors, picture by picture; gamma, which v2 has as a function only, drawn by hand
  kornia        AugmentationSequential on the batch in float32
  albumentations  Compose on uint8 arrays, picture by picture; elastic with `approximate`, its fast way

What works picture by picture runs in two ways: in this process with two threads inside the library, and in a
DataLoader of two workers with a thread each. The figure is against whichever is fastest. Elastic distortion is what the
libraries are slowest at, so a second table shows ours and albumentations without it, and with albumentations' coarse
and cheap GridDistortion in its place. With a CUDA device there is another table, for what runs there.
"""

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from outcome import conclude, describe_machine, parse_arguments, print_table, spread
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from data.augmentation import Augmentation
from data.sampling import Sampling, draw_batch
from data.segmentation_data import MULTILABEL, Preparation, SegmentationData
from data.statistics import measure_all
from data.windows import place

THREADS = 2
BATCH, SIDE, PICTURES = 16, 256, 32
ROUNDS = 7
SECONDS = 0.4  # of a turn, at least
LOADED = 8  # batches of a turn of a DataLoader
GOAL = 3.0

# Strength 0.5 of ours, in the others' words. None of them has a cast of colour among its usual transforms.
OURS = Augmentation(
    rotation=0.5,
    shift=0.5,
    zoom=0.5,
    shear=0.5,
    flips=1.0,
    elastic=0.5,
    brightness=0.5,
    contrast=0.5,
    gamma=0.5,
    noise=0.5,
)
DEGREES, SHIFT, SCALE, SHEAR = 30.0, 0.05, (0.84, 1.19), 4.3
BRIGHTNESS, CONTRAST, GAMMA, NOISE = 25 / 255, 0.2, (0.82, 1.22), 6 / 255
# A Gaussian of 5 pixels is torchvision's default; wider ones, as smooth as ours, cost the others more.
ELASTIC_WIDTH, ELASTIC_KERNEL = 5.0, 41

Augment = Callable[[list[int]], tuple[Tensor, Tensor]]


class RandomGamma(nn.Module):
    """The gamma of a picture, in torchvision's own function; masks pass."""

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Both, the picture changed."""
        gamma = float(torch.empty(()).uniform_(*GAMMA))
        return v2.functional.adjust_gamma(image, gamma), mask


def make_data() -> SegmentationData:
    """Random pictures: what they show does not change the speed."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (PICTURES, SIDE, SIDE, 3), dtype=np.uint8)
    masks = generator.integers(0, 2, (PICTURES, 1, SIDE, SIDE), dtype=np.uint8)
    valid = np.ones((PICTURES, SIDE, SIDE), np.uint8)
    return SegmentationData(
        images=images,
        masks=masks,
        valid=valid,
        statistics=measure_all(images, masks, valid),
        names=tuple(f"picture{index}" for index in range(PICTURES)),
        class_names=("foreground",),
        label_mode=MULTILABEL,
        parts=(None,) * PICTURES,
        groups=(None,) * PICTURES,
        sizes=((SIDE, SIDE),) * PICTURES,
        preparation=Preparation(),
        source="random",
        fingerprint="random",
    )


def ours(data: SegmentationData, device: torch.device, augmentation: Augmentation = OURS) -> Augment:
    """Our batches."""
    pictures = place(data, tuple(range(PICTURES)), device)
    sampling = Sampling(augmentation=augmentation)
    generator = np.random.default_rng(0)

    def augment(indices: list[int]) -> tuple[Tensor, Tensor]:
        batch = draw_batch(pictures, indices, sampling, generator)
        return batch.images, batch.masks

    return augment


def kornia(data: SegmentationData, device: torch.device) -> Augment:
    """Batches that kornia changes: every sample in its own way, as it does by default."""
    import kornia.augmentation as augmentation

    images = torch.from_numpy(data.images.transpose(0, 3, 1, 2).copy()).to(device)
    masks = torch.from_numpy(data.masks).to(device)
    change = augmentation.AugmentationSequential(
        augmentation.RandomHorizontalFlip(p=0.5),
        augmentation.RandomVerticalFlip(p=0.5),
        augmentation.RandomAffine(DEGREES, (SHIFT, SHIFT), SCALE, SHEAR, padding_mode="reflection", p=1.0),
        augmentation.RandomElasticTransform(
            (ELASTIC_KERNEL, ELASTIC_KERNEL), (ELASTIC_WIDTH, ELASTIC_WIDTH), padding_mode="reflection", p=1.0
        ),
        augmentation.RandomBrightness((1 - BRIGHTNESS, 1 + BRIGHTNESS)),
        augmentation.RandomContrast((1 - CONTRAST, 1 + CONTRAST)),
        augmentation.RandomGamma(GAMMA),
        augmentation.RandomGaussianNoise(std=NOISE, p=1.0),
        data_keys=["image", "mask"],
    )

    def augment(indices: list[int]) -> tuple[Tensor, Tensor]:
        image, mask = change(images[indices].float() / 255, masks[indices].float())
        return image, mask

    return augment


class TorchvisionPictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures that torchvision changes one by one."""

    def __init__(self, data: SegmentationData, device: torch.device) -> None:
        self.images = torch.from_numpy(data.images.transpose(0, 3, 1, 2).copy()).to(device)
        self.masks = torch.from_numpy(data.masks).to(device)
        bilinear = v2.InterpolationMode.BILINEAR
        self.transform = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.RandomAffine(DEGREES, (SHIFT, SHIFT), SCALE, SHEAR, interpolation=bilinear),
                v2.ElasticTransform(sigma=ELASTIC_WIDTH),
                v2.ColorJitter(brightness=BRIGHTNESS, contrast=CONTRAST),
                RandomGamma(),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
                v2.GaussianNoise(sigma=NOISE),
            ]
        )

    def __len__(self) -> int:
        return BATCH * LOADED

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        which = index % PICTURES
        image, mask = self.transform(tv_tensors.Image(self.images[which]), tv_tensors.Mask(self.masks[which]))
        return image, mask

    def collate(self, samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """A batch of them."""
        images, masks = zip(*samples, strict=True)
        return torch.stack(images), torch.stack(masks).float()


class AlbumentationsPictures(Dataset[tuple[Any, Any]]):
    """Pictures that albumentations changes one by one."""

    def __init__(self, data: SegmentationData, bend: str = "elastic") -> None:
        """bend: elastic, a coarse grid, or none."""
        import albumentations  # type: ignore[import-untyped]
        import cv2

        self.images, self.masks = data.images, data.masks[:, 0]
        mirrored = cv2.BORDER_REFLECT_101
        bends: dict[str, list[Any]] = {
            "elastic": [
                albumentations.ElasticTransform(
                    alpha=50, sigma=ELASTIC_WIDTH, approximate=True, border_mode=mirrored, p=1.0
                )
            ],
            "grid": [albumentations.GridDistortion(num_steps=4, distort_limit=0.2, border_mode=mirrored, p=1.0)],
            "none": [],
        }
        self.transform = albumentations.Compose(
            [
                albumentations.HorizontalFlip(p=0.5),
                albumentations.VerticalFlip(p=0.5),
                albumentations.Affine(
                    rotate=(-DEGREES, DEGREES),
                    translate_percent=(-SHIFT, SHIFT),
                    scale=SCALE,
                    shear=(-SHEAR, SHEAR),
                    border_mode=mirrored,
                    p=1.0,
                ),
                *bends[bend],
                albumentations.RandomBrightnessContrast(BRIGHTNESS, CONTRAST, p=1.0),
                albumentations.RandomGamma((100 * GAMMA[0], 100 * GAMMA[1]), p=1.0),
                albumentations.GaussNoise(std_range=(0.0, NOISE), p=1.0),
            ]
        )

    def __len__(self) -> int:
        return BATCH * LOADED

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        which = index % PICTURES
        changed = self.transform(image=self.images[which], mask=self.masks[which])
        return changed["image"], changed["mask"]

    def collate(self, samples: list[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
        """A batch of them."""
        images, masks = zip(*samples, strict=True)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return pixels.float(), torch.from_numpy(np.stack(masks))[:, None].float()


def one_thread(_: int) -> None:
    """Each of two workers has one thread."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def timed(augment: Augment, device: torch.device) -> Callable[[], float]:
    """Images per second over as many batches as fill a turn."""

    def run() -> float:
        batches, seconds = 0, 0.0
        synchronize(device)
        started = time.perf_counter()
        while seconds < SECONDS:
            augment([(batches * BATCH + index) % PICTURES for index in range(BATCH)])
            synchronize(device)
            batches += 1
            seconds = time.perf_counter() - started
        return batches * BATCH / seconds

    return run


def one_by_one(pictures: Any) -> Augment:
    """A batch of pictures that are changed in this process."""
    return lambda indices: pictures.collate([pictures[index] for index in indices])


def loaded(pictures: Any) -> Callable[[], float]:
    """Images per second of a DataLoader; its workers have nothing to do before its turn and after it."""
    loader = DataLoader(
        pictures,
        BATCH,
        num_workers=THREADS,
        persistent_workers=True,
        # A forked worker would wait for ever for the threads that OpenCV has in this process.
        multiprocessing_context="spawn",
        worker_init_fn=one_thread,
        collate_fn=pictures.collate,
    )

    def run() -> float:
        started = time.perf_counter()
        for _ in loader:
            pass
        return LOADED * BATCH / (time.perf_counter() - started)

    return run


def take_turns(loops: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each loop's images per second, one figure a turn; the first turn warms up and is left out."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(ROUNDS + 1):
        for name, loop in loops.items():
            rate = loop()
            if turn:
                rates[name].append(rate)
    return rates


def compare(rates: dict[str, list[float]]) -> tuple[str, float]:
    """Prints the table; returns the fastest of the others, and how many times as fast ours is, turn by turn."""
    own, *others = rates
    ratios = {name: [mine / other for mine, other in zip(rates[own], rates[name], strict=True)] for name in rates}
    rows = [(name, spread(rates[name], 0), spread(ratios[name])) for name in rates]
    print_table([("augmentation", "images/s: median (range)", "ours / this, turn by turn"), *rows])
    best = max(others, key=lambda name: statistics.median(rates[name]))
    return best, statistics.median(ratios[best])


def synchronize(device: torch.device) -> None:
    """Waits for a CUDA device to finish its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> int:
    """Times the augmentations in turns and prints the tables."""
    arguments = parse_arguments(__doc__ or "")
    # albumentations would ask the network for its newest version.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    warnings.filterwarnings("ignore", category=FutureWarning)
    import cv2

    torch.set_num_threads(THREADS)
    cv2.setNumThreads(THREADS)
    data = make_data()
    print(f"{describe_machine()}; {THREADS} threads")
    print(f"batches of {BATCH} pictures of {SIDE} x {SIDE} with a mask each")
    cpu = torch.device("cpu")
    torchvision, albumentations = TorchvisionPictures(data, cpu), AlbumentationsPictures(data)
    rates = take_turns(
        {
            "ours": timed(ours(data, cpu), cpu),
            "torchvision v2, 2 threads": timed(one_by_one(torchvision), cpu),
            "torchvision v2, 2 workers": loaded(torchvision),
            "kornia, 2 threads": timed(kornia(data, cpu), cpu),
            "albumentations, 2 threads": timed(one_by_one(albumentations), cpu),
            "albumentations, 2 workers": loaded(albumentations),
        }
    )
    best, times = compare(rates)
    print("\nhow much of that is elastic distortion:")
    plain, grid = AlbumentationsPictures(data, "none"), AlbumentationsPictures(data, "grid")
    bends = take_turns(
        {
            "ours, as above": timed(ours(data, cpu), cpu),
            "ours, without elastic": timed(ours(data, cpu, replace(OURS, elastic=0.0)), cpu),
            "albumentations, grid, 2 threads": timed(one_by_one(grid), cpu),
            "albumentations, grid, 2 workers": loaded(grid),
            "albumentations, without elastic, 2 threads": timed(one_by_one(plain), cpu),
            "albumentations, without elastic, 2 workers": loaded(plain),
        }
    )
    compare(bends)
    figures: dict[str, Any] = {"images_per_second": rates, "images_per_second_bends": bends, "threads": THREADS}
    if torch.cuda.is_available():
        cuda = torch.device("cuda")
        print("\non the CUDA device:")
        figures["images_per_second_cuda"] = take_turns(
            {
                "ours": timed(ours(data, cuda), cuda),
                "torchvision v2, picture by picture": timed(one_by_one(TorchvisionPictures(data, cuda)), cuda),
                "kornia": timed(kornia(data, cuda), cuda),
            }
        )
        compare(figures["images_per_second_cuda"])
    return conclude(
        "augmentation",
        f"{times:.1f} times the best of torchvision v2, kornia and albumentations ({best})",
        f">= {GOAL:g} times",
        times >= GOAL,
        figures,
        arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
