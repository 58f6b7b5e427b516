"""One server for all tests of a module that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import gemmary
from tests.serve.server import running


@pytest.fixture(scope="package")
def bundled() -> Iterator[gemmary.Model]:
    """The bundled model, loaded for a server."""
    with gemmary.load(threads=1, streams=4, queue=16) as model:
        yield model


@pytest.fixture(scope="package")
def url(bundled: gemmary.Model) -> Iterator[str]:
    """Where it is served."""
    with running(bundled) as base:
        yield base
