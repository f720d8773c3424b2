"""What torch.compile gives a training step: images per second of the default network, compiled and as it is, in turns.

The project does not compile: this says why, on the device it runs on. Needs a C++ compiler on a CPU.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from outcome import conclude, describe_machine, parse_arguments, print_table, spread
from torch import nn

from data.segmentation_data import MULTILABEL
from model.config import TrainConfig
from model.device import choose_device, uses_bfloat16
from model.losses import make_loss
from model.unet import build_unet

ROUNDS, STEPS = 7, 20
WORTHWHILE = 1.1  # times faster, or the minute of compiling a network for each trial is not earned back
CONFIG = TrainConfig()


def make_step(device: torch.device, *, compiled: bool) -> Callable[[], None]:
    """A training step of the default network on one batch that stays where it is."""
    torch.manual_seed(0)
    network = build_unet(CONFIG, channels=3, classes=1, label_mode=MULTILABEL).to(device).train()
    forward: nn.Module = torch.compile(network) if compiled else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    loss_of = make_loss(CONFIG, MULTILABEL, torch.ones(1, device=device))
    shape = CONFIG.batch_size, 3, CONFIG.crop_size, CONFIG.crop_size
    images = (255 * torch.rand(shape, device=device)).contiguous(memory_format=torch.channels_last)
    masks = (torch.rand(shape[0], 1, *shape[2:], device=device) > 0.9).float()
    valid = torch.ones_like(masks)
    bfloat16 = uses_bfloat16("auto", device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits = forward(images)
        optimizer.zero_grad()
        loss_of(logits.float(), masks, valid).backward()
        optimizer.step()

    return step


def timed(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Seconds that so many steps take."""
    started = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> int:
    """Times both in turns and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    device = choose_device("auto")
    steps = {name: make_step(device, compiled=name == "compiled") for name in ("as it is", "compiled")}
    first = {name: timed(step, 1, device) for name, step in steps.items()}
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(ROUNDS + 1):
        for name, step in steps.items():
            seconds = timed(step, STEPS, device)
            if turn:
                rates[name].append(STEPS * CONFIG.batch_size / seconds)
    ratios = [one / other for one, other in zip(rates["compiled"], rates["as it is"], strict=True)]
    print(f"{describe_machine()}; {torch.get_num_threads()} threads")
    rows = [("network", "images/s: median (range)", "first step, s")]
    rows += [(name, spread(rates[name]), f"{first[name]:.1f}") for name in steps]
    print_table(rows)
    ratio = statistics.median(ratios)
    figure = f"{spread(ratios, 2)} times as fast compiled, after {first['compiled']:.0f} s"
    goal = f"below {WORTHWHILE}: it is rightly off"
    figures = {"rates": rates, "first": first}
    return conclude("compiled", figure, goal, ratio < WORTHWHILE, figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
