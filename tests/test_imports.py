"""The arrows between modules, read from their syntax trees: core ← edges ← leaves (docs: CONTRIBUTING.md).

A new module is in a layer by the longest prefix in LAYERS; one that has none fails here, so that somebody
decides where it belongs.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("fraud", "producer", "spark_jobs", "bench")

CORE, EDGE, PRODUCER, JOBS, RUNNER, CLI = "core", "edge", "producer", "spark_jobs", "runner", "cli"
PEER = "peer"
# What each layer may import: the core itself alone; the leaves nobody but who runs them.
MAY_IMPORT = {
    CORE: {CORE},
    EDGE: {CORE, EDGE},
    PRODUCER: {CORE, EDGE, PRODUCER},
    JOBS: {CORE, EDGE, JOBS},
    PEER: {CORE, EDGE, PEER},
    RUNNER: {CORE, EDGE, PRODUCER, JOBS, RUNNER},
    CLI: {CORE, EDGE, PRODUCER, JOBS, RUNNER, CLI},
}
LAYERS = {
    "fraud": CORE,  # the package itself: a version, no imports
    # Pure: what a message, a feature, a model, a decision is.
    "fraud.errors": CORE,
    "fraud.schema": CORE,
    "fraud.schema_files": CORE,
    "fraud.jsontext": CORE,
    "fraud.times": CORE,
    "fraud.codec": CORE,
    "fraud.validation": CORE,
    "fraud.rejections": CORE,
    "fraud.plain": CORE,
    "fraud.predictions": CORE,
    "fraud.answers": CORE,
    "fraud.history": CORE,
    "fraud.profiles": CORE,
    "fraud.features": CORE,
    "fraud.builder": CORE,
    "fraud.booster": CORE,
    "fraud.compiled": CORE,
    "fraud.forest": CORE,
    "fraud.calibration": CORE,
    "fraud.model": CORE,
    "fraud.training": CORE,
    "fraud.evaluation": CORE,
    "fraud.decision": CORE,
    "fraud.verdicts": CORE,
    "fraud.ranges": CORE,
    "fraud.scoring": CORE,
    "fraud.gate": CORE,
    "fraud.archive": CORE,
    "fraud.lake.tables": CORE,  # the tables' columns; what reads and writes them is an edge
    "fraud.store.base": CORE,  # the protocol and its records; what implements it is an edge
    # Where the core meets files, servers and other processes.
    "fraud.settings": EDGE,
    "fraud.revision": EDGE,
    "fraud.handbook": EDGE,
    "fraud.store": EDGE,
    "fraud.bus": EDGE,
    "fraud.kafka_clients": EDGE,
    "fraud.consuming": EDGE,
    "fraud.s3": EDGE,
    "fraud.registry": EDGE,
    "fraud.watcher": EDGE,
    "fraud.stack": EDGE,
    "fraud.backfill": EDGE,
    "fraud.parity": EDGE,
    "fraud.lake": EDGE,
    "fraud.dataset": EDGE,
    "fraud.rebuild": EDGE,
    # What people and machines start.
    "producer": PRODUCER,
    "spark_jobs": JOBS,
    "bench": PEER,  # started by fraud.bench as processes of their own, imported by nobody
    "fraud.bench": RUNNER,
    "fraud.demo": RUNNER,
    "fraud.cli": CLI,
}
# Both follow from a bundle and from features; neither may lean on the other.
STRANGERS = (("fraud.training", ("fraud.scoring", "fraud.decision", "fraud.verdicts")),)

# A library that one edge keeps to itself.
ONLY_IN = {
    "pyspark": ("spark_jobs",),
    "py4j": ("spark_jobs",),
    "lmdb": ("fraud.store",),
    "redis": ("fraud.store",),
    "mlflow": ("fraud.registry", "fraud.watcher"),
    "faker": ("producer",),
    "typer": ("fraud.cli",),
    "deltalake": ("fraud.lake",),
    "imblearn": ("fraud.training",),
    "airflow": ("dags",),
    "quixstreams": ("bench.peers",),
    "onnxruntime": ("bench.peers",),
    "onnxmltools": ("bench.peers",),
}

# Who reads or writes the process's environment beside the command line's one place, and why.
ENVIRONMENT = {
    "fraud.cli.console": "the one place that reads the settings",
    "fraud.cli.train": "OpenMP reads how its threads wait from there, when it is loaded",
    "fraud.cli.bench": "OpenMP reads how its threads wait from there, when it is loaded",
    "fraud.cli.bench_train": "OpenMP reads how its threads wait from there, when it is loaded",
    "fraud.stack.java": "JAVA_HOME and SSL_CERT_FILE are the machine's",
    "fraud.stack.classes": "a child inherits the process's, with its own on top",
    "fraud.stack.health": "an entry point: a container's health check",
    "fraud.stack.child": "a child inherits the process's, with its own on top",
    "fraud.stack.supervisord": "a child inherits the process's, with its own on top",
    "fraud.demo.commands": "a child inherits the process's, with its own on top",
    "fraud.bench.rig": "a child inherits the process's, with its own on top; OpenMP reads how its threads wait",
    "fraud.registry.connection": "MLflow's client is configured by variables alone",
    "bench.peers.program": "an entry point: the settings of the score job beside it",
    "spark_jobs.classes": "an entry point: a child of fraud.stack.classes",
    "spark_jobs.session": "the JVM and its workers are configured by variables",
}
# Who asks the wall clock beside the command line and what it runs; everywhere else time is an argument.
CLOCK = {
    "fraud.stack.jobs": "asks whether the job's lease holds now",
    "fraud.stack.health": "an entry point: whether a lease holds now",
    "spark_jobs.task": "an entry point: when a slice is decided",
    "spark_jobs.score": "an entry point: leases and marks of the driver",
    "spark_jobs.archive": "an entry point: the driver's lease",
    "spark_jobs.archive_wait": "an entry point: how long it waits",
    "bench.peers.plain": "an entry point: when a slice is decided",
    "bench.peers.quix": "an entry point: when a message is decided",
}
_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}


@dataclass(frozen=True)
class Import:
    """One imported module, where it stands, and whether it runs when the importing module is imported."""

    name: str
    line: int
    at_top: bool


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def layer(module: str, layers: dict[str, str] = LAYERS) -> str | None:
    """Return the layer of the longest prefix; the bare package `fraud` lends its layer to nobody."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in layers and (prefix != "fraud" or module == "fraud"):
            return layers[prefix]
    return None


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(source: ast.Module, known: frozenset[str]) -> Iterator[Import]:
    """Yield everything imported, inside functions and for type checkers too.

    `from package import module` counts as the module.
    """

    def walk(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"line {child.lineno}: write absolute imports"
                base = child.module or ""
                for alias in child.names:
                    full = f"{base}.{alias.name}"
                    yield Import(full if full in known else base, child.lineno, at_top)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _type_checking(child)
            yield from walk(child, at_top and not inside)

    yield from walk(source, True)


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    return tuple(imports(tree(module), frozenset(modules())))


def dotted(node: ast.AST) -> str:
    """Return the last two names of an attribute: `datetime.datetime.now` is `datetime.now`."""
    if not isinstance(node, ast.Attribute):
        return ""
    owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    return f"{owner}.{node.attr}"


def names_used(source: ast.Module) -> set[str]:
    """Return every dotted name a module uses, `from time import time` being `time.time`."""
    used = {dotted(node) for node in ast.walk(source)}
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom):
            used |= {f"{node.module}.{alias.name}" for alias in node.names}
    return used


