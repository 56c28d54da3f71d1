"""The one exception for mistakes a user can mend."""


class InputError(ValueError):
    """A user's input cannot be used; the message says what is wrong and what to do about it.

    The scripts print it as one sentence without a trace. Everything else that is raised is a defect of
    ours, or of the machine, and keeps its trace.
    """
