"""Draws the pictures of docs/report.md: the report of a run on a screen and on a phone, in headless Chromium.

python -m docs.draw_report runs/NAME docs/images
"""

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from search.report.page import write_page
from search.report.run_facts import read_facts
from tests.search.browser import DESKTOP, PHONE, chromium

SCREEN_HEIGHT, PHONE_HEIGHT, GAP = 1500, 1300, 24  # pixels
# Where each strip of a picture begins: the id of a part of the page, or its top.
ON_SCREEN = ("", "settings", "winner")
ON_PHONE = ("", "curves", "importance", "winner")
COLORS = 128


def take(page: Any, place: str, width: int, height: int) -> Image.Image:
    """The strip of an open page that begins at a part of it."""
    top = 0 if not place else page.evaluate(f"document.getElementById('{place}').getBoundingClientRect().top + scrollY")
    clip = {"x": 0, "y": max(0, top - GAP), "width": width, "height": height}
    return Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))


def draw(file: Path, size: dict[str, int], places: tuple[str, ...], height: int, scale: float) -> Image.Image:
    """The strips side by side."""
    with chromium() as browser:
        page = browser.new_context(viewport=size, color_scheme="light").new_page()
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        for plot in page.query_selector_all(".plot"):
            plot.scroll_into_view_if_needed()
            page.wait_for_function("place => place.classList.contains('js-plotly-plot')", arg=plot)
        page.evaluate("document.querySelector('nav').style.position = 'static'")
        page.wait_for_timeout(500)
        strips = [take(page, place, size["width"], height) for place in places]
    whole = Image.new("RGB", (len(strips) * (size["width"] + GAP) - GAP, height), "#888")
    for number, strip in enumerate(strips):
        whole.paste(strip, (number * (size["width"] + GAP), 0))
    return whole.resize((round(whole.width * scale), round(height * scale)), Image.Resampling.LANCZOS)


def main(run: Path, folder: Path) -> None:
    """Makes the report of the run, and draws it."""
    file = (run / "report.html").absolute()
    write_page(file, read_facts(f"runs/{run.name}", run))
    for name, size, places, height, scale in (
        ("report-screen.png", DESKTOP, ON_SCREEN, SCREEN_HEIGHT, 0.5),
        ("report-phone.png", PHONE, ON_PHONE, PHONE_HEIGHT, 0.75),
    ):
        picture = draw(file, size, places, height, scale)
        picture.quantize(COLORS, dither=Image.Dither.NONE).save(folder / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