def reads_environment(source: ast.Module) -> bool:
    return bool(names_used(source) & {"os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"})


def reads_clock(source: ast.Module) -> bool:
    return bool(names_used(source) & _CLOCKS)


def test_every_module_has_a_layer() -> None:
    lost = [module for module in modules() if layer(module) is None]
    assert not lost, f"say in LAYERS (tests/test_imports.py) whether these are core, edge or leaf: {', '.join(lost)}"


def test_arrows_go_one_way() -> None:
    reversed_arrows = []
    for module in modules():
        may = MAY_IMPORT[layer(module) or CORE]
        for found in imports_of(module):
            if found.name.split(".")[0] in PACKAGES and (target := layer(found.name)) not in may:
                where = f"{modules()[module].relative_to(ROOT)}:{found.line}"
                reversed_arrows.append(f"{where}: {layer(module)} imports {found.name}, which is {target}")
    assert not reversed_arrows, "\n".join(reversed_arrows)


def test_training_and_scoring_do_not_know_each_other() -> None:
    for one, others in STRANGERS:
        for module in modules():
            for found in imports_of(module):
                for other in others:
                    assert not (is_in(module, one) and is_in(found.name, other)), f"{module} imports {found.name}"
                    assert not (is_in(module, other) and is_in(found.name, one)), f"{module} imports {found.name}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_at_its_edge(library: str) -> None:
    strayed = [
        f"{module}:{found.line}"
        for module in modules()
        for found in imports_of(module)
        if is_in(found.name, library) and not any(is_in(module, home) for home in ONLY_IN[library])
    ]
    assert not strayed, f"{library} is imported outside {' and '.join(ONLY_IN[library])}: {', '.join(strayed)}"


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    """`--help` runs these imports; what a command needs is imported in its body."""
    light = ("fraud.cli", "fraud.errors", "typer", *sys.stdlib_module_names)
    heavy = [
        f"{module}:{found.line} imports {found.name}"
        for module in modules()
        if is_in(module, "fraud.cli")
        for found in imports_of(module)
        if found.at_top and not any(is_in(found.name, name) for name in light)
    ]
    assert not heavy, f"move into the command's body: {', '.join(heavy)}"


