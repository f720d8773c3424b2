"""What becomes of masks that are shrunk to 256 pixels: the middle pixel of each square against a vote of all of them.

`data.fit.fit_mask` takes of each square its middle pixel. The other way is to average, and to mark what lies above a
threshold. Both shrink the same masks of real sets, and each result is enlarged again by repeating pixels. Told are, as
means over the pictures that hold the class: how much of the class's share of the picture is kept, the Dice of the
enlarged mask with the mask, and how much of the mask's skeleton (Zhang and Suen 1984) the enlarged one still covers.
Expects the data sets in `../shared/datasets`, or where DATASETS says.
"""

import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from outcome import conclude, describe_machine, parse_arguments, print_table
from PIL import Image

from data.fit import fit_mask, fitted_size
from data.readers import load
from data.segmentation_data import Preparation, UInt8

DATASETS = Path(os.environ.get("DATASETS", Path(__file__).resolve().parents[2] / "shared" / "datasets"))
SIZE = 256
# Set and class: long thin things, and small round ones.
CLASSES = (("stare", "vessel"), ("idrid", "microaneurysms"))
GOAL_SHARE, GOAL_DICE = 0.05, 0.01

Bits = npt.NDArray[np.bool_]


def shrink_by_area(mask: UInt8, *, threshold: float) -> UInt8:
    """A mask (H, W) at the size of its fitted picture: 1 where more than `threshold` of the area is marked."""
    height, width = fitted_size(mask.shape[0], mask.shape[1], SIZE)
    share = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return (np.asarray(share) > threshold).astype(np.uint8)


WAYS: dict[str, Callable[[UInt8], UInt8]] = {
    "middle pixel (ours)": partial(fit_mask, size=SIZE),
    "area above 0.5": partial(shrink_by_area, threshold=0.5),
    "area above 0.4": partial(shrink_by_area, threshold=0.4),
    "area above 0.3": partial(shrink_by_area, threshold=0.3),
}


def thin(mask: Bits) -> Bits:
    """The skeleton of a mask (H, W), by Zhang and Suen, "A fast parallel algorithm for thinning digital patterns"."""
    skeleton = np.pad(mask, 1)
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            # The eight neighbours, clockwise from the one above.
            moves = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
            around = [np.roll(skeleton, (-down, -right), (0, 1)) for down, right in moves]
            north, east, south, west = around[::2]
            count = np.sum(around, axis=0)
            steps = np.sum(
                [~one & following for one, following in zip(around, around[1:] + around[:1], strict=True)], axis=0
            )
            corners = (
                (~(north & east & south) & ~(east & south & west))
                if first
                else (~(north & east & west) & ~(north & south & west))
            )
            gone = skeleton & (count >= 2) & (count <= 6) & (steps == 1) & corners
            changed |= bool(gone.any())
            skeleton = skeleton & ~gone
    return skeleton[1:-1, 1:-1]


def judge(mask: UInt8, shrunk: UInt8, skeleton: Bits) -> tuple[float, float, float]:
    """Share kept, Dice once enlarged again, and share of the skeleton that is covered, of one mask (H, W)."""
    height, width = mask.shape
    enlarged = np.asarray(Image.fromarray(shrunk).resize((width, height), Image.Resampling.NEAREST)).astype(bool)
    both = int((enlarged & mask.astype(bool)).sum())
    dice = 2 * both / (int(enlarged.sum()) + int(mask.sum()))
    return float(shrunk.mean() / mask.mean()), dice, float(enlarged[skeleton].mean())


def mean_and_deviation(values: Sequence[float]) -> str:
    """As `0.853 (sd 0.012)`."""
    return f"{statistics.mean(values):.3f} (sd {statistics.stdev(values):.3f})"


def main() -> int:
    arguments = parse_arguments(str(__doc__).splitlines()[0])
    print(describe_machine(), end="\n\n")
    rows: list[tuple[str, ...]] = [
        ("set, class", "n", "way", "share kept", "Dice, enlarged again", "skeleton covered"),
    ]
    report: dict[str, Any] = {}
    means: dict[tuple[str, str], list[float]] = {}
    for name, class_name in CLASSES:
        data = load(name, root=DATASETS, preparation=Preparation(size="native"))
        planes = data.masks[:, data.class_names.index(class_name)]
        masks = [plane[:height, :width] for plane, (height, width) in zip(planes, data.sizes, strict=True)]
        masks = [mask for mask in masks if mask.any()]
        skeletons = [thin(mask.astype(bool)) for mask in masks]
        for way, shrink in WAYS.items():
            judged = [judge(mask, shrink(mask), skeleton) for mask, skeleton in zip(masks, skeletons, strict=True)]
            columns = list(zip(*judged, strict=True))
            means[name, way] = [statistics.mean(column) for column in columns]
            report[f"{name}, {class_name}, {way}"] = dict(
                zip(("share_kept", "dice", "skeleton_covered"), columns, strict=True)
            )
            rows.append((f"{name}, {class_name}", str(len(masks)), way, *map(mean_and_deviation, columns)))
    print_table(rows)
    print()
    ours, area = list(WAYS)[:2]
    off = max(abs(means[name, ours][0] - 1) for name, _ in CLASSES)
    lost = max(means[name, area][1] - means[name, ours][1] for name, _ in CLASSES)
    figure = f"shares off by {off:.3f} at most, Dice {-lost:+.3f} against area above 0.5 at least"
    goal = f"off by less than {GOAL_SHARE}, Dice not below -{GOAL_DICE}"
    return conclude("shrinking", figure, goal, off < GOAL_SHARE and lost <= GOAL_DICE, report, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
