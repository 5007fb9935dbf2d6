"""The one exception for a user's mistake."""


class InputError(Exception):
    """Unusable input: its text is one sentence naming what is wrong, where, and how to mend it.

    The command line prints it without a traceback and exits with status 2.
    """