def differences(found: set[str], listed: dict[str, str]) -> str:
    """Say which modules do what they shouldn't, and which exceptions nobody needs any more."""
    unlisted, unused = sorted(found - set(listed)), sorted(set(listed) - found)
    said = [f"not listed with a reason: {', '.join(unlisted)}"] if unlisted else []
    return "; ".join(said + ([f"listed but not needed: {', '.join(unused)}"] if unused else []))


def test_only_the_listed_modules_touch_the_environment() -> None:
    found = {module for module in modules() if reads_environment(tree(module))}
    assert not differences(found, ENVIRONMENT), "settings come as an argument"


def test_only_entry_points_ask_the_clock() -> None:
    found = {m for m in modules() if reads_clock(tree(m)) and layer(m) not in (CLI, RUNNER)}
    assert not differences(found, CLOCK), "time comes as an argument"


def test_the_core_waits_for_nothing() -> None:
    """Not even a monotonic clock: what depends on time passing belongs to an edge."""
    for module in modules():
        if layer(module) == CORE:
            assert not any(found.name in ("time", "socket", "subprocess", "asyncio") for found in imports_of(module)), (
                module
            )


def test_importing_the_library_touches_no_disk_network_or_process() -> None:
    names = [name for name in modules() if layer(name) in (CORE, EDGE) and not name.endswith("__main__")]
    program = f"""
import importlib, os, sys
def watch(event, args):
    if "__pycache__" in str(args[:1]):
        return  # compiled code, Python's or Numba's
    wrote = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if wrote or event in ("os.mkdir", "os.remove", "socket.connect", "socket.bind", "subprocess.Popen", "os.fork"):
        raise RuntimeError(f"importing {{name}} does {{event}} {{args[:2]}}")
before = dict(os.environ)
import imblearn, lmdb, msgspec, numba, polars, pyarrow, pydantic_settings, redis
between = dict(os.environ)
sys.addaudithook(watch)
for name in {names!r}:
    importlib.import_module(name)
    assert dict(os.environ) == between, name
"""
    run = [sys.executable, "-B", "-c", program]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import fraud.codec", [Import("fraud.codec", 1, True)]),
        ("from fraud import codec", [Import("fraud.codec", 1, True)]),
        ("from fraud.codec import encode", [Import("fraud.codec", 1, True)]),
        ("def f():\n    import mlflow", [Import("mlflow", 2, False)]),
        ("if TYPE_CHECKING:\n    import mlflow", [Import("mlflow", 2, False)]),
        ("try:\n    import mlflow\nexcept ImportError:\n    pass", [Import("mlflow", 2, True)]),
        ("class A:\n    import mlflow", [Import("mlflow", 2, True)]),
    ],
)
def test_imports_are_read_wherever_they_stand(text: str, expected: list[Import]) -> None:
    assert list(imports(ast.parse(text), frozenset({"fraud.codec"}))) == expected


@pytest.mark.parametrize(
    ("text", "environment", "clock"),
    [
        ("import os\nos.environ['A']", True, False),
        ("from os import getenv", True, False),
        ("import time\ntime.time_ns()", False, True),
        ("import datetime\ndatetime.datetime.now()", False, True),
        ("from datetime import date\ndate.today()", False, True),
        ("from time import time", False, True),
        ("import time\ntime.monotonic()", False, False),
        ("from datetime import datetime\ndatetime.fromisoformat('2026')", False, False),
    ],
)
def test_environment_and_clock_are_seen(text: str, environment: bool, clock: bool) -> None:
    assert reads_environment(ast.parse(text)) is environment
    assert reads_clock(ast.parse(text)) is clock


def test_an_unknown_module_has_no_layer() -> None:
    assert layer("fraud.novelty") is None
    assert layer("fraud.novelty.part") is None
    assert layer("fraud.store.redis_store") == EDGE
    assert layer("fraud.store.base") == CORE
    assert layer("fraud.training.search") == CORE
