"""Makes the real services of tests/services/ available to every test."""

pytest_plugins = ["tests.services.fixtures"]
