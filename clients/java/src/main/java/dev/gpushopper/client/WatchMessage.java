package dev.gpushopper.client;

import dev.gpushopper.v1.Session;
import dev.gpushopper.v1.SessionEvent;
import dev.gpushopper.v1.SnapshotEnd;
import java.util.List;

/** What a watch tells. */
public sealed interface WatchMessage {
    /** The token after which a later watch goes on; empty after a reset. */
    String resumeToken();

    /** All sessions at the beginning; it is told once, when it is complete. */
    record Snapshot(List<Session> sessions, SnapshotEnd end, String resumeToken) implements WatchMessage {}

    /** Something happened. Each event comes once, in order. */
    record Event(SessionEvent event, String resumeToken) implements WatchMessage {}

    /** Nothing happened for a while; everything up to this revision has been told. */
    record Bookmark(long revision, String resumeToken) implements WatchMessage {}

    /**
     * The server no longer keeps what came after the last token (the reason is {@code WATCH_COMPACTED} or {@code WATCH_STORE_REPLACED}):
     * a fresh snapshot follows, and what happened between may be missing.
     */
    record Reset(String reason, String resumeToken) implements WatchMessage {}
}
