"""The MLflow server: SQLite behind it, artefacts in S3 through its proxy, one worker."""

import http.client
import sys

from fraud.s3 import MLFLOW_BUCKET, aws_environment
from fraud.settings import PREFIX, Settings
from fraud.stack.ports import LOOPBACK
from fraud.stack.program import Program


def program(settings: Settings) -> Program:
    """Describe the server at FRAUD_MLFLOW_URI's port; its database is data/mlflow/mlflow.db."""
    home = settings.data.absolute() / "mlflow"
    home.mkdir(parents=True, exist_ok=True)
    port = settings.port("mlflow_uri")
    options = {
        "host": LOOPBACK,
        "port": port,
        "backend-store-uri": f"sqlite:///{home}/mlflow.db",
        "artifacts-destination": f"s3://{MLFLOW_BUCKET}/",
        # SQLite has one writer.
        "workers": 1,
        # The server's defence against DNS rebinding; the list replaces its default.
        "allowed-hosts": f"{LOOPBACK}:{port},localhost:{port}",
    }
    return Program(
        name="mlflow",
        command=[
            *(sys.executable, "-m", "mlflow", "server", "--serve-artifacts"),
            *(f"--{name}={value}" for name, value in options.items()),
        ],
        address=f"http://{LOOPBACK}:{port}",
        ready=lambda: _healthy(port),
        ports=[(port, f"{PREFIX}MLFLOW_URI")],
        environment={
            **aws_environment(settings),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 0.6 GB instead of 2.9
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        },
        needs=["s3"],
        ui=f"http://{LOOPBACK}:{port}",
    )


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
