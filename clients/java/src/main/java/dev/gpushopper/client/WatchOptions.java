package dev.gpushopper.client;

import java.time.Duration;
import java.time.Instant;
import java.util.function.BiConsumer;

/**
 * Where and how to watch. Begin with {@link #DEFAULT} and change what is needed.
 *
 * @param resumeToken strictly after this token, of an earlier message or a create answer; empty is none. It goes before the next two
 * @param fromNow begin with what happens next, and tell no snapshot
 * @param endedSince the snapshot of many sessions has those, too, that ended since then; null is open ones only
 * @param bookmark a bookmark after this much silence, 5 to 60 seconds; twice as much silence, and 5 seconds more, is a lost connection
 * @param giveUp how long the server may be away before the watch gives up; null is forever
 * @param onLost is told why each further stream is opened, and how long the wait before it is
 */
public record WatchOptions(
        String resumeToken,
        boolean fromNow,
        Instant endedSince,
        Duration bookmark,
        Duration giveUp,
        BiConsumer<GpuShopperException, Duration> onLost) {
    /** With a snapshot of open sessions, a bookmark after 15 seconds, and never giving up. */
    public static final WatchOptions DEFAULT = new WatchOptions("", false, null, Duration.ofSeconds(15), null, (error, wait) -> {});

    /** The same, strictly after a token. */
    public WatchOptions after(String token) {
        return new WatchOptions(token, fromNow, endedSince, bookmark, giveUp, onLost);
    }

    /** The same, beginning with what happens next. */
    public WatchOptions withoutSnapshot() {
        return new WatchOptions(resumeToken, true, endedSince, bookmark, giveUp, onLost);
    }

    /** The same, with a snapshot that has those sessions, too, that ended since then. For the watch of many. */
    public WatchOptions withEndedSince(Instant time) {
        return new WatchOptions(resumeToken, fromNow, time, bookmark, giveUp, onLost);
    }

    /** The same, with a bookmark after this much silence, 5 to 60 seconds. */
    public WatchOptions withBookmarks(Duration silence) {
        return new WatchOptions(resumeToken, fromNow, endedSince, silence, giveUp, onLost);
    }

    /** The same, giving up when the server is away for so long. */
    public WatchOptions givingUpAfter(Duration away) {
        return new WatchOptions(resumeToken, fromNow, endedSince, bookmark, away, onLost);
    }

    /** The same, telling why each further stream is opened, and how long the wait before it is. */
    public WatchOptions tellingLosses(BiConsumer<GpuShopperException, Duration> onLost) {
        return new WatchOptions(resumeToken, fromNow, endedSince, bookmark, giveUp, onLost);
    }
}
