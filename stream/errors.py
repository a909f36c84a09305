"""Everything that can go wrong in the stream room, on one screen."""


class StreamError(Exception):
    """Base of every error of the stream room."""
