"""Why a query ended, in one line: our own error from a Python task, or Spark's root cause."""

import re

from fraud import errors
from fraud.errors import FraudError, ServiceError

# A Python task's traceback inside Spark's message ends with the error; its message may go over lines.
_OURS = re.compile(r"^(?:.*?\b)?fraud\.errors\.(\w+): (.*)$", re.MULTILINE)
_PYTHON = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception)): (.*)$", re.MULTILINE)
_CAUSED = re.compile(r"^\s*Caused by: (.*)$", re.MULTILINE)
_LONGEST = 600


def why(text: str) -> FraudError:
    """Return the error to raise for a query that ended with `text` (message and stack traces).

    >>> why("Job aborted ... Traceback ...\\nfraud.errors.GapError: offset 7 is missing\\n\\tat org.apache...")
    GapError('offset 7 is missing')
    """
    ours = _OURS.findall(text)
    if ours:
        name, message = ours[-1]
        found = getattr(errors, name, None)
        if isinstance(found, type) and issubclass(found, FraudError):
            return found(message.strip())
    for pattern in (_CAUSED, _PYTHON):
        causes = pattern.findall(text)
        if causes:
            last = causes[-1]
            line = last if isinstance(last, str) else ": ".join(last)
            return ServiceError(f"the query ended: {line.strip()[:_LONGEST]}")
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return ServiceError(f"the query ended: {first[:_LONGEST]}")
