"""What every test of the data room needs."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, so that no test sees what another kept."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UNET_SEARCH_CACHE", str(folder))
    return folder
