"""Text from elsewhere as it may be shown: what a terminal obeys, or an eye cannot see, as its escape."""


def printable(text: str) -> str:
    r"""Give a text whose every character takes its place on one line and does nothing else.

    Line ends, escape sequences, controls, marks that turn the direction of writing, characters of no width and halves
    of surrogate pairs become what Python writes for them, such as `\x1b`.

    Parameters
    ----------
    text : str
        Anything, such as a name from a file.

    Returns
    -------
    str
        The same without any character that `str.isprintable` refuses.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
