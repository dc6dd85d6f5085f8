"""Client of Cloud GPU Shopper.

`Client` (or `gpushopper.aio.Client` for asyncio) connects, repeats what is safe to repeat, and raises typed errors. The
messages and services of the contract are in `gpushopper.v1`; each says its meaning, default and an example.
"""

from gpushopper.client import Client, Watch
from gpushopper.connection import Backoff
from gpushopper.errors import ApiError, SessionEnded, Violation
from gpushopper.keys import save_key
from gpushopper.money import from_decimal, to_decimal
from gpushopper.watching import Snapshot, WatchItem

__all__ = [
    "ApiError",
    "Backoff",
    "Client",
    "SessionEnded",
    "Snapshot",
    "Violation",
    "Watch",
    "WatchItem",
    "from_decimal",
    "save_key",
    "to_decimal",
]
