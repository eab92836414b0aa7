"""The command line: help that reads well and comes at once, and exit codes that mean something."""

import ast
import json
import logging
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import lmdb
import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.testing import CliRunner

from fraud.cli import console, main, stack
from fraud.cli.extras import EXTRAS
from fraud.errors import ConfigError, FraudError, ModelError, StateError

ROOT = Path(__file__).resolve().parent.parent
HELP_SECONDS = 0.5
HEAVY = ("mlflow", "xgboost", "pyspark", "polars", "sklearn", "numba", "numpy", "pandas", "pyarrow", "kafka", "boto3")
# The command as its users start it, whatever stands on the PATH.
START = "import sys; sys.argv[0] = 'fraud-detect'; from fraud.cli.__main__ import main; main()"
# Before it, a Ctrl-C in a callback while a module is imported: there Python prints the interruption and goes on.
INTERRUPTED = """
import os, signal, sys, weakref

module = sys.argv.pop(1)

class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == module:
            gone = set()
            callback = weakref.ref(gone, lambda _: os.kill(os.getpid(), signal.SIGINT))
            del gone

sys.meta_path.insert(0, Interrupted())
sys.argv[0] = "fraud-detect"
from fraud.cli.__main__ import main
main()
"""


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> dict[str, TyperCommand | TyperGroup]:
    """Return the commands and groups below one, by their words."""
    found: dict[str, TyperCommand | TyperGroup] = {}
    for name, child in group.commands.items():
        assert isinstance(child, TyperCommand | TyperGroup)
        found[" ".join([*path, name])] = child
        if isinstance(child, TyperGroup):
            found |= commands(child, (*path, name))
    return found


ROOT_COMMAND = typer.main.get_command(main.app)
assert isinstance(ROOT_COMMAND, TyperGroup)
COMMANDS = commands(ROOT_COMMAND)


