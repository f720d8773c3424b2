"""Images per second of `train`, against the ceiling of its network and against how such a loop is often written.

Four loops take turns in one process, one epoch's worth of samples at a time, so that a busy machine slows all alike:
  ours      `model.train.train`: crops drawn and augmented on the device, losses, optimizer, everything but evaluation
  ceiling   the same network, loss and optimizer stepped on one resident batch, nothing else
  plain     float32, NCHW, a DataLoader and torchvision v2 augmentation of each image, the same network
  MONAI     BasicUNet of about as many parameters, float32, NCHW, on one resident batch; and again as ours computes
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import count

import numpy as np
import torch
from outcome import conclude, describe_machine, parse_arguments, print_table, spread
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from data.sampling import Sampling, draw_batch, samples_per_epoch
from data.segmentation_data import MULTILABEL, Preparation, SegmentationData, Split
from data.statistics import measure_all
from data.windows import place
from model.config import TrainConfig
from model.device import choose_device, uses_bfloat16
from model.losses import make_loss
from model.train import train
from model.unet import build_unet

ROUNDS = 7
SIDE, PICTURES, CROP, BATCH = 512, 8, 128, 16
GOAL_CEILING, GOAL_PLAIN = 0.95, 2.5
CONFIG = TrainConfig(
    depth=4, width=16, crop_size=CROP, batch_size=BATCH, augmentation=0.5, loss="dice_ce", max_epochs=1000, seed=1
)


def make_data() -> SegmentationData:
    """Random pictures: what they show does not change the speed."""
    generator = np.random.default_rng(0)
    names = tuple(f"picture{index}" for index in range(PICTURES + 1))
    images = generator.integers(0, 256, (PICTURES + 1, SIDE, SIDE, 3), dtype=np.uint8)
    masks = generator.integers(0, 2, (PICTURES + 1, 1, SIDE, SIDE), dtype=np.uint8)
    valid = np.ones((PICTURES + 1, SIDE, SIDE), np.uint8)
    return SegmentationData(
        images=images,
        masks=masks,
        valid=valid,
        statistics=measure_all(images, masks, valid),
        names=names,
        class_names=("foreground",),
        label_mode=MULTILABEL,
        parts=(None,) * len(names),
        groups=(None,) * len(names),
        sizes=((SIDE, SIDE),) * len(names),
        preparation=Preparation(),
        source="random",
        fingerprint="random",
    )


class PlainPictures(Dataset[tuple[Tensor, Tensor]]):
    """A random crop of a picture, augmented by torchvision, as tutorials write it."""

    def __init__(self, data: SegmentationData, samples: int) -> None:
        self.images = torch.from_numpy(data.images[:PICTURES].transpose(0, 3, 1, 2).copy())
        self.masks = torch.from_numpy(data.masks[:PICTURES].copy())
        self.samples = samples
        strength = CONFIG.augmentation
        self.transform = v2.Compose(
            [
                v2.RandomCrop(CROP),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.RandomAffine(degrees=60 * strength, scale=(0.84, 1.19), shear=8.5 * strength),
                v2.ColorJitter(brightness=0.4 * strength, contrast=0.4 * strength, saturation=0.15 * strength),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            ]
        )

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        which = index % PICTURES
        image, mask = self.transform(tv_tensors.Image(self.images[which]), tv_tensors.Mask(self.masks[which]))
        return image, mask.float()


def stepper(network: nn.Module, device: torch.device, *, like_ours: bool) -> Callable[[Tensor, Tensor, Tensor], None]:
    """One training step of the network: as ours computes, or in float32 and NCHW."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=like_ours)
    bfloat16 = like_ours and uses_bfloat16("auto", device)
    loss_of = make_loss(CONFIG, MULTILABEL, torch.ones(1, device=device))

    def step(images: Tensor, masks: Tensor, valid: Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits = network(images)
        loss = loss_of(logits.float(), masks, valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> int:
    """Times the loops in turns and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    from monai.networks.nets import BasicUNet

    device = choose_device("auto")
    data = make_data()
    split = Split(train=tuple(range(PICTURES)), validation=(PICTURES,))
    pictures = place(data, split.train, device)
    samples = samples_per_epoch(pictures, CROP)
    steps = -(-samples // BATCH)
    generator = np.random.default_rng(0)
    indices = [index % PICTURES for index in range(BATCH)]
    batch = draw_batch(pictures, indices, Sampling(crop_size=CROP, augmentation=CONFIG.changes), generator)
    resident = batch.images.contiguous(memory_format=torch.channels_last)
    flat = batch.images.contiguous()

    def make_network() -> nn.Module:
        return build_unet(CONFIG, channels=3, classes=1, label_mode=MULTILABEL).to(device)

    # BasicUNet has four down-samplings; its features are set so that the parameters come to those of ours.
    features = (16, 32, 64, 128, 256, 16)
    monai = BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=features, act="relu", norm="batch")
    twin = BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=features, act="relu", norm="batch")
    parameters = {
        "ours": sum(one.numel() for one in make_network().parameters()),
        "MONAI": sum(one.numel() for one in monai.parameters()),
    }
    epochs = train(CONFIG, data, split, device=device)

    def ours() -> float:
        return next(epochs).images_per_second

    def timed(run: Callable[[], None]) -> float:
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        return steps * BATCH / (time.perf_counter() - started)

    def on_one_batch(network: nn.Module, images: Tensor, *, like_ours: bool) -> Callable[[], float]:
        step = stepper(network.train().to(device), device, like_ours=like_ours)
        return lambda: timed(lambda: [step(images, batch.masks, batch.valid) for _ in range(steps)] and None)

    def plain(workers: int) -> Callable[[], float]:
        network = make_network().to(memory_format=torch.contiguous_format).train()
        step = stepper(network, device, like_ours=False)
        loader = DataLoader(
            PlainPictures(data, steps * BATCH), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )

        def epoch() -> None:
            for images, masks in loader:
                step(255 * images.to(device), masks.to(device), torch.ones_like(masks, device=device))

        return lambda: timed(epoch)

    loops: dict[str, Callable[[], float]] = {
        "ours: train": ours,
        "ceiling: one resident batch": on_one_batch(make_network(), resident, like_ours=True),
        "plain: DataLoader, 0 workers": plain(0),
        "plain: DataLoader, 2 workers": plain(2),
        "MONAI BasicUNet, float32 NCHW, resident batch": on_one_batch(monai, flat, like_ours=False),
        "MONAI BasicUNet, computing as ours, resident batch": on_one_batch(
            twin.to(memory_format=torch.channels_last), resident, like_ours=True
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for turn in count():
        for name, loop in loops.items():
            rate = loop()
            if turn > 0:  # the first turn makes the kernels
                rates[name].append(rate)
        if turn == ROUNDS:
            break

    own = rates["ours: train"]
    print(f"{describe_machine()}; {torch.get_num_threads()} threads")
    print(f"U-net of depth 4, width 16 ({parameters['ours']:,} parameters; MONAI {parameters['MONAI']:,}), ", end="")
    print(f"batches of {BATCH} crops of {CROP} x {CROP}, {steps} steps a turn")
    table = [("loop", "images/s: median (range)", "ours / this, turn by turn")]
    ratios = {name: [mine / other for mine, other in zip(own, rates[name], strict=True)] for name in loops}
    table += [(name, spread(rates[name]), spread(ratios[name], 2)) for name in loops]
    print_table(table)
    to_ceiling = statistics.median(ratios["ceiling: one resident batch"])
    to_plain = min(statistics.median(ratios[name]) for name in loops if name.startswith("plain"))
    return conclude(
        "train_step",
        f"{to_ceiling:.2f} of the ceiling, {to_plain:.2f} times the plain loop",
        f">= {GOAL_CEILING} of the ceiling, >= {GOAL_PLAIN:g} times the plain loop",
        to_ceiling >= GOAL_CEILING and to_plain >= GOAL_PLAIN,
        {"images_per_second": rates, "parameters": parameters},
        arguments.json,
    )


def synchronize(device: torch.device) -> None:
    """Waits for a CUDA device to finish its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
