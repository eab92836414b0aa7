"""Our own modules as an artefact carries them, so that it loads where this package isn't installed.

The bundle's reader and the scorer are copied from this package, not written again. The copies live in a
package named after the hash of their text: it can't be mistaken for `fraud`, and two artefacts of different
versions of the platform don't share modules in one process.
"""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

# Module in the artefact -> where its text lies in this package.
SOURCES = {
    "errors": "errors.py",
    "calibration": "calibration.py",
    "booster": "booster.py",
    "model": "model.py",
    "serve": "registry/serve.py",
}
_IMPORT = re.compile(r"^(\s*from )fraud(?=\.\w+ import )", re.MULTILINE)


def pack(folder: Path) -> str:
    """Write the package into `folder`; return the dotted name of its loader module."""
    texts = {name: files("fraud").joinpath(path).read_text("utf-8") for name, path in SOURCES.items()}
    joined = "\0".join(f"{name}\0{text}" for name, text in sorted(texts.items()))
    package = f"fraud_bundle_{hashlib.sha256(joined.encode()).hexdigest()[:12]}"
    home = folder / package
    home.mkdir(parents=True)
    (home / "__init__.py").write_text('"""Reads and applies a bundle of fraud-detector."""\n', "utf-8")
    for name, text in texts.items():
        (home / f"{name}.py").write_text(_IMPORT.sub(rf"\g<1>{package}", text), "utf-8")
    return f"{package}.serve"
