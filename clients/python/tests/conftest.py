"""A world for the tests: see ../conformance/world.py."""

import os
from collections.abc import Iterator

import pytest

from world import World

# Tests speak to loopback addresses only; no proxy of the environment gets in between.
for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "GPU_SHOPPER_URL", "GPU_SHOPPER_TOKEN"):
    os.environ.pop(name, None)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Marketplaces, a server on a fresh database, and a proxy that cuts."""
    with World() as one:
        yield one
