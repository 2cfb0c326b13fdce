"""The error family: every message says what was wrong, where, and what to do.

The exit code of the command line is an attribute of the class, so that the two cannot drift apart.
"""


class GapselError(Exception):
    """Base of all errors that gapsel raises on purpose."""

    exit_code = 1


class UsageError(GapselError, ValueError):
    """A setting or an argument is wrong (exit code 2)."""

    exit_code = 2


class DataError(GapselError, ValueError):
    """A file, a row or an array is wrong (exit code 3)."""

    exit_code = 3


class NotConvergedError(GapselError, RuntimeError):
    """The solver stopped short of its tolerance and the caller asked for that to be an error (exit code 4)."""

    exit_code = 4


class ResourceError(GapselError, RuntimeError):
    """What the work needs around it is not to be had: disk space, a folder that can be written and is free (code 5)."""

    exit_code = 5


class MissingDependencyError(GapselError, ImportError):
    """An optional package is needed; the message names the extra that brings it (exit code 2)."""

    exit_code = 2


class DeviceError(GapselError, RuntimeError):
    """A GPU is missing, failed, or disagrees with the reference (exit code 1)."""
