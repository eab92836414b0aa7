"""Every error this platform raises on purpose.

    FraudError
    ├── ConfigError       a setting or an option is missing, malformed or contradicts another
    ├── DataError         a file or a table breaks its contract
    ├── ModelError        a bundle is refused, or no model can be trained from what was given
    ├── ServiceError      a server (Kafka, S3, MLflow, Redis, Airflow) is away or refused
    ├── StateError        the platform isn't in the state that the command needs
    │   └── RefusedError  the gate keeps a version out of Production
    └── StoreError        the online store can't answer
        ├── FencedError   another writer holds the lease or moved the position: nothing was written
        ├── GapError      the store and the topic don't continue each other
        └── StoreFullError  no room for another commit

The message names what was wrong, the value, and what to do. The command line prints it and exits 1
(`ConfigError`: 2). Foreign errors are translated where they enter, with ``from exc``.
"""


class FraudError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(FraudError):
    """A setting or an option is missing, malformed or contradicts another."""


class DataError(FraudError):
    """A file or a table breaks its contract."""


class ModelError(FraudError):
    """A bundle is refused, or no model can be trained from what was given."""


class ServiceError(FraudError):
    """A server is away or refused the request."""


class StateError(FraudError):
    """The platform isn't in the state that the command needs."""


class RefusedError(StateError):
    """The gate keeps a version out of Production; nothing was moved."""


class StoreError(FraudError):
    """The online store can't answer."""


class FencedError(StoreError):
    """Another writer holds the lease or moved the position; nothing was written."""


class GapError(StoreError):
    """The store and the topic don't continue each other."""


class StoreFullError(StoreError):
    """The online store has no room for another commit."""
