"""What all fault tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.faults.private import PrivateServer, private_server
from tests.support.server import Server


@pytest.fixture(autouse=True)
def _quiet_pools(caplog: pytest.LogCaptureFixture) -> None:
    """Pools log each connection that they do not get: hundreds here, in which what failed would drown."""
    caplog.set_level(logging.ERROR, logger="psycopg.pool")


@pytest.fixture
def victim(server: Server) -> Iterator[PrivateServer]:
    """A server of this test's own, running."""
    with private_server(server) as private:
        private.start()
        yield private
