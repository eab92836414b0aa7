"""One line says why a query ended."""

import pytest

from fraud.errors import FencedError, GapError, ServiceError, StoreError
from spark_jobs.failure import why

TASK = """[STREAM_FAILED] Query [id = 1, runId = 2] terminated with exception: Job aborted due to stage failure:
Task 0 in stage 24.0 failed 4 times, most recent failure: Lost task 0.3 in stage 24.0 (TID 50) (127.0.0.1):
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "task.py", line 110, in task
    yield from _answer(rows, config)
{error}

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:581)
Driver stacktrace: SQLSTATE: XXKST
"""


@pytest.mark.parametrize("kind", [GapError, FencedError, StoreError])
def test_our_own_error_comes_back_as_itself(kind: type[Exception]) -> None:
    found = why(TASK.format(error=f"fraud.errors.{kind.__name__}: partition 1 begins at offset 7"))
    assert type(found) is kind
    assert str(found) == "partition 1 begins at offset 7"


def test_an_error_that_only_sounds_like_ours_is_sparks() -> None:
    assert isinstance(why(TASK.format(error="fraud.errors.FirstError: x")), ServiceError)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TASK.format(error="ZeroDivisionError: division by zero"), "ZeroDivisionError: division by zero"),
        ("x\nCaused by: java.io.IOException: No space left on device\n\t... 3 more", "No space left on device"),
        ("a: b\nCaused by: A: first\nCaused by: B: the root\n", "B: the root"),
        ("the query was stopped by somebody else", "stopped by somebody else"),
        ("", "no reason given"),
    ],
)
def test_else_the_root_cause_stands_there(text: str, says: str) -> None:
    found = why(text)
    assert isinstance(found, ServiceError)
    assert str(found).startswith("the query ended: ")
    assert says in str(found)
    assert "\n" not in str(found)
    assert len(str(found)) < 700
