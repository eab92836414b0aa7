"""`fraud-detect`: the whole platform on the command line.

Modules under `fraud.cli` import nothing heavy at their top: `--help` must answer in half a second.
"""

import sys
from importlib import import_module

import typer

from fraud.cli.console import say
from fraud.cli.extras import advice

app = typer.Typer(
    name="fraud-detect",
    help="Real-time payment fraud detection on Kafka, Spark and MLflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 usage, 130 interrupted."""
    from fraud.errors import ConfigError, FraudError

    try:
        app()
    except ConfigError as exc:
        say(f"error: {exc}")
        sys.exit(2)
    except FraudError as exc:
        say(f"error: {exc}")
        sys.exit(1)
    except ModuleNotFoundError as exc:
        told = advice(exc)
        if told is None:
            raise
        say(f"error: {told}")
        sys.exit(2)
    except OSError as exc:
        say(f"error: {exc}; is there room, may this user write there, and is FRAUD_HOME a folder?")
        sys.exit(1)
    except MemoryError:
        say("error: the memory doesn't suffice; give the process more, or less to do")
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)


# Importing a module registers its commands, in the order in which `--help` lists them.
for _module in (
    "stack",
    "topics",
    "data",
    "produce",
    "consume",
    "backfill",
    "rebuild",
    "score",
    "archive",
    "dataset",
    "train",
    "judge",
    "models",
    "maintain",
    "parity",
    "bench",
    "bench_scale",
    "bench_stream",
    "bench_peers",
    "bench_train",
    "bench_all",
    "bench_micro",
    "bench_recovery",
    "demo",
):
    import_module(f"fraud.cli.{_module}")
