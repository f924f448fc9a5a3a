"""How long to wait between two tries at what fails for the moment, and how often to say so."""

_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)


def pause(tries: int) -> float:
    """Return the seconds to wait after so many failures before; five from the fifth on."""
    return _PAUSES[min(tries, len(_PAUSES) - 1)]


def is_worth_saying(tries: int) -> bool:
    """Whether a failure is logged: the first, the eleventh, then one in sixty."""
    return tries in {0, 10} or tries % 60 == 0
