"""Fixtures that more than one test file uses."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The models and data beside the repository; tests that use it are marked `shared`."""
    return SHARED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `shared` where there is no ../shared."""
    if not SHARED.is_dir():
        out = [item for item in items if item.get_closest_marker("shared")]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
