"""Owns what may go to a terminal: text from elsewhere, with all that could steer it escaped."""


def printable(text: str) -> str:
    r"""Returns `text` on one line, without what a terminal could obey or hide.

    Control, format, unassigned and separator characters become `\x1b`-like
    escapes (`str.isprintable`); so do lone surrogates, which cannot be written.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
