"""Commands as they are shown to be copied into a shell: what they name is quoted, whatever it holds."""

import os
import shlex


def shell(words: str, *operands: str | os.PathLike[str]) -> str:
    """Return a command that a POSIX shell takes as it is: `words` as they stand, then each operand as one word.

    Operands of which one begins with a dash come after `--`, so that none is taken for an option.
    """
    given = [os.fspath(operand) for operand in operands]
    apart = ["--"] if any(operand.startswith("-") for operand in given) else []
    return " ".join([words, *apart, *map(word, given)])


def word(text: str | os.PathLike[str]) -> str:
    """Return a text quoted as one word. What isn't printable is spelt out in `$'…'`, which bash, zsh and ksh know."""
    text = os.fspath(text)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_spelt, text)) + "'"


def _spelt(character: str) -> str:
    if not character.isprintable():
        return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
    return f"\\{character}" if character in "\\'" else character
