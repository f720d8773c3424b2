"""Draws the picture of the README: what a model makes of a synthetic retina that was kept for testing.

python docs/draw_result.py runs/NAME/best docs/images/result.png
"""

import sys
from pathlib import Path

from PIL import Image

from data.readers import load
from model.checkpoint import CONFIG, read_card
from model.sample import draw_sample

TIMES = 2  # enlarged


def main(model: Path, picture: Path) -> None:
    """Draws the first test image of the data that the model was trained on."""
    card = read_card(model / CONFIG)
    data = load(card.source, preparation=card.preparation)
    drawn = Image.fromarray(draw_sample(model, data, data.parts.index("test")))
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawn.resize((drawn.width * TIMES, drawn.height * TIMES), Image.Resampling.LANCZOS).save(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
