# The platform's own images, one target each:
#   jobs      the streaming jobs, the producer and the command line
#   airflow   Airflow as it is published, with the retraining's commands in an environment of their own
# Each installs a hash-pinned lock before it copies any source, so that a change of code builds in seconds.

ARG PYTHON=python:3.11-slim-bookworm
ARG JAVA=eclipse-temurin:17-jre
ARG AIRFLOW=apache/airflow:3.3.2-python3.11

# --- Java, wherever its image keeps it ---
FROM ${JAVA} AS java
RUN cp -rL "$JAVA_HOME" /java

# --- what builds; nothing of it is in an image's end ---
FROM ${PYTHON} AS tools
ENV UV_LINK_MODE=copy UV_CACHE_DIR=/cache/uv
COPY requirements/tools.txt /locks/
RUN python -m venv /tools \
 && /tools/bin/pip install --no-cache-dir --quiet --require-hashes -r /locks/tools.txt

FROM tools AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY fraud fraud
COPY producer producer
COPY spark_jobs spark_jobs
RUN /tools/bin/python -m hatchling build -t wheel -d /wheels

# --- the jobs ---
FROM tools AS jobs-environment
COPY requirements/jobs.txt requirements/build.txt /locks/
RUN --mount=type=cache,target=/cache/uv \
    /tools/bin/uv venv --quiet --python "$(command -v python)" /opt/fraud \
 && VIRTUAL_ENV=/opt/fraud /tools/bin/uv pip sync --quiet --compile-bytecode --require-hashes \
      --build-constraints /locks/build.txt /locks/jobs.txt
COPY --from=java /java /opt/java
# Spark's Kafka connector; jars.py compares what comes with the checksums of jars.lock.
WORKDIR /source
COPY fraud/__init__.py fraud/errors.py fraud/settings.py fraud/
COPY fraud/stack/__init__.py fraud/stack/java.py fraud/stack/jars.py fraud/stack/jars.lock fraud/stack/
RUN JAVA_HOME=/opt/java /opt/fraud/bin/python -c \
      "from fraud.settings import Settings; from fraud.stack.jars import spark_jars; spark_jars(Settings.load({}, home='/var/lib/fraud'))"
COPY --from=wheel /wheels /wheels
RUN VIRTUAL_ENV=/opt/fraud /tools/bin/uv pip install --quiet --compile-bytecode --no-deps --no-index /wheels/*.whl

FROM ${PYTHON} AS jobs
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/fraud --shell /usr/sbin/nologin fraud \
 && install -d -o fraud -g fraud -m 750 /var/lib/fraud /var/lib/fraud/data /var/lib/fraud/logs
COPY --from=java /java /opt/java
COPY --from=jobs-environment /opt/fraud /opt/fraud
COPY --from=jobs-environment /var/lib/fraud/cache /var/lib/fraud/cache
# Kernels are compiled for the processor at hand; who has a volume keeps them there.
ENV PATH=/opt/fraud/bin:$PATH \
    JAVA_HOME=/opt/java \
    FRAUD_HOME=/var/lib/fraud \
    NUMBA_CACHE_DIR=/tmp/numba \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/fraud
ENTRYPOINT ["fraud-detect"]
CMD ["--help"]

# --- Airflow ---
FROM ${AIRFLOW} AS airflow-environment
# /opt is root's; the stage is thrown away.
# hadolint ignore=DL3002
USER 0
ENV UV_LINK_MODE=copy UV_CACHE_DIR=/cache/uv
COPY requirements/tools.txt requirements/retrain.txt requirements/build.txt /locks/
# By the interpreter that Airflow's own environment is made of: the two share nothing else.
RUN --mount=type=cache,target=/cache/uv \
    base=$(python3 -c 'import sys; print(sys._base_executable)') \
 && "$base" -m venv /tools \
 && /tools/bin/pip install --no-cache-dir --quiet --require-hashes -r /locks/tools.txt \
 && /tools/bin/uv venv --quiet --python "$base" /opt/fraud \
 && VIRTUAL_ENV=/opt/fraud /tools/bin/uv pip sync --quiet --compile-bytecode --require-hashes \
      --build-constraints /locks/build.txt /locks/retrain.txt
COPY --from=wheel /wheels /wheels
RUN VIRTUAL_ENV=/opt/fraud /tools/bin/uv pip install --quiet --compile-bytecode --no-deps --no-index /wheels/*.whl

FROM ${AIRFLOW} AS airflow
COPY --from=airflow-environment /opt/fraud /opt/fraud
COPY --chmod=755 dags /opt/airflow/dags
ENV FRAUD_COMMAND=/opt/fraud/bin/fraud-detect \
    FRAUD_HOME=/tmp/fraud \
    NUMBA_CACHE_DIR=/tmp/fraud/numba \
    MPLCONFIGDIR=/tmp/fraud/matplotlib
USER 50000:0
