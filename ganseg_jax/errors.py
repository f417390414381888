"""The one exception that stands for a mistake of the person running the program."""


class UserError(Exception):
    """A mistake the user can put right: bad flags, missing data, unreadable files.

    The message is one line that names the file or field and says what to do.  Entry points print
    it without a traceback and end with exit code 2.
    """
