// US dollars, exact to the nano-dollar. JavaScript has no decimal type, and a number can't hold 0.1: so a bigint of nano-dollars.
import { create } from "@bufbuild/protobuf";
import { type Money, MoneySchema } from "./gen/google/type/money_pb.js";

const NANOS = 1_000_000_000n;
const MOST_UNITS = 2n ** 63n;

/**
 * An exact amount of US dollars, or a price in US dollars per hour.
 *
 * ```ts
 * const limit = Usd.parse("0.40");
 * Usd.from(offer.price?.totalPerHour).compare(limit) <= 0;
 * ```
 */
export class Usd {
  static readonly zero = new Usd(0n);

  /** The amount in nano-dollars (10⁻⁹ dollars). */
  constructor(readonly nanos: bigint) {}

  /** Reads a decimal number: `0.36`, `-1.75`, `$12`. Throws a RangeError when it is none or finer than nano-dollars: nothing is rounded. */
  static parse(text: string): Usd {
    const parts = /^(-?)\$?(\d+)(?:\.(\d{1,9}))?$/.exec(text.trim());
    if (!parts) throw new RangeError(`"${text}" is no amount; allowed: US dollars as a decimal number with at most nine decimals, such as 0.36`);
    const [, sign, units = "0", fraction = ""] = parts;
    const nanos = BigInt(units) * NANOS + BigInt(fraction.padEnd(9, "0"));
    return new Usd(sign ? -nanos : nanos);
  }

  /** Reads what the server sent; an absent amount is zero. Throws a RangeError for other currencies. */
  static from(money: Money | undefined): Usd {
    if (!money) return Usd.zero;
    if (money.currencyCode !== "" && money.currencyCode !== "USD") throw new RangeError(`${money.currencyCode} is no currency of this service; allowed: USD`);
    return new Usd(money.units * NANOS + BigInt(money.nanos));
  }

  /** What the wire takes. Throws a RangeError beyond 2⁶³ dollars. */
  toMoney(): Money {
    const units = this.nanos / NANOS;
    if (units >= MOST_UNITS || units < -MOST_UNITS) throw new RangeError(`${this.toString()} dollars are more than the wire can hold`);
    return create(MoneySchema, { currencyCode: "USD", units, nanos: Number(this.nanos % NANOS) });
  }

  plus(other: Usd): Usd {
    return new Usd(this.nanos + other.nanos);
  }

  minus(other: Usd): Usd {
    return new Usd(this.nanos - other.nanos);
  }

  /** A whole number of times this amount. */
  times(count: bigint | number): Usd {
    return new Usd(this.nanos * BigInt(count));
  }

  /** Negative when this is less than `other`, 0 when equal, positive when more: for `sort`, too. */
  compare(other: Usd): -1 | 0 | 1 {
    return this.nanos < other.nanos ? -1 : this.nanos > other.nanos ? 1 : 0;
  }

  equals(other: Usd): boolean {
    return this.nanos === other.nanos;
  }

  /** Plain digits, as few as say it exactly: `0.36`, `12`, `-1.75`. */
  toString(): string {
    const size = this.nanos < 0n ? -this.nanos : this.nanos;
    const fraction = (size % NANOS).toString().padStart(9, "0").replace(/0+$/, "");
    return `${this.nanos < 0n ? "-" : ""}${size / NANOS}${fraction && `.${fraction}`}`;
  }

  toJSON(): string {
    return this.toString();
  }
}
