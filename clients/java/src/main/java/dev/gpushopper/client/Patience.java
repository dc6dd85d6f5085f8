package dev.gpushopper.client;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/**
 * How long to wait between tries, and how long to go on.
 *
 * @param timeout a whole call with all its tries
 * @param oneTry one try
 * @param firstWait about the first wait; it doubles from try to try
 * @param longestWait the longest wait of our own; what the server asks for is waited in full
 */
public record Patience(Duration timeout, Duration oneTry, Duration firstWait, Duration longestWait) {
    /** One minute in all, 20 seconds for a try, waits from 200 milliseconds to 10 seconds. */
    public static final Patience DEFAULT =
            new Patience(Duration.ofSeconds(60), Duration.ofSeconds(20), Duration.ofMillis(200), Duration.ofSeconds(10));

    /** The wait before the next try: doubled from try to try, half of it by chance, and not less than the server asks for. */
    Duration waitBefore(int tries, Duration asked) {
        long most = Math.min(longestWait.toMillis(), firstWait.toMillis() << Math.min(tries, 20));
        Duration own = Duration.ofMillis(most / 2 + ThreadLocalRandom.current().nextLong(most / 2 + 1));
        return asked != null && asked.compareTo(own) > 0 ? asked : own;
    }

    Patience within(Duration timeout, Duration oneTry) {
        return new Patience(timeout, oneTry, firstWait, longestWait);
    }
}
