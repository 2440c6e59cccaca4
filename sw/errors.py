"""What a user did wrong, in one line."""


class SpikeloomError(Exception):
    """A mistake in what the user handed us: says what, where, and what would be right.

    The command line prints the message and exits with status 2; it never shows a traceback for one.
    """
