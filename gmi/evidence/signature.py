"""Signatures of reports with the user's own key, by `ssh-keygen -Y`: whoever has the public key can check them."""

import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from gmi.errors import GmiError

NAMESPACE = "gmi-report"
"""What the signatures are for: one that was made for anything else does not count."""
_WHO = "signer"
# the line that a public key is
_PUBLIC = re.compile(r"(webauthn-)?(sk-)?(ssh|ecdsa)-\S+\s+[A-Za-z0-9+/]+={0,2}(\s.*)?")


def sign(path: Path, key: Path) -> Path:
    """Signs a file with a private key of ssh-keygen, and returns the signature's path, which is the file's and `.sig`.

    ssh-keygen asks for the key's passphrase where it has one and no agent holds it. Raises GmiError where it fails.
    """
    signature = path.with_name(f"{path.name}.sig")
    unsign(path)
    made = _keygen("sign", "-f", str(_expanded(key)), "-n", NAMESPACE, str(path))
    if made.returncode or not signature.is_file():
        raise GmiError(f"{key} did not sign {path} ({_words(made)}): name a private key of ssh-keygen.")
    signature.chmod(0o600)
    return signature


def unsign(path: Path) -> None:
    """Removes the signature of what a file said before."""
    path.with_name(f"{path.name}.sig").unlink(missing_ok=True)


def refuse_unsigned(path: Path, public: Path) -> None:
    """Raises GmiError where a file has no signature by the owner of a public key, or has changed since."""
    signature = path.with_name(f"{path.name}.sig")
    if not signature.is_file():
        raise GmiError(f"{path} has no signature {signature.name}.")
    try:
        lines = [line.strip() for line in _expanded(public).read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        lines = []
    words = next((line for line in lines if line and not line.startswith("#")), "")
    if not _PUBLIC.fullmatch(words):
        raise GmiError(f"{public} cannot be read as a public key: name the .pub file of ssh-keygen.")
    with TemporaryDirectory(prefix="gmi-") as folder:
        allowed = Path(folder, "allowed")
        allowed.write_text(f'{_WHO} namespaces="{NAMESPACE}" {words}\n', "utf-8")
        options = ("-f", str(allowed), "-I", _WHO, "-n", NAMESPACE, "-s", str(signature))
        checked = _keygen("verify", *options, content=path.read_bytes())
    if checked.returncode:
        raise GmiError(f"{path} is not as the owner of {public} signed it ({_words(checked)}).")


def refuse_unable(key: Path) -> None:
    """Raises GmiError where nothing could be signed at the end: there is no such key, or no ssh-keygen."""
    if not _expanded(key).is_file():
        raise GmiError(f"evidence.sign: there is no key {key}: make one with ssh-keygen -t ed25519, or name another.")
    if shutil.which("ssh-keygen") is None:
        raise GmiError("evidence.sign: ssh-keygen is not installed: it comes with OpenSSH.")


def _expanded(path: Path) -> Path:
    """The path with a leading ~ resolved, if there is such a user."""
    with suppress(RuntimeError):
        return path.expanduser()
    return path


def _keygen(what: str, *options: str, content: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(["ssh-keygen", "-Y", what, *options], input=content, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise GmiError("ssh-keygen is not installed: it comes with OpenSSH.") from error


def _words(made: "subprocess.CompletedProcess[bytes]") -> str:
    said = (made.stderr or made.stdout).decode("utf-8", "replace").strip().splitlines()
    return said[-1].rstrip(".") if said else f"ssh-keygen ended with {made.returncode}"
