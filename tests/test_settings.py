"""Settings: what is read, what is refused and how, and `.env.example` beside them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from fraud.errors import ConfigError
from fraud.s3 import s3_credentials
from fraud.settings import OTHER_VARIABLES, PREFIX, Settings
from fraud.stack.supervisor import Stack
from fraud.store import open_store

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / ".env.example"
COMPOSE = ROOT / "docker-compose.yml"
_LINE = re.compile(r"^#?([A-Z][A-Z0-9_]*)=(.*)$")


def example() -> dict[str, tuple[str, str]]:
    """Return what `.env.example` says of each variable: its value, and the comment above it."""
    found: dict[str, tuple[str, str]] = {}
    comment: list[str] = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if match := _LINE.match(line):
            assert match[1] not in found, f"{match[1]} stands twice in .env.example"
            found[match[1]] = (match[2], " ".join(comment))
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            assert not line.strip(), f".env.example: neither a variable nor a comment: {line!r}"
            comment = []
    return found


def compose_variables(text: str) -> set[str]:
    """Return the variables that a Compose file takes from its environment.

    >>> sorted(compose_variables("a: ${PORT:-1}, b: $${NOT}, c: ${HOST?}, d: $USER"))
    ['HOST', 'PORT', 'USER']
    """
    return set(re.findall(r"(?<!\$)(?:\$\$)*\$\{?([A-Za-z_][A-Za-z0-9_]*)", text))


def default(field: str) -> str:
    """Return a field's default as an environment says it."""
    value = Settings.model_fields[field].default
    return "" if value is None else str(value)


def test_env_example_has_the_settings_and_the_compose_files_variables() -> None:
    settings = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    # There is no Compose file before issue C; from the day there is one, its variables are asked for.
    compose = compose_variables(COMPOSE.read_text(encoding="utf-8")) if COMPOSE.is_file() else set()
    assert set(example()) == settings | compose


def test_env_example_tells_each_settings_meaning_and_default() -> None:
    told = example()
    for field, info in Settings.model_fields.items():
        value, comment = told[f"{PREFIX}{field.upper()}"]
        assert comment.endswith(info.description or ""), field
        read = Settings.load({f"{PREFIX}{field.upper()}": value}) if value else Settings.load({})
        assert getattr(read, field) == info.default, field
        assert value == default(field), field


def test_env_example_works_when_copied_to_env(tmp_path: Path) -> None:
    """Make includes it and passes it on, and a shell reads the same, as it is and with every line uncommented."""
    make = shutil.which("make")
    assert make is not None, "make is needed"
    makefile = tmp_path / "Makefile"
    makefile.write_text("-include .env\nexport\nall:\n\t@env\n", encoding="utf-8")
    text = EXAMPLE.read_text(encoding="utf-8")
    for content in (text, re.sub(r"(?m)^#(?=[A-Z])", "", text)):
        (tmp_path / ".env").write_text(content, encoding="utf-8")
        clean = {"PATH": os.environ["PATH"]}
        done = subprocess.run([make, "-C", tmp_path], env=clean, capture_output=True, text=True, check=True)
        passed = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(PREFIX))
        assert Settings.load({n: v for n, v in passed.items() if v}) == Settings.load({})
        shell = subprocess.run(
            ["sh", "-c", "set -a; . ./.env; set +a; env"],
            cwd=tmp_path,
            env=clean,
            capture_output=True,
            text=True,
            check=True,
        )
        sourced = dict(line.split("=", 1) for line in shell.stdout.splitlines() if line.startswith(PREFIX))
        assert sourced == passed
    assert set(passed) >= {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("FRAUD_KAFKA_BOOTSTRAPS", "FRAUD_KAFKA_BOOTSTRAP"),
        ("FRAUD_TOPIC_PARTITION", "FRAUD_TOPIC_PARTITIONS"),
        ("FRAUD_MLFLOW_URL", "FRAUD_MLFLOW_URI"),
        ("FRAUD_HOEM", "FRAUD_HOME"),
    ],
)
def test_a_typo_is_an_error_that_names_the_right_setting(name: str, right: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is not a setting; did you mean {right}\?"):
        Settings.load({name: "x"})


def test_a_name_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(ConfigError, match=r"FRAUD_QQQQQ is not a setting$"):
        Settings.load({"FRAUD_QQQQQ": "x"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("topic_partitions", "0"),
        ("topic_partitions", "many"),
        ("topic_partitions", "1.5"),
        ("store_durability", "eternal"),
        ("score_profile", "fast"),
        ("max_age_days", "-1"),
        ("watch_seconds", "0"),
        ("store_map_mb", "15"),
    ],
)
def test_a_bad_value_is_named_with_its_variable(field: str, value: str) -> None:
    variable = f"{PREFIX}{field.upper()}"
    with pytest.raises(ConfigError, match=re.escape(f"{variable}='{value}' is refused: ")):
        Settings.load({variable: value})


def test_a_bad_override_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="FRAUD_TOPIC_PARTITIONS=0 is refused"):
        Settings.load({}, topic_partitions=0)
    with pytest.raises(ConfigError, match="FRAUD_NOT_A_FIELD"):
        Settings.load({}, not_a_field=1)


