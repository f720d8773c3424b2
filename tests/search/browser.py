"""A real browser without a screen, for pages that this project makes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# As root there is no sandbox; a browser at home asks its maker for this and that, which no test may wait for.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",  # drawing as on a graphics card, without one
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    place = shutil.which("chromium")
    assert place is not None, "chromium is missing: sh tests/install_servers.sh installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=place, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
