"""Makes the archive of `fraud.stack.classes`: a session does what every job does, and writes it as its JVM ends."""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fraud.settings import Settings
from spark_jobs import session

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

BATCH_SECONDS = 90
DUMP_SECONDS = 90.0


def main(archive: Path) -> None:
    """Run a small query with a Python worker, then end the JVM in order, which writes `archive`."""
    settings = Settings.load(os.environ)
    scratch = Path(tempfile.mkdtemp(prefix="classes-"))
    changes = {
        "spark.driver.extraJavaOptions": f'{session.JVM} "-XX:ArchiveClassesAtExit={archive}"',
        "spark.local.dir": str(scratch / "local"),
        "spark.ui.port": "0",
    }
    try:
        opened = session.Session(settings, changes)
        try:
            query = (
                opened.spark.readStream.format("rate")
                .load()
                .selectExpr("cast(cast(value AS string) AS binary) AS key", "cast(value AS string) AS value")
                .mapInArrow(_same, "key binary, value string")
                .writeStream.format("noop")
                .option("checkpointLocation", str(scratch / "checkpoint"))
                .start()
            )
            end = time.monotonic() + BATCH_SECONDS
            while query.isActive and time.monotonic() < end and not _rows(query.lastProgress):
                time.sleep(0.2)
            query.stop()
        finally:
            opened.close(DUMP_SECONDS)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _rows(progress: object) -> int:
    return 0 if progress is None else int(getattr(progress, "numInputRows", 0))


def _same(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    yield from batches


if __name__ == "__main__":
    main(Path(sys.argv[1]))
