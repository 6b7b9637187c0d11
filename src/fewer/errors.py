"""What goes wrong on the user's side, told in one line."""


class InputError(ValueError):
    """Something that the user gave cannot be used; the message names it, what came, and what is expected.

    The command line prints the message on one line and exits with status 2.
    """


class NotFinite(InputError):
    """A model's samples under a plan are NaN or infinite."""


def first_line(error: BaseException) -> str:
    """Of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
