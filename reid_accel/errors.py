"""The exception for mistakes that a user can fix."""


class InputError(ValueError):
    """A user's input cannot be used; the message names the problem and the remedy.

    The scripts print it as one sentence without a traceback; any other exception is a bug or a machine failure.
    """
