"""Airflow for tests: a home and a database of its own, always in another process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import servers

DAGS = servers.REPOSITORY / "dags"


def impatient(folder: Path) -> Path:
    """Write the DAGs with shorter delays between tries into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in DAGS.glob("*.py"):
        text = path.read_text()
        assert '"retry_delay": timedelta(seconds=30)' in text
        (folder / path.name).write_text(text.replace("timedelta(seconds=30)", "timedelta(seconds=1)"))
    return folder


def environment(home: Path) -> dict[str, str]:
    """Return the environment of an Airflow whose files are all below `home`; nothing of ours is inherited."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FRAUD_", "AIRFLOW"))}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def database(home: Path) -> dict[str, str]:
    """Make the database of an Airflow and return its environment."""
    home.mkdir(parents=True, exist_ok=True)
    found = environment(home)
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env=found, check=True, capture_output=True, cwd=servers.REPOSITORY)
    return found


def run(airflow: dict[str, str], wanted: list[dict[str, Any]], log: Path) -> list[dict[str, Any]]:
    """Run DAGs one after the other with `dag.test()` and return what came of each; see tests/dags/driver.py."""
    with log.open("wb") as errors:
        done = subprocess.run(
            [sys.executable, "-m", "tests.dags.driver"],
            input=json.dumps(wanted),
            env=airflow,
            cwd=servers.REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
    assert done.returncode == 0, log.read_text()[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
