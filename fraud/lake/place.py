"""Where the lake is: a bucket or a folder, how delta-rs reaches it, and its plain files."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import fs

from fraud.errors import ConfigError, DataError, ServiceError
from fraud.lake.faults import reading
from fraud.s3 import s3_credentials
from fraud.settings import Settings

S3 = "s3://"
RETRIES = 4


@dataclass(frozen=True)
class Place:
    """The lake's root.

    Attributes:
        uri: without a slash at its end.
        root: the same as `files` wants it: bucket and path, or an absolute folder.
        options: delta-rs's storage options, empty for a folder.
        files: the plain files; nothing is opened before it is used.
    """

    uri: str
    root: str
    files: fs.FileSystem
    options: Mapping[str, str] = field(default_factory=dict, repr=False)  # a secret is among them

    def is_reached(self) -> bool:
        """Tell whether the bucket answers, or the folder can be made."""
        try:
            with reading(f"the lake {self.uri}"):
                return self.uri == self.root or self.files.get_file_info(self.root).type != fs.FileType.NotFound
        except (ServiceError, DataError):
            return False

    def sizes(self, folder: str) -> dict[str, int]:
        """Return every file under a folder of the lake → its size; paths are relative to the folder."""
        base = f"{self.root}/{folder}"
        with reading(f"the lake's folder {self.uri}/{folder}"):
            found = self.files.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
        return {one.path[len(base) + 1 :]: one.size for one in found if one.type == fs.FileType.File}

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        with reading(f"the lake's file {self.uri}/{path}"), self.files.open_input_stream(f"{self.root}/{path}") as file:
            return bytes(file.read())

    def remove(self, folder: str) -> None:
        """Remove a folder with all that is in it; one that isn't there is no error."""
        with reading(f"the lake's folder {self.uri}/{folder}"), suppress(FileNotFoundError):
            self.files.delete_dir(f"{self.root}/{folder}")
        # A server may show a folder that is empty, and then not find it: what counts is its files.
        left = self.sizes(folder)
        if left:
            raise ServiceError(f"{len(left)} files of {self.uri}/{folder} can't be removed: run it again")


def place_of(settings: Settings) -> Place:
    """Return the place that FRAUD_LAKE_URI names; nothing is read or made yet.

    Raises:
        ConfigError: it is neither s3://bucket nor a folder.
    """
    uri = settings.lake_uri.rstrip("/")
    if uri.startswith(S3) and urlsplit(uri).netloc:
        return _bucket(settings, uri)
    if re.match(r"[\w+]+:", uri) or not uri:
        raise ConfigError(f"FRAUD_LAKE_URI={settings.lake_uri!r} is refused; write s3://bucket or a folder")
    folder = str(Path(uri).absolute())
    return Place(folder, folder, fs.LocalFileSystem())


def _bucket(settings: Settings, uri: str) -> Place:
    key, secret = s3_credentials(settings)
    endpoint = urlsplit(settings.s3_endpoint)
    options = {
        "AWS_ENDPOINT_URL": settings.s3_endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": settings.s3_region,
        "aws_allow_http": str(endpoint.scheme == "http").lower(),
        "aws_virtual_hosted_style_request": "false",
        # A commit is a file that must not be there yet: this is how S3 refuses the second writer.
        "aws_conditional_put": "etag",
        "connect_timeout": "5s",
        "timeout": "60s",
        "max_retries": str(RETRIES),
        "retry_timeout": "30s",
    }
    files = fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        region=settings.s3_region,
        scheme=endpoint.scheme,
        endpoint_override=endpoint.netloc,
        connect_timeout=5,
        request_timeout=60,
    )
    return Place(uri, uri.removeprefix(S3), files, options)
