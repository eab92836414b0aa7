"""What contradicts itself or makes no sense is said before anything is read or asked: no Kafka runs here."""

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fraud.cli import main
from fraud.errors import ConfigError
from fraud.stack.ports import free_ports


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("produce --seconds nan", "nan is no time"),
        ("produce --seconds -1", "-1 is no time"),
        ("produce --seconds 5 --count 5", "exclude each other"),
        ("produce --rate 0", "a rate of 0 messages"),
        ("produce --rate nan", "a rate of nan messages"),
        ("produce --bad 1", "a share of 1 bad"),
        ("produce --bad nan", "a share of nan bad"),
        ("produce --users 0", "users is 0"),
        ("produce --labels-after soon", "'soon' is not a duration"),
        ("replay nowhere --rate 5 --speed 5", "exclude each other"),
        ("replay nowhere --speed nan", "a speed of nan"),
        ("replay nowhere --labels-after 7d", "add --labels"),
        ("replay nowhere --since 2026-02-02 --until 2026-02-01", "isn't before"),
        ("parity --until 2026-02-01", "go with --past"),
        ("parity --merchants-only", "go with --past"),
        ("parity --past nowhere --until 2026-02-01 --merchants-only", "leave one of them out"),
        ("consume --topic rejections --decision BLOCK", "rejections have none"),
        ("consume --decision MAYBE", "there are APPROVE, REVIEW, BLOCK"),
    ],
)
def test_a_contradiction_is_a_usage_error_at_once(words: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_KAFKA_BOOTSTRAP", f"127.0.0.1:{free_ports(1)[0]}")
    began = time.monotonic()
    done = CliRunner().invoke(main.app, words.split())
    assert isinstance(done.exception, ConfigError), done.output  # `main` makes exit 2 of it
    assert message in str(done.exception)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("words", ["produce --count -1", "produce --count 0", "replay nowhere --limit -1"])
def test_a_number_out_of_its_range_is_a_usage_error(words: str) -> None:
    assert CliRunner().invoke(main.app, words.split()).exit_code == 2


def test_a_past_that_isnt_there_is_said_before_kafka_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_KAFKA_BOOTSTRAP", f"127.0.0.1:{free_ports(1)[0]}")
    done = CliRunner().invoke(main.app, ["parity", "--past", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, ConfigError), done.output
