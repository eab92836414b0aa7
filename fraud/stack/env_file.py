"""`make env`: write .env from .env.example with random secrets (`python -m fraud.stack.env_file [FOLDER]`).

In .env.example a secret is a line that isn't commented out and has no value; Compose refuses to start with an
empty one. Run again, it gives a value to the secrets that a new release has added, and to no other. This module
needs nothing but Python: it runs before anything is installed.
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


def write(folder: Path) -> list[str]:
    """Give `folder`/.env a value for every secret that it lacks, and return their names; make it where there is none.

    What has a value keeps it: it opens the data that exist. Its owner alone may read the file.
    """
    example = (folder / ".env.example").read_text(encoding="utf-8")
    made = folder / ".env"
    try:
        known = made.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = None
    if known is None:
        _replace(made, filled(example))
        return names(example)
    lacking = [name for name in names(example) if not re.search(rf"(?m)^{name}=.", known)]
    if lacking:
        kept = re.sub(rf"(?m)^({'|'.join(lacking)})=$\n?", "", known).rstrip("\n")
        _replace(made, "\n".join([kept, *(f"{name}={_value(name)}" for name in lacking), ""]))
    return lacking


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
    beside.replace(path)


def _value(name: str) -> str:
    if name == FERNET:  # Airflow reads 32 bytes in URL-safe base64
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(LONG.get(name, BYTES))


def main(folder: Path) -> int:
    """Write the file and say so; return the exit code: 1 where it has every secret already."""
    made = folder / ".env"
    is_new = not made.exists()
    given = write(folder)
    if not given:
        say(
            f"{made} is there already, and its secrets open the volumes that exist: it stays as it is. "
            "To start with new ones, remove it and the volumes (docker compose down -v)"
        )
        return 1
    if is_new:
        say(f"{made} has {len(given)} new secrets")
    else:
        say(f"{made} lacked {', '.join(given)}: each got one; everything else stays as it was")
    return 0


def say(message: str) -> None:
    """Print one line for people."""
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
