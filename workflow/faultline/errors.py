"""The one exception that means "the input is wrong, not the program"."""


class UserError(Exception):
    """A mistake in what the user gave: shown as one line, without a traceback.

    The message names the file or the config key, says what was expected, and what to do.
    """
