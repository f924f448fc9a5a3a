"""Skip what this machine can't run, unless it is required."""

import os
from typing import NoReturn

import pytest

SERVICES = {"docker", "browser", "promtool", "curl"}


def required() -> set[str]:
    """The services that MILLSTREAM_REQUIRE names."""
    names = {name.strip() for name in os.environ.get("MILLSTREAM_REQUIRE", "").split(",")} - {""}
    if unknown := names - SERVICES:
        raise pytest.UsageError(f"MILLSTREAM_REQUIRE names {sorted(unknown)}; there are {sorted(SERVICES)}")
    return names


def missing(service: str, reason: str) -> NoReturn:
    """Skip the test because `service` isn't there, or fail it where the service is required."""
    assert service in SERVICES
    if service in required():
        pytest.fail(f"{service} is required, and missing: {reason}", pytrace=False)
    pytest.skip(f"no {service}: {reason}")
