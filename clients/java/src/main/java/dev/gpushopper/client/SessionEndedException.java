package dev.gpushopper.client;

import dev.gpushopper.v1.Session;
import io.grpc.Status;

/** A session that was waited for has ended, or is ending, and will not be RUNNING. */
public final class SessionEndedException extends GpuShopperException {
    private static final long serialVersionUID = 1L;

    private final Session session;

    SessionEndedException(Session session) {
        super(
                Status.Code.FAILED_PRECONDITION,
                "SESSION_ENDED",
                "session " + session.getSessionId() + " has ended: " + session.getEndReason() + ": "
                        + (session.getError().isEmpty() ? session.getStatusMessage() : session.getError()));
        this.session = session;
    }

    /** The session as it is. */
    public Session session() {
        return session;
    }
}