def run(*words: str, folder: Path, start: str = START, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, in a folder, without settings but those given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    return subprocess.run(
        [sys.executable, "-c", start, *words],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_commands_are_found() -> None:
    assert {"simulate", "score"} <= set(COMMANDS)


@pytest.mark.parametrize("text", [stack.FIRST_STEPS, stack.NEXT_STEPS], ids=["first steps", "next steps"])
def test_the_commands_that_up_advises_can_be_typed(text: str) -> None:
    advised = re.findall(r"(?:^  |`)fraud-detect ([^`#\n]+)", text, re.MULTILINE)
    assert len(advised) >= 3
    for line in advised:
        name, *words = line.split()
        COMMANDS[name].make_context(name, words)  # raises what would be exit 2


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_explains_itself(words: str) -> None:
    result = CliRunner().invoke(main.app, [*words.split(), "--help"])
    assert result.exit_code == 0
    command = COMMANDS[words]
    first = (command.help or "").strip().split("\n\n")[0].replace("\n", " ")
    assert first, "a command says what it does"
    assert first[0].isupper(), first
    assert first.endswith((".", ":")), first
    for option in command.params:
        if isinstance(option, TyperOption):
            assert option.help, f"{words} {option.opts[-1]} has no help"
            assert option.help.endswith("."), option.help
            assert all(name == name.lower().replace("_", "-") for name in option.opts), option.opts
            assert option.name != "as_json" or option.opts == ["--json"]


def test_the_list_of_commands_has_a_line_for_each() -> None:
    result = CliRunner().invoke(main.app, ["--help"], terminal_width=200)
    assert result.exit_code == 0
    for words in COMMANDS:
        assert words.split()[0] in result.stdout


def test_help_comes_at_once_without_heavy_libraries(tmp_path: Path) -> None:
    watched = f"""
import sys
sys.argv = ["fraud-detect", "--help"]
from fraud.cli.__main__ import main
try:
    main()
finally:
    print("HEAVY", [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", watched], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # The processor's time: on a machine that isn't busy the same as the clock's, and not a neighbour's.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
        assert "HEAVY []" in done.stderr
        assert "simulate" in done.stdout
    assert statistics.median(seconds) <= HELP_SECONDS, seconds


def test_ctrl_c_while_the_command_line_is_imported_is_not_lost(tmp_path: Path) -> None:
    done = run("typer", "--help", folder=tmp_path, start=INTERRUPTED)
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("job", ["score", "archive"])
def test_ctrl_c_while_a_job_is_imported_ends_it_before_it_starts(job: str, tmp_path: Path) -> None:
    done = run(f"spark_jobs.{job}", job, folder=tmp_path, start=INTERRUPTED, FRAUD_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{job}: ended\n"
    assert not (tmp_path / "home").exists()


def test_the_installed_command_is_this_one(tmp_path: Path) -> None:
    installed = Path(sys.executable).with_name("fraud-detect")
    done = subprocess.run([installed, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: fraud-detect" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-command",),
        ("--no-such-option",),
        ("simulate", "--days", "many"),
        ("simulate", "--no-such-option"),
        ("simulate", "--days", "0"),
        ("simulate", "--start", "yesterday"),
        ("simulate", "--labels-after", "soon"),
        ("simulate", "--scenario", "bad_luck"),
        ("simulate", "--scenario", "card_testing@noon"),
        ("simulate", "--per-day", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_and_names_it(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fraud-detect", *words])
    with pytest.raises(SystemExit) as caught:
        main.main()
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    assert words[-1].split("@")[-1] in err or words[-2] in err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_exits_1_with_its_message_alone(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a directory should be")
    done = run("simulate", "--days", "1", "--users", "10", "--out", "taken", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: can't write the tables to taken")
    assert len(done.stderr.splitlines()) == 1


def test_a_past_in_the_home_makes_it_private(tmp_path: Path) -> None:
    done = run("simulate", "--days", "1", "--users", "10", "--out", ".run/past", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".run").stat().st_mode & 0o777 == 0o700


def test_a_result_is_one_line_of_json_and_words_are_for_people(tmp_path: Path) -> None:
    small = ("simulate", "--days", "2", "--users", "50", "--out", "x")
    done = run(*small, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout)["transactions"] > 0
    said = run(*small, folder=tmp_path)
    assert said.stdout == ""
    assert "transactions" in said.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StateError("nothing runs here"), 1, "error: nothing runs here\n"),
        (ModelError("no model"), 1, "error: no model\n"),
        (FraudError("on purpose"), 1, "error: on purpose\n"),
        (ConfigError("FRAUD_X is not a setting"), 2, "error: FRAUD_X is not a setting\n"),
        (MemoryError(), 1, "error: the memory doesn't suffice; give the process more, or less to do\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_error_has_its_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == code
    assert capsys.readouterr().err == said


def test_an_unexpected_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(ZeroDivisionError):
        main.main()


# A command that comes to need the library before it needs anything else, and how it is called.
NEEDS = {
    "faker": ("simulate", "--days", "1", "--users", "5"),
    "mlflow": ("models",),
    "psutil": ("down",),
}


@pytest.mark.parametrize("module", NEEDS)
def test_a_missing_library_is_named_with_what_installs_it(module: str, tmp_path: Path) -> None:
    start = f"import sys; sys.modules[{module!r}] = None; {START}"
    done = subprocess.run(
        [sys.executable, "-c", start, *NEEDS[module]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FRAUD_KAFKA_BOOTSTRAP": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"pip install 'fraud-detect[{EXTRAS[module]}]'" in done.stderr


def test_the_table_of_extras_knows_every_library_that_isnt_always_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])
    names = [re.split("[^a-z-]", each)[0] for each in project["dependencies"]]
    brought = packages_distributions()
    always = {module for module, by in brought.items() if {each.lower() for each in by} & set(names)}
    used = set()
    for path in (path for folder in ("fraud", "producer", "spark_jobs") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                used.add(node.module.partition(".")[0])
    ours = {"fraud", "producer", "spark_jobs", "pydantic"}  # pydantic comes with pydantic-settings
    assert used - always - ours - set(sys.stdlib_module_names) - set(EXTRAS) == set()


@pytest.mark.parametrize("words", ["up", "doctor", "produce", "replay x", "consume", "backfill x", "parity"])
def test_kafkas_client_is_quiet_where_a_command_holds_one(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = logging.getLogger("kafka")
    monkeypatch.setattr(kafka, "level", logging.NOTSET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAUD_QQQQQ", "ends every command where it reads its settings")
    with pytest.raises(ConfigError):
        CliRunner().invoke(main.app, words.split(), catch_exceptions=False)
    assert kafka.level == logging.CRITICAL


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_TOPIC_PARTITIONS", "7")
    assert console.settings().topic_partitions == 7
    assert console.settings(topic_partitions=3).topic_partitions == 3
    monkeypatch.setenv("FRAUD_TOPIC_PARTITION", "7")
    with pytest.raises(ConfigError, match="did you mean FRAUD_TOPIC_PARTITIONS"):
        console.settings()


def test_a_result_goes_to_stdout_and_words_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit({"path": Path("a/b"), "n": 1})
    console.say("done")
    out, err = capsys.readouterr()
    assert out == '{"path":"a/b","n":1}\n'
    assert err == "done\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--labels-after", "-7d"],
        ["simulate", "--labels-after", "9999999d"],
        ["simulate", "--start", "9999-12-31"],
        ["simulate", "--start", "0001-06-01"],
        ["simulate", "--seed", "-1"],
        ["simulate", "--days", "99999999"],
        ["simulate", "--scenario", "stolen_card@-3"],
        ["simulate", "--scenario", "stolen_card@"],
        ["train", "--from", "nowhere", "--maturity", "-5d"],
        ["train", "--from", "nowhere", "--as-of", "soon"],
        ["train", "--from", "nowhere", "--min-frauds", "0"],
        ["backfill", "nowhere", "--until", "1990-01-01"],
        ["bench", "stream", "--rate", "0"],
    ],
)
def test_a_value_that_makes_no_sense_is_a_usage_error(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fraud.cli", *arguments],
        cwd=tmp_path,
        env={**os.environ, "FRAUD_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_of_an_older_version_is_made_anew_when_that_is_confirmed(tmp_path: Path) -> None:
    """Its refusal names `rebuild`, which asks first, as for any store that holds something."""
    home = tmp_path / "home"
    folder = home / "data" / "store" / "histories"
    folder.mkdir(parents=True)
    with lmdb.open(str(folder)) as old, old.begin(write=True) as txn:
        txn.put(b"u\0\0\0\0somebody", b"a history")
    done = run("rebuild", folder=tmp_path, FRAUD_HOME=str(home))
    assert done.returncode == 2, done.stderr
    assert "This replaces the histories" in done.stderr
    assert "--yes" in done.stderr


def test_a_home_that_is_a_file_is_said_without_a_traceback(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "fraud.cli", "status"],
        env={**os.environ, "FRAUD_HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert str(home) in done.stderr
