"""Owns the forms of `jobby start`: what was typed becomes a command and its arguments. Pure."""

from collections.abc import Sequence

DASHES_HINT = "put -- first if it belongs to your command: jobby start -- ls -la"


def command_line(words: Sequence[str], arg_options: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Returns the command and its arguments.

    Args:
        words: what was typed without an option before it, the command first.
        arg_options: the values of -a/--arg, in order.

    Raises:
        ValueError: there is no command, or arguments in both forms; the text
            says what to do.
    """
    if not words:
        raise ValueError("no command is given; name one: jobby start echo hello")
    command, *rest = words
    if rest and arg_options:
        raise ValueError(
            f"arguments are given both with -a and without ({rest[0]!r}); use one form: "
            "jobby start echo -a hello, or jobby start -- echo hello"
        )
    return command, tuple(rest or arg_options)
