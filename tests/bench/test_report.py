"""README's table is what was measured; a picture shows a result's figures."""

import json
import re
from pathlib import Path

import pytest

from fraud.bench import measured, plots
from fraud.bench.report import PARTS, Part, Row
from fraud.errors import ConfigError, DataError
from tests import servers

RESULTS = servers.REPOSITORY / "bench" / "results"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def found() -> measured.Found:
    return measured.read(PARTS, RESULTS)


def test_every_part_was_measured(found: measured.Found) -> None:
    assert [part.name for part, _ in found] == [part.name for part in PARTS]


def test_the_readme_has_exactly_the_rows_that_were_measured(found: measured.Found) -> None:
    """A figure that nobody measured, or an older one, fails here: print the table with `bench all --again`."""
    text = (servers.REPOSITORY / "README.md").read_text(encoding="utf-8")
    told = "\n".join(measured.markdown(found))
    assert told in text


def test_a_command_in_the_table_is_one_that_a_reader_can_type(found: measured.Found) -> None:
    for part, each in found:
        assert each.command == f"fraud-detect bench {' '.join(part.command(_runs(each)))}"


def _runs(each: measured.Measured) -> int:
    given = re.search(r"--runs (\d+)", each.command)
    return int(given[1]) if given else 1


def test_every_result_with_a_picture_is_drawn_twice(found: measured.Found, tmp_path: Path) -> None:
    paths = measured.draw(found, tmp_path)
    assert {path.name.rsplit("-", 1)[1] for path in paths} == {"light.png", "dark.png"}
    for path in paths:
        assert path.read_bytes().startswith(PNG)
    light, dark = (tmp_path / f"stream-latency-{theme}.png" for theme in ("light", "dark"))
    assert light.read_bytes() != dark.read_bytes()


def test_a_picture_has_the_results_figures(found: measured.Found) -> None:
    (result,) = [each.result for part, each in found if part.name == "stream"]
    latency = plots.charts("stream", result)[0]
    assert latency.series["99 %"] == {int(rate): figures["p99"] for rate, figures in result["paced"].items()}
    assert latency.is_lines


def test_a_failed_part_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    def rows(result: object) -> list[Row]:
        return [Row("kernels", str(len(result)))]  # type: ignore[arg-type]

    parts = [
        Part("bad", ("features", "--events", "0"), rows),
        Part("absent", ("features",), rows, needs="a_module_of_nobody"),
        Part("good", ("features", "--events", "2", "--repeats", "1"), rows),
    ]
    said: list[str] = []
    assert measured.measure(parts, tmp_path, 1, said.append) == ["bad"]
    assert any("make peers" in line for line in said)
    ((part, each),) = measured.read(parts, tmp_path)
    assert part.name == "good"
    assert each.command == "fraud-detect bench features --events 2 --repeats 1"
    assert each.result["events"] == 2
    assert list(measured.markdown([(part, each)]))[2].startswith("| kernels | ")


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stream.json").write_text(json.dumps({"command": 1}))
    with pytest.raises(DataError, match=r"stream\.json isn't a result"):
        measured.read(PARTS, tmp_path)
    with pytest.raises(ConfigError, match="--only nothing is no part; they are stream"):
        measured.chosen(["nothing"])
