"""What goes wrong on the user's side, told in one line."""


class InputError(ValueError):
    """Something that the user gave cannot be used; the message names it, what came, and what is expected.

    The command line prints the message and exits with status 2. Whatever a file or a name brought in, it is one line:
    characters that do not print are spaces in it.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(each if each.isprintable() else " " for each in message))


class NotFinite(InputError):
    """A model's samples under a plan are NaN or infinite."""


def first_line(error: BaseException) -> str:
    """Of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
