"""Artefacts in S3 as tests need them: listed, and broken on purpose."""

import hashlib
import json
from typing import Any

from fraud.model import BOOSTER, MANIFEST, Bundle
from fraud.s3 import MLFLOW_BUCKET, s3_client
from fraud.settings import Settings
from tests.bundles import tiny_bundle

FOLDER_OF = "data/bundle"


def objects(settings: Settings, model_id: str) -> list[str]:
    """Return the keys of a logged model's objects."""
    client: Any = s3_client(settings)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=MLFLOW_BUCKET)
    return [item["Key"] for page in pages for item in page.get("Contents", []) if f"/{model_id}/" in item["Key"]]


def break_bundle(settings: Settings, model_id: str, how: str) -> None:
    """Break a registered bundle in S3: `missing file`, `other features` or `corrupt booster`."""
    client: Any = s3_client(settings)
    keys = {key.rsplit("/", 1)[-1]: key for key in objects(settings, model_id) if f"/{FOLDER_OF}/" in key}
    if how == "missing file":
        client.delete_object(Bucket=MLFLOW_BUCKET, Key=keys[BOOSTER])
        return
    if how == "other features":
        names = tuple(f"f{i}" for i in range(31))
        files = tiny_bundle(feature_names=names, booster=_booster(names)).files()
    else:
        files = tiny_bundle().files()
        files[BOOSTER] = files[BOOSTER][: len(files[BOOSTER]) // 2]
        manifest = json.loads(files[MANIFEST])
        # A checksum that fits, so that the booster itself is what is refused.
        manifest["sha256"][BOOSTER] = hashlib.sha256(files[BOOSTER]).hexdigest()
        files[MANIFEST] = json.dumps(manifest).encode()
    for name, raw in files.items():
        client.put_object(Bucket=MLFLOW_BUCKET, Key=keys[name], Body=raw)


def mend_bundle(settings: Settings, model_id: str, bundle: Bundle) -> None:
    """Put the right files where they were."""
    client: Any = s3_client(settings)
    (prefix,) = {key.split(f"/{FOLDER_OF}/")[0] for key in objects(settings, model_id) if f"/{FOLDER_OF}/" in key}
    for name, raw in bundle.files().items():
        client.put_object(Bucket=MLFLOW_BUCKET, Key=f"{prefix}/{FOLDER_OF}/{name}", Body=raw)


def _booster(names: tuple[str, ...]) -> bytes:
    from tests.bundles import tiny_booster

    return tiny_booster(names=names)