@pytest.mark.parametrize("field", [name for name in Settings.model_fields if name != "max_age_days"])
def test_an_empty_value_is_no_value(field: str) -> None:
    assert Settings.load({f"{PREFIX}{field.upper()}": ""}) == Settings.load({})


def test_an_empty_age_limit_is_none() -> None:
    assert Settings.load({}).max_age_days == 7.0
    assert Settings.load({"FRAUD_MAX_AGE_DAYS": ""}).max_age_days is None
    assert Settings.load({"FRAUD_MAX_AGE_DAYS": "0.5"}).max_age_days == 0.5


def test_other_variables_are_left_alone() -> None:
    environ = {"HOME": "/nowhere", "AWS_ACCESS_KEY_ID": "x", "MLFLOW_TRACKING_URI": "y", "KAFKA_BOOTSTRAP": "z"}
    assert Settings.load(environ | dict.fromkeys(OTHER_VARIABLES, "x")) == Settings.load({})


def test_only_load_reads_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_TOPIC_PARTITIONS", "5")
    monkeypatch.setenv("TOPIC_PARTITIONS", "6")
    assert Settings.load({}).topic_partitions == 2
    assert Settings.model_validate({}).topic_partitions == 2
    assert Settings.load(os.environ).topic_partitions == 5


def test_settings_are_frozen() -> None:
    settings = Settings.load({})
    with pytest.raises(ValidationError, match="frozen"):
        settings.topic_partitions = 3


def test_secrets_are_never_printed() -> None:
    settings = Settings.load({"FRAUD_S3_SECRET_KEY": "hush-hush", "FRAUD_S3_ACCESS_KEY": "my-key"})
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hush" not in text
        assert "my-key" not in text
    assert settings.s3_secret_key is not None
    assert settings.s3_secret_key.get_secret_value() == "hush-hush"
    with pytest.raises(ConfigError) as caught:
        Settings.load({"FRAUD_S3_SECRET_KEY": "hush-hush", "FRAUD_TOPIC_PARTITIONS": "x"})
    assert "hush" not in f"{caught.value}"


@pytest.mark.parametrize(
    ("field", "url"),
    [
        ("store_url", "redis://user:hush@cache:6379/0"),
        ("store_url", "redis://cache:6379/0?password=hush"),
        ("store_url", "redis://:half/hush@cache:6379/0"),
        ("store_url", "redis:user:hush@cache"),
        ("store_url", "ftp://user:hush@cache"),
        ("mlflow_uri", "http://user:hush@mlflow.example"),
        ("s3_endpoint", "http://user:hush@s3.example"),
        ("kafka_bootstrap", "user:hush@kafka.example"),
    ],
)
def test_a_password_in_an_address_is_never_printed(field: str, url: str) -> None:
    settings = Settings.load({f"{PREFIX}{field.upper()}": url})
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hush" not in text
    assert getattr(settings, field) == url  # what connects needs it
    if field != "store_url":
        with pytest.raises(ConfigError, match="names no port") as caught:
            settings.port(field)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://:half/hush@cache:6379/0", "redis:user:hush@cache", "ftp://user:hush@cache", "redis://[:hush@cache"]
)
def test_a_stores_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"FRAUD_STORE_URL=.* is refused") as caught:
        open_store(Settings.load({"FRAUD_STORE_URL": url}))
    assert "hush" not in str(caught.value)


