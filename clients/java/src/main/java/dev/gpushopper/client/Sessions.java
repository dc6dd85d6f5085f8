package dev.gpushopper.client;

import dev.gpushopper.v1.CompleteSessionRequest;
import dev.gpushopper.v1.CompleteSessionResponse;
import dev.gpushopper.v1.CreateSessionRequest;
import dev.gpushopper.v1.CreateSessionResponse;
import dev.gpushopper.v1.DestroySessionRequest;
import dev.gpushopper.v1.DestroySessionResponse;
import dev.gpushopper.v1.ExtendSessionRequest;
import dev.gpushopper.v1.ExtendSessionResponse;
import dev.gpushopper.v1.GetSessionDiagnosticsRequest;
import dev.gpushopper.v1.GetSessionDiagnosticsResponse;
import dev.gpushopper.v1.GetSessionRequest;
import dev.gpushopper.v1.GetSessionResponse;
import dev.gpushopper.v1.KeepAliveRequest;
import dev.gpushopper.v1.KeepAliveResponse;
import dev.gpushopper.v1.ListSessionEventsRequest;
import dev.gpushopper.v1.ListSessionEventsResponse;
import dev.gpushopper.v1.ListSessionsRequest;
import dev.gpushopper.v1.ListSessionsResponse;
import dev.gpushopper.v1.RotateSessionKeyRequest;
import dev.gpushopper.v1.RotateSessionKeyResponse;
import dev.gpushopper.v1.SessionServiceGrpc;
import dev.gpushopper.v1.UpdateSessionRequest;
import dev.gpushopper.v1.UpdateSessionResponse;
import dev.gpushopper.v1.WaitSessionRequest;
import dev.gpushopper.v1.WaitSessionResponse;
import java.time.Duration;

/** Sessions: create, look, change, end. Changes get a {@code request_id} when they have none, and are repeated with it while the server is away. Every method throws a {@link GpuShopperException}; the contract names the reasons. */
public final class Sessions {
    private final Calls calls;

    Sessions(Calls calls) {
        this.calls = calls;
    }

    /** Creates a session and answers as soon as it is durable; renting goes on in the background and is told by states and events, never by this call's error. */
    public CreateSessionResponse createSession(CreateSessionRequest request) {
        return calls.unary(SessionServiceGrpc.getCreateSessionMethod(), request);
    }

    /** One session as it is now. */
    public GetSessionResponse getSession(GetSessionRequest request) {
        return calls.unary(SessionServiceGrpc.getGetSessionMethod(), request);
    }

    /** Lists sessions, newest first. */
    public ListSessionsResponse listSessions(ListSessionsRequest request) {
        return calls.unary(SessionServiceGrpc.getListSessionsMethod(), request);
    }

    /** Waits until a session is in one of some states, or time is up, which is no error. See {@link GpuShopper#waitForRunning}. */
    public WaitSessionResponse waitSession(WaitSessionRequest request) {
        return calls.unary(SessionServiceGrpc.getWaitSessionMethod(), request, calls.patience.within(longest(request), longest(request)));
    }

    /** Lists what happened to a session, oldest first. */
    public ListSessionEventsResponse listSessionEvents(ListSessionEventsRequest request) {
        return calls.unary(SessionServiceGrpc.getListSessionEventsMethod(), request);
    }

    /** Moves a session's expiry. */
    public ExtendSessionResponse extendSession(ExtendSessionRequest request) {
        return calls.unary(SessionServiceGrpc.getExtendSessionMethod(), request);
    }

    /** Changes a session's labels or its idle threshold. */
    public UpdateSessionResponse updateSession(UpdateSessionRequest request) {
        return calls.unary(SessionServiceGrpc.getUpdateSessionMethod(), request);
    }

    /** Puts another key of the consumer on a running session's machine and takes the one before off. */
    public RotateSessionKeyResponse rotateSessionKey(RotateSessionKeyRequest request) {
        return calls.unary(SessionServiceGrpc.getRotateSessionKeyMethod(), request);
    }

    /** Says that a session's machine is in use: idleness is counted anew. */
    public KeepAliveResponse keepAlive(KeepAliveRequest request) {
        return calls.unary(SessionServiceGrpc.getKeepAliveMethod(), request);
    }

    /** Done: ends a session. */
    public CompleteSessionResponse completeSession(CompleteSessionRequest request) {
        return calls.unary(SessionServiceGrpc.getCompleteSessionMethod(), request);
    }

    /** Ends a session at once, from any state. */
    public DestroySessionResponse destroySession(DestroySessionRequest request) {
        return calls.unary(SessionServiceGrpc.getDestroySessionMethod(), request);
    }

    /** What is known about a session's machines and clocks; when STATE_RUNNING with a fresh look at its GPUs. */
    public GetSessionDiagnosticsResponse getSessionDiagnostics(GetSessionDiagnosticsRequest request) {
        return calls.unary(SessionServiceGrpc.getGetSessionDiagnosticsMethod(), request);
    }

    private Duration longest(WaitSessionRequest request) {
        return Duration.ofSeconds(request.hasTimeout() ? request.getTimeout().getSeconds() + 1 : 30).plus(calls.patience.oneTry());
    }
}
