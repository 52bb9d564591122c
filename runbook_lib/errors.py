"""Every error that the workbench raises on purpose.

::

    RunbookError
    ├── UsageError                 wrong use: a refused argument, an unknown name        (exit 2)
    ├── ConfigurationError         settings that are missing, half set or contradictory (exit 2)
    ├── NotFoundError              what was named does not exist                         (exit 2)
    └── CouldNotBeDone             asked for rightly, but it was not possible            (exit 3)
        ├── DeadlineExceeded       an outside call ran past its total deadline
        ├── DatabaseUnreachable    no connection, or it broke
        ├── DatabaseNotMigrated    the schema is absent or of another version
        ├── ServiceNotStarted      a process of ours (database, sandbox) did not come up
        └── PlanRefused            a plan that drifted, was applied, or exceeds its limit

A message says what happened, with which value, and what to do next. It never holds a secret.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_NOT_WELL = 1
EXIT_WRONG_USE = 2
EXIT_COULD_NOT_BE_DONE = 3


class RunbookError(Exception):
    """Something that the workbench can explain went wrong."""

    exit_code = EXIT_COULD_NOT_BE_DONE


class UsageError(RunbookError):
    """The command or call was used wrongly."""

    exit_code = EXIT_WRONG_USE


class ConfigurationError(RunbookError):
    """A setting is missing, half set or contradicts another."""

    exit_code = EXIT_WRONG_USE


class NotFoundError(RunbookError):
    """What was named does not exist."""

    exit_code = EXIT_WRONG_USE


class CouldNotBeDone(RunbookError):
    """The request was right, but it was not possible."""


class DeadlineExceeded(CouldNotBeDone):
    """An outside call ran past its total deadline."""


class DatabaseUnreachable(CouldNotBeDone):
    """There is no connection to the database, or it broke."""


class DatabaseNotMigrated(CouldNotBeDone):
    """The schema is absent or of another version."""


class ServiceNotStarted(CouldNotBeDone):
    """A process of ours did not come up."""


class PlanRefused(CouldNotBeDone):
    """A plan drifted from what was previewed, was applied already, or exceeds its limit."""
