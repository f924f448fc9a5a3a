"""Text of others as a terminal may get it: names, cells and what servers say can't move its cursor or change its title.

Whoever may upload a file chooses its name and its content, and a terminal obeys what stands in them: ESC and its C1 twin start
commands, and marks of direction make a line read otherwise than it is.
"""


def plain(text: str) -> str:
    """Return text of one or several lines with whatever isn't printable spelt out, as `\\x1b`; a lone surrogate likewise."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" else _spelt(c) for c in text)


def flat(text: str) -> str:
    """Return the same as one line: line breaks and tabs are spelt out too."""
    return text if text.isprintable() else "".join(map(_spelt, text))


def _spelt(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]
