"""The libraries that this platform is built on are used by it, not merely installed."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("fraud", "producer", "spark_jobs", "dags")
# Distribution -> the package that is imported.
PACKAGES = {
    "apache-airflow": "airflow",
    "boto3": "boto3",
    "faker": "faker",
    "imbalanced-learn": "imblearn",
    "jsonschema": "jsonschema",
    "kafka-python": "kafka",
    "mlflow": "mlflow",
    "psycopg2-binary": "psycopg2",
    "pyspark": "pyspark",
    "scikit-learn": "sklearn",
    "xgboost": "xgboost",
}


@cache
def imported() -> dict[str, set[str]]:
    """Return each top-level package that code imports -> in which files; what only type checkers read is left out."""
    found: dict[str, set[str]] = {}

    def walk(node: ast.AST, where: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                names = [child.module or ""]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(where)
            walk(child, where)

    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            walk(ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("distribution", PACKAGES)
def test_a_package_is_imported_by_code_that_runs(distribution: str) -> None:
    package = PACKAGES[distribution]
    assert imported().get(package), f"nothing in {', '.join(CODE)} imports {package}: use {distribution}, or drop it"


def test_a_package_that_is_imported_nowhere_is_noticed() -> None:
    assert not imported().get("evidently")
    assert "fraud/registry/connection.py" in imported()["mlflow"]
