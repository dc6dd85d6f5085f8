package dev.gpushopper.client;

import com.google.type.Money;
import java.math.BigDecimal;
import java.math.BigInteger;

/** US dollars between the wire's {@link Money} and {@link BigDecimal}, exact to the nano-dollar. */
public final class Usd {
    private static final BigInteger NANOS = BigInteger.valueOf(1_000_000_000);

    private Usd() {}

    /**
     * What the server sent, without zeros at the end of the fraction; the default instance is zero.
     *
     * @throws IllegalArgumentException when it is in another currency
     */
    public static BigDecimal decimal(Money money) {
        if (!money.getCurrencyCode().isEmpty() && !money.getCurrencyCode().equals("USD")) {
            throw new IllegalArgumentException(money.getCurrencyCode() + " is no currency of this service; allowed: USD");
        }
        BigDecimal exact = BigDecimal.valueOf(money.getUnits()).add(BigDecimal.valueOf(money.getNanos(), 9)).stripTrailingZeros();
        return exact.scale() < 0 ? exact.setScale(0) : exact;
    }

    /**
     * What the wire takes. Nothing is rounded.
     *
     * @throws IllegalArgumentException when it has more than nine decimals, or is more than the wire can hold
     */
    public static Money money(BigDecimal dollars) {
        try {
            BigInteger[] parts = dollars.setScale(9).unscaledValue().divideAndRemainder(NANOS);
            return Money.newBuilder().setCurrencyCode("USD").setUnits(parts[0].longValueExact()).setNanos(parts[1].intValueExact()).build();
        } catch (ArithmeticException inexact) {
            throw new IllegalArgumentException(
                    dollars.toPlainString() + " dollars can't be sent; allowed: at most nine decimals, and less than 2^63", inexact);
        }
    }

    /**
     * What the wire takes, from a decimal number such as {@code 0.36}.
     *
     * @throws IllegalArgumentException as {@link #money(BigDecimal)}, and when it is no number
     */
    public static Money money(String dollars) {
        BigDecimal read;
        try {
            read = new BigDecimal(dollars);
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException("\"" + dollars + "\" is no amount; allowed: US dollars as a decimal number, such as 0.36", e);
        }
        return money(read);
    }
}
