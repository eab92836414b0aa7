"""Spark's Python worker daemon, warm: `spark.python.daemon.module=spark_jobs.daemon`.

Spark's own daemon forks workers that import everything anew, and runs `gc.collect()` in the worker after
every task: with the libraries of a model loaded that walks a million objects, 28 ms of every task. This one
imports them once, before any fork, and freezes them (`gc.freeze` moves them where the collector doesn't
look): forked workers start warm and the collection takes 2 ms. It is the only one: those in the middle of a
task, which look at a slice's rows again and again, are off. Nothing here may start a thread or open the
store: both don't survive a fork.
"""

import gc


def preload() -> None:
    """Import what a task needs and compile the kernels, then put all of it out of the collector's sight."""
    import pyarrow as pa
    import pyspark.worker
    import xgboost

    import fraud.scoring
    import spark_jobs.task

    loaded = (pa, pyspark.worker, xgboost, fraud.scoring, spark_jobs.task)
    spark_jobs.task.warm()
    del loaded
    gc.collect()
    gc.freeze()
    gc.disable()  # pyspark.daemon collects after every task


def main() -> None:
    """Preload, then serve Spark's requests for workers."""
    from pyspark.daemon import manager

    preload()
    manager()


if __name__ == "__main__":
    main()
