"""Private keys on disk."""

import os
from pathlib import Path


def save_key(path: str | os.PathLike[str], private_key: str) -> Path:
    """Writes a private key to a new file that only its owner can read (mode 0600), for `ssh -i`.

    Raises:
        FileExistsError: there is such a file: nothing is ever written over a key.
        ValueError: the text is empty, as when the request brought its own public key.
    """
    if not private_key:
        raise ValueError("there is no private key: the server tells one only when it made the pair, and only for a while")
    target = Path(path)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii", newline="\n") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)
            file.write(private_key if private_key.endswith("\n") else private_key + "\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target
