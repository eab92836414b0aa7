"""Kafka's folder can be prepared whatever id is drawn for it."""

import base64
import uuid
from pathlib import Path

import pytest

from fraud.stack import kafka
from tests import servers


@pytest.mark.server
def test_a_clusters_id_may_begin_with_a_hyphen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = uuid.UUID(bytes=b"\xf8" + bytes(15))
    assert base64.urlsafe_b64encode(drawn.bytes).startswith(b"-")  # one in 64 does
    monkeypatch.setattr("fraud.stack.kafka.uuid.uuid4", lambda: drawn)
    kafka.program(servers.settings(tmp_path)).prepare()
    (prepared,) = tmp_path.rglob("meta.properties")
    assert "cluster.id=-" in prepared.read_text()
