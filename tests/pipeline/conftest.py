"""Ray, started once for all tests that need it."""

from collections.abc import Iterator
from typing import Any

import pytest

from posedance.pipeline.workers import start_ray


@pytest.fixture(scope="session")
def ray_here() -> Iterator[Any]:
    """The module ray, connected to a Ray of its own on this machine."""
    import ray

    start_ray(None)
    yield ray
    ray.shutdown()