def test_every_secret_is_a_secret() -> None:
    for field, info in Settings.model_fields.items():
        if re.search("key|secret|password|token", field):
            assert SecretStr in getattr(info.annotation, "__args__", (info.annotation,)), field


def test_importing_the_settings_touches_no_environment() -> None:
    program = (
        "import os; before = dict(os.environ); os.environ['FRAUD_TOPIC_PARTITIONS'] = 'not a number'\n"
        "import fraud.settings\n"
        "assert fraud.settings.Settings.load({}).topic_partitions == 2\n"
        "del os.environ['FRAUD_TOPIC_PARTITIONS']; assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_a_port_is_read_from_its_address() -> None:
    settings = Settings.load({"FRAUD_KAFKA_BOOTSTRAP": "a:9192,b:9292", "FRAUD_MLFLOW_URI": "https://mlflow.example"})
    assert settings.port("kafka_bootstrap") == 9192
    assert settings.port("s3_endpoint") == 9000
    with pytest.raises(ConfigError, match=r"FRAUD_MLFLOW_URI='https://mlflow\.example' names no port"):
        settings.port("mlflow_uri")


@pytest.mark.parametrize("address", ["localhost", "localhost:notaport", "localhost:99999", "http://[::1"])
def test_an_address_without_a_readable_port_is_refused(address: str) -> None:
    settings = Settings.load({"FRAUD_KAFKA_BOOTSTRAP": address})
    with pytest.raises(ConfigError, match="FRAUD_KAFKA_BOOTSTRAP"):
        settings.port("kafka_bootstrap")


def test_the_folders_lie_under_home() -> None:
    settings = Settings.load({"FRAUD_HOME": "elsewhere"})
    for folder in (settings.data, settings.logs, settings.cache, settings.checkpoint):
        assert Path("elsewhere") in folder.parents


def test_the_home_is_its_owners_and_one_that_exists_stays_as_it_is(tmp_path: Path) -> None:
    made, known = tmp_path / "deep" / "made", tmp_path / "known"
    known.mkdir(mode=0o755)
    for home in (made, known):
        Settings.load({}, home=home).make_home()
    assert made.stat().st_mode & 0o777 == 0o700
    assert known.stat().st_mode & 0o777 == 0o755


def test_whatever_makes_the_home_first_makes_it_private(tmp_path: Path) -> None:
    first: dict[str, Callable[[Settings], object]] = {
        "stack": lambda settings: Stack(settings).stop(lambda _: None),
        "credentials": s3_credentials,
        "store": lambda settings: open_store(settings).close(),
    }
    for name, make in first.items():
        settings = Settings.load({}, home=tmp_path / name)
        make(settings)
        assert settings.home.stat().st_mode & 0o777 == 0o700, name


def test_a_child_gets_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = Settings.load(
        {},
        home=Path("here"),
        s3_access_key=SecretStr("key"),
        s3_secret_key=SecretStr("secret"),
        max_age_days=None,
        store_url="lmdb:store",
        spark_ui_port=0,
        store_durability="disk",
    )
    variables = given.environment()
    assert set(variables) == {f"FRAUD_{name.upper()}" for name in Settings.model_fields}
    monkeypatch.chdir("/")
    got = Settings.load(variables)
    changed = {"home": tmp_path / "here", "store_url": f"lmdb:{tmp_path}/store"}
    assert got == given.model_copy(update=changed)
    assert got.s3_secret_key is not None
    assert got.s3_secret_key.get_secret_value() == "secret"


def test_defaults_stay_defaults() -> None:
    given = Settings.load({})
    assert Settings.load(given.environment()) == given.model_copy(update={"home": given.home.absolute()})
