"""What is in flight on a topic: sent, and not committed by the group that reads it. Pure policy."""


class Mean:
    """How large a message is: rather too large than too small, where small and large ones come in turn."""

    _DECAY = 0.9

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.value = 0.0
        """Bytes; 0 where nothing has come."""

    def take(self, messages: int, size: int) -> None:
        """Take in a batch; a larger mean counts at once, a smaller one by and by."""
        if messages:
            mean = size / messages
            self.value = max(mean, self._DECAY * self.value + (1 - self._DECAY) * mean)


SHARE = 4
"""A sink holds a quarter of what may be in flight, at most: what it holds isn't committed, and capture waits for it."""
