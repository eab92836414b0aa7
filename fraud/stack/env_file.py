"""`make env`: write .env from .env.example with random secrets (`python -m fraud.stack.env_file [FOLDER]`).

In .env.example a secret is a line that isn't commented out and has no value; Compose refuses to start with an
empty one. This module needs nothing but Python: it runs before anything is installed.
"""

import base64
import os
import re
import secrets
import sys
from pathlib import Path

# Letters and digits only: make, a shell, Compose, a URL and Redis's configuration read the same value.
BYTES = 20
FERNET = "AIRFLOW_FERNET_KEY"
LONG = {"AIRFLOW_JWT_SECRET": 32}  # HS512 wants a key of 64 bytes; hexadecimal doubles them
_SECRET = re.compile(r"(?m)^([A-Z][A-Z0-9_]*)=$")


def filled(example: str) -> str:
    """Return the example's text with a random value for every secret.

    >>> filled("# Postgres.\\nPASSWORD=\\n#PORT=5000\\n").startswith("# Postgres.\\nPASSWORD=")
    True
    """
    return _SECRET.sub(lambda found: f"{found[1]}={_value(found[1])}", example)


def names(example: str) -> list[str]:
    """Return the secrets' names.

    >>> names("A=\\n#B=\\nC=1\\n")
    ['A']
    """
    return _SECRET.findall(example)


def write(folder: Path) -> Path:
    """Write `folder`/.env, readable by its owner alone.

    Raises:
        FileExistsError: there is one; its secrets open the data that exist.
    """
    text = filled((folder / ".env.example").read_text(encoding="utf-8"))
    made = folder / ".env"
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
    return made


def _value(name: str) -> str:
    if name == FERNET:  # Airflow reads 32 bytes in URL-safe base64
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(LONG.get(name, BYTES))


def main(folder: Path) -> int:
    """Write the file and say so; return the exit code."""
    try:
        made = write(folder)
    except FileExistsError:
        say(
            f"{folder / '.env'} is there already, and its secrets open the volumes that exist: it stays as it is. "
            "To start with new ones, remove it and the volumes (docker compose down -v)"
        )
        return 1
    say(f"{made} has {len(names((folder / '.env.example').read_text(encoding='utf-8')))} new secrets")
    return 0


def say(message: str) -> None:
    """Print one line for people."""
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
