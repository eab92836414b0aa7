"""No part has become slower than the parts it is compared with: ratios of processor time, not seconds."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fraud.bench import guard
from fraud.bench.guard import Expected
from fraud.cli import main
from fraud.errors import ConfigError
from tests import servers

EXPECTED = servers.REPOSITORY / "bench" / "expected.json"


def test_no_part_has_become_slower() -> None:
    expected = guard.read_expected(EXPECTED)
    said: list[str] = []
    result = guard.run(expected, said.append, repeats=5)
    assert set(result["ratios"]) == set(expected), "bench/expected.json names exactly what is measured"
    assert result["held"], "\n".join(said)


def test_a_grown_ratio_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "ratios", lambda _: {"decode / json": 1.1, "new": 5.0})
    result = guard.run({"decode / json": Expected(0.5, 2.0)}, lambda _: None)
    assert result["ratios"]["decode / json"] == {"ratio": 1.1, "expected": 0.5, "limit": 1.0, "held": False}
    assert result["ratios"]["new"]["held"]  # nothing is expected of it yet
    assert not result["held"]


@pytest.mark.parametrize(("ratio", "code"), [(0.9, 0), (1.1, 1)])
def test_the_command_ends_with_1_where_a_ratio_has_grown(
    ratio: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "ratios", lambda _: {"a / b": ratio})
    (tmp_path / "expected.json").write_text('{"a / b": {"ratio": 0.5}}')
    done = CliRunner().invoke(main.app, ["bench", "guard", "--expected", str(tmp_path / "expected.json"), "--json"])
    assert done.exit_code == code
    assert json.loads(done.stdout)["held"] is (code == 0)


@pytest.mark.parametrize("text", [None, "[]", '{"a": {"ratio": "b"}}', '{"a": {"ratio": 1, "tolerence": 2}}'])
def test_a_file_that_expects_nothing_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "expected.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="no expected ratios"):
        guard.read_expected(path)
