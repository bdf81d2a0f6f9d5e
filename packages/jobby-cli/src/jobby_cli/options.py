"""Owns options whose values are more than click knows: what is wrong is a usage error in words."""

from collections.abc import Callable
from typing import TypeVar

import click

_T = TypeVar("_T")


def read_by(
    read: Callable[[str], _T],
) -> Callable[[click.Context, click.Parameter, str | None], _T | None]:
    """Returns the callback of an option that `read` reads; it stays None if it isn't given.

    Args:
        read: takes what was typed; raises ValueError with a sentence.
    """

    def callback(context: click.Context, parameter: click.Parameter, text: str | None) -> _T | None:
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from error

    return callback
