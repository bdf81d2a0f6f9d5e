"""Owns the forms of `jobby start`: what was typed becomes a command and its arguments. Pure."""

from collections.abc import Collection, Sequence

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


def refuse_misread(typed: Sequence[str], valued: Collection[str]) -> None:
    """Refuses -a where it may be the command's own, as in `jobby start ls -al` or `ls -a -l`.

    Either would start `ls` with something else than was meant, and say nothing.

    Args:
        typed: all words after `start`.
        valued: the other options whose value is the next word.

    Raises:
        ValueError: there is such a -a; the text says how jobby's own is written.
    """
    words = iter(typed)
    for word in words:
        if word == "--":
            return
        if word == "-a":
            value = next(words, "")
            if value.startswith("-") and value != "-":
                raise ValueError(_misread(f"-a {value}", value))
        elif word.startswith("-a"):
            raise ValueError(_misread(word, word[2:]))
        elif word in valued:
            next(words, "")


def _misread(typed: str, value: str) -> str:
    return f"{typed} would be the argument {value!r} of the command, which is written --arg={value}"
