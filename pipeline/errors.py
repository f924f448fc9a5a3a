"""Every error that Millstream raises on purpose, and how each one is handled.

    MillstreamError
    ├── Transient                 try again, with back-off and a deadline
    │   ├── Unreachable           a broker or S3 server does not answer
    │   ├── Throttled             it answers, and asks for patience (503, SlowDown)
    │   └── Hold                  the worker lacks something that its operator can bring: a module, a calculation
    └── Permanent                 report; trying again changes nothing
        ├── UsageError            exit code 2: the caller has to change the command or the settings
        │   ├── SettingsError     a setting is missing, misspelt or out of range
        │   │   └── BadCalculation  only calculations are: a command that needs none can do without
        │   └── NameRefused       a name that can't be a file's name
        ├── InputError            the upload can't be read as CSV, or is gone
        ├── CalculationError      the calculation doesn't fit the file, or isn't allowed
        ├── NotFound              no such object, name or job
        ├── PreconditionFailed    a conditional write lost: somebody else was first
        ├── ClaimLost             another process has taken our work over
        ├── Refused               the server says no (403 and the like)
        ├── JobEnded              the job ended otherwise than published, and why
        └── DeliveryFailed        Kafka would not take a message for good

Foreign exceptions (boto3, librdkafka, DuckDB) are turned into these once, at the edge that meets them:
`pipeline/s3.py`, `pipeline/kafka.py`, `pipeline/duck.py`. Messages say what went wrong, where, and what would
be right.
"""


class MillstreamError(Exception):
    """The root: `str(error)` is a message for a person; `exit_code` is what a command ends with."""

    exit_code = 1


class Transient(MillstreamError):
    """The surroundings failed; the same call may work later."""


class Unreachable(Transient):
    """A server does not answer. The message names its address."""


class Throttled(Transient):
    """A server answers, and asks to be asked less often."""


class Hold(Transient):
    """The worker can't compute a job's rows yet: hold them and try again, reject nothing. The message says
    what to bring."""


class Permanent(MillstreamError):
    """Trying again changes nothing."""


class UsageError(Permanent):
    """The command or its settings are wrong."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is missing, misspelt or out of range; the message names it, its value and what would be
    right."""


class BadCalculation(SettingsError):
    """All that is wrong with the settings is in their calculations."""


class NameRefused(UsageError):
    """A file can't be called that."""


class InputError(Permanent):
    """The upload can't be read as CSV: empty, binary, or gone; the message says where."""


class CalculationError(Permanent):
    """The calculation doesn't fit the file's columns, or asks for what calculations may not do."""


class NotFound(Permanent):
    """No such object, name or job."""


class PreconditionFailed(Permanent):
    """A conditional write lost against another writer."""


class ClaimLost(Permanent):
    """Another process has taken over what this one had claimed: stop, it goes on there."""


class Refused(Permanent):
    """The server refuses: wrong credentials, no such bucket, not allowed."""


class JobEnded(Permanent):
    """The job ended as superseded, cancelled, deleted or failed."""


class DeliveryFailed(Permanent):
    """The broker refused a message for good."""
