"""Makes the real services of tests/services/, and folders for the command line, available to every test."""

from hypothesis import settings

pytest_plugins = ["tests.services.fixtures", "tests.cli"]

# A first call may import, compile or wait for another process: time says nothing about what these tests hold.
settings.register_profile("millstream", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False)  # pytest --hypothesis-profile=explore
settings.load_profile("millstream")
