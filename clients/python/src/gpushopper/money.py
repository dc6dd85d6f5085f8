"""Money as `decimal.Decimal`, exact to the nano-dollar. No float comes near it."""

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation

from google.type.money_pb2 import Money

_EXACT = Context(prec=40, traps=[Inexact, InvalidOperation])
_NANOS = 1_000_000_000


def to_decimal(money: Money) -> Decimal:
    """The amount in US dollars. An absent amount is zero.

    Raises:
        ValueError: it is in another currency.
    """
    if money.currency_code not in ("", "USD"):
        raise ValueError(f"{money.currency_code} is no currency of this service; allowed: USD")
    return plain(_EXACT.divide(Decimal(money.units * _NANOS + money.nanos), Decimal(_NANOS)))


def from_decimal(amount: Decimal | str | int) -> Money:
    """An amount in US dollars for a request: `from_decimal("0.36")`.

    Raises:
        TypeError: for a float, which can't hold most amounts.
        ValueError: for what is no number, is finer than a nano-dollar or beyond 64 bits; nothing is rounded.
    """
    if isinstance(amount, float):
        raise TypeError(f"{amount!r} is a float: give a Decimal, an int or a text such as '0.36'")
    try:
        nanos = int(_EXACT.to_integral_exact(_EXACT.multiply(Decimal(amount), Decimal(_NANOS))))
    except (ArithmeticError, ValueError, OverflowError):
        raise ValueError(f"{amount!r} is no amount: a number with at most 9 digits after the point is") from None
    units, rest = divmod(abs(nanos), _NANOS)
    if units >= 2**63:
        raise ValueError(f"{amount!r} is beyond 64 bits of whole dollars")
    sign = -1 if nanos < 0 else 1
    return Money(currency_code="USD", units=sign * units, nanos=sign * rest)


def plain(amount: Decimal) -> Decimal:
    """The same amount without zeros at its end and without an exponent: `str` of it is what a person writes."""
    normal = _EXACT.normalize(amount)
    exponent = normal.as_tuple().exponent
    return _EXACT.quantize(normal, Decimal(1)) if isinstance(exponent, int) and exponent > 0 else normal


def text(amount: Decimal) -> str:
    """Plain digits: `0.000000001`, never `1E-9`."""
    return f"{plain(amount):f}"


def total(amounts: Iterable[Money]) -> Decimal:
    """The exact sum of amounts."""
    result = Decimal(0)
    for amount in amounts:
        result = _EXACT.add(result, to_decimal(amount))
    return plain(result)
