"""Airflow's parts as supervised programs: API server with the UI, scheduler, DAG processor; SQLite behind them.

The same parts as `airflow standalone`, but for two things that it can't do: it leaves the log servers of
scheduler and triggerer open on every interface, and a part of it that dies stays dead. There is no triggerer,
since no task of ours waits for an event.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import fraud
from fraud.errors import ConfigError, ServiceError
from fraud.settings import PREFIX, Settings
from fraud.stack.airflow import client
from fraud.stack.airflow.keys import USER, folder, keys, password_file
from fraud.stack.ports import LOOPBACK
from fraud.stack.program import Program

NAME = "airflow"
SCHEDULER, DAG_PROCESSOR = "airflow-scheduler", "airflow-dag-processor"
# What an embedded platform has besides these two runs at night: retraining, then maintenance.
TASKS_AT_ONCE = 2
DAGS = ("retrain", "maintain")


def programs(settings: Settings) -> list[Program]:
    """Describe the three parts at FRAUD_AIRFLOW_URI's port; tasks run commands with exactly these settings.

    Raises:
        ConfigError: Airflow isn't installed, or the DAGs' folder or the command isn't where this code is.
    """
    if find_spec("airflow") is None:
        raise ConfigError("Airflow isn't installed: pip install 'fraud-detect[airflow]', or `make setup` in a clone")
    environment = variables(settings)
    port = settings.port("airflow_uri")
    address = f"http://{LOOPBACK}:{port}"
    python = [sys.executable, "-m", "airflow"]
    return [
        Program(
            name=NAME,
            # The database is made, or brought up to date, before anything reads it.
            command=["/bin/sh", "-c", '"$@" db migrate && exec "$@" api-server', "sh", *python],
            address=address,
            ready=lambda: client.answers(settings),
            ports=[(port, f"{PREFIX}AIRFLOW_URI")],
            needs=["kafka", "mlflow"],
            environment=environment,
            ui=address,
            start_seconds=5,
        ),
        Program(
            name=SCHEDULER,
            command=[*python, "scheduler", "--skip-serve-logs"],
            address="runs the DAGs' tasks",
            ready=lambda: client.is_healthy(settings, "scheduler"),
            needs=[NAME],
            environment=environment,
            start_seconds=5,
            # It waits for the tasks that run, which may take hours; a task that is cut short is tried again.
            stop_seconds=5,
        ),
        Program(
            name=DAG_PROCESSOR,
            command=[*python, "dag-processor"],
            address=f"reads {dags()}",
            ready=lambda: client.is_healthy(settings, "dag_processor") and client.knows(settings, DAGS),
            needs=[NAME],
            environment=environment,
            after=lambda: _wrong(settings),
            start_seconds=5,
            stop_seconds=5,
        ),
    ]


def variables(settings: Settings) -> dict[str, str]:
    """Return the variables of every part, secrets among them; makes AIRFLOW_HOME and the keys."""
    home = folder(settings)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = settings.logs.absolute() / "airflow"
    port = settings.port("airflow_uri")
    return {
        **settings.environment(),
        "FRAUD_COMMAND": str(command()),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{LOOPBACK}:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags()),
        # Each part speaks to the API server by this address; changing the port alone isn't enough.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{LOOPBACK}:{port}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(TASKS_AT_ONCE),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password_file(settings)),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(logs),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(logs / "dag_processor"),
        # A task whose process was killed is noticed after this, and tried again.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "DO_NOT_TRACK": "true",
        # Its processes give themselves titles, in the place of the environment by which `down` knows them.
        "SPT_NOENV": "1",
        **keys(settings),
    }


def dags() -> Path:
    """Return the folder with the DAGs, which stands beside the package.

    Raises:
        ConfigError: it isn't there.
    """
    found = Path(fraud.__file__).resolve().parent.parent / "dags"
    if not (found / "retrain.py").is_file():
        raise ConfigError(
            f"there are no DAGs in {found}: an installed package has none. Run `up` from a clone of the repository, "
            "or give your own Airflow the clone's dags/ and set FRAUD_COMMAND to this fraud-detect"
        )
    return found


def command() -> Path:
    """Return the `fraud-detect` of the running interpreter.

    Raises:
        ConfigError: it isn't there.
    """
    found = Path(sys.executable).with_name("fraud-detect")
    if not found.exists():
        raise ConfigError(f"{found} is missing, and Airflow's tasks call it; `make setup` installs it")
    return found


def _wrong(settings: Settings) -> list[str]:
    """Return what a person should know of DAGs that can't be read."""
    try:
        return client.import_errors(settings)
    except ServiceError as exc:
        return [f"Airflow doesn't say which DAGs it can't read: {exc}"]
