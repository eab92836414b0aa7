"""S3 as this platform uses it: credentials, a client, and what other libraries read from the environment."""

import json
import os
import secrets
from typing import TYPE_CHECKING

from fraud.errors import ConfigError
from fraud.settings import PREFIX, Settings

if TYPE_CHECKING:
    from botocore.client import BaseClient

MLFLOW_BUCKET = "mlflow"
LAKE_BUCKET = "lake"
BUCKETS = (MLFLOW_BUCKET, LAKE_BUCKET)


def s3_credentials(settings: Settings) -> tuple[str, str]:
    """Return (key, secret): the settings', else the embedded server's, made up once and kept in data/.

    Raises:
        ConfigError: the settings give one of the two only.
    """
    key, secret = settings.s3_access_key, settings.s3_secret_key
    if key is not None and secret is not None:
        return key.get_secret_value(), secret.get_secret_value()
    if key is not None or secret is not None:
        raise ConfigError(f"set both {PREFIX}S3_ACCESS_KEY and {PREFIX}S3_SECRET_KEY, or neither")
    kept = settings.data / "s3.json"
    if not kept.exists():
        settings.make_home()
        kept.parent.mkdir(parents=True, exist_ok=True)
        made = {"key": secrets.token_hex(10).upper(), "secret": secrets.token_urlsafe(30)}
        fresh = kept.with_name(f"s3.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            json.dump(made, handle)
        try:
            os.link(fresh, kept)  # whoever comes first decides, for all
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    found = json.loads(kept.read_text())
    return found["key"], found["secret"]


def s3_client(settings: Settings) -> "BaseClient":
    """Return a boto3 client of FRAUD_S3_ENDPOINT."""
    import boto3
    from botocore.config import Config

    key, secret = s3_credentials(settings)
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"max_attempts": 3},
            s3={"addressing_style": "path"},
            # Loopback and cluster addresses aren't reached through a proxy.
            proxies={},
        ),
    )


def aws_environment(settings: Settings) -> dict[str, str]:
    """Return the variables by which MLflow, polars and delta-rs find the server and its key."""
    key, secret = s3_credentials(settings)
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": settings.s3_region,
        "AWS_REGION": settings.s3_region,
        "AWS_ENDPOINT_URL_S3": settings.s3_endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_S3_ENDPOINT_URL": settings.s3_endpoint,
    }
