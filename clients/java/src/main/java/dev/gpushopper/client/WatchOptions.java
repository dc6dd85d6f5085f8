package dev.gpushopper.client;

import java.time.Duration;
import java.util.function.BiConsumer;

/**
 * Where and how to watch. Begin with {@link #DEFAULT} and change what is needed.
 *
 * @param resumeToken strictly after this token, of an earlier message or a create answer; empty is none
 * @param fromNow leave the snapshot out: begin with what happens next
 * @param bookmark a bookmark after this much silence, 5 to 60 seconds; twice as much silence is a lost connection
 * @param giveUp how long the server may be away before the watch gives up; null is forever
 * @param onLost is told of each lost connection and how long the wait before the next try is
 */
public record WatchOptions(
        String resumeToken, boolean fromNow, Duration bookmark, Duration giveUp, BiConsumer<GpuShopperException, Duration> onLost) {
    /** With a snapshot, a bookmark after 15 seconds, and never giving up. */
    public static final WatchOptions DEFAULT = new WatchOptions("", false, Duration.ofSeconds(15), null, (error, wait) -> {});

    /** The same, strictly after a token. */
    public WatchOptions after(String token) {
        return new WatchOptions(token, fromNow, bookmark, giveUp, onLost);
    }

    /** The same, beginning with what happens next. */
    public WatchOptions withoutSnapshot() {
        return new WatchOptions(resumeToken, true, bookmark, giveUp, onLost);
    }

    /** The same, with a bookmark after this much silence, 5 to 60 seconds. */
    public WatchOptions withBookmarks(Duration silence) {
        return new WatchOptions(resumeToken, fromNow, silence, giveUp, onLost);
    }

    /** The same, giving up when the server is away for so long. */
    public WatchOptions givingUpAfter(Duration away) {
        return new WatchOptions(resumeToken, fromNow, bookmark, away, onLost);
    }

    /** The same, telling of lost connections. */
    public WatchOptions tellingLosses(BiConsumer<GpuShopperException, Duration> onLost) {
        return new WatchOptions(resumeToken, fromNow, bookmark, giveUp, onLost);
    }
}
