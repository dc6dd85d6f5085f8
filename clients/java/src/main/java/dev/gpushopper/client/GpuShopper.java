package dev.gpushopper.client;

import com.google.protobuf.Duration;
import com.google.protobuf.Timestamp;
import dev.gpushopper.v1.GetSessionRequest;
import dev.gpushopper.v1.ListOffersRequest;
import dev.gpushopper.v1.ListOffersResponse;
import dev.gpushopper.v1.ListSessionEventsRequest;
import dev.gpushopper.v1.ListSessionEventsResponse;
import dev.gpushopper.v1.ListSessionsRequest;
import dev.gpushopper.v1.ListSessionsResponse;
import dev.gpushopper.v1.Offer;
import dev.gpushopper.v1.Session;
import dev.gpushopper.v1.SessionEvent;
import dev.gpushopper.v1.SessionFilter;
import dev.gpushopper.v1.SessionServiceGrpc;
import dev.gpushopper.v1.WaitSessionRequest;
import dev.gpushopper.v1.WaitSessionResponse;
import dev.gpushopper.v1.WatchSessionRequest;
import dev.gpushopper.v1.WatchSessionResponse;
import dev.gpushopper.v1.WatchSessionsRequest;
import dev.gpushopper.v1.WatchSessionsResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * Rents and follows machines. One instance holds one connection, which is made again when it is lost; it may be used by many threads.
 *
 * <pre>{@code
 * try (GpuShopper client = GpuShopper.connect("http://127.0.0.1:8080")) {
 *     Session session = client.waitForRunning(id);
 * }
 * }</pre>
 */
public final class GpuShopper implements AutoCloseable {
    private static final int LARGEST_ANSWER = 64 << 20;
    private static final int LARGEST_PAGE = 1000;
    private static final java.time.Duration WAIT = java.time.Duration.ofMinutes(30);
    /** A century. What is longer than that is no limit, and too much for a clock of nanoseconds. */
    private static final java.time.Duration LONGEST = java.time.Duration.ofDays(36_525);
    private static final java.time.Duration LONG_POLL = java.time.Duration.ofSeconds(30);

    private final Calls calls;

    private GpuShopper(ManagedChannel channel, Patience patience) {
        this.calls = new Calls(channel, patience);
    }

    /** A client of the server that {@code GPU_SHOPPER_URL} names, else of {@code http://127.0.0.1:8080}. Connects with the first call. */
    public static GpuShopper connect() {
        return builder().build();
    }

    /** A client of the server at {@code http://host:port}, {@code https://host:port} or {@code host:port}. Connects with the first call. */
    public static GpuShopper connect(String url) {
        return builder(url).build();
    }

    /** A client of the server that {@code GPU_SHOPPER_URL} names, with a token, certificates or other patience. */
    public static Builder builder() {
        return new Builder("");
    }

    /** A client with a token, certificates or other patience. An empty URL is {@code GPU_SHOPPER_URL}. */
    public static Builder builder(String url) {
        return new Builder(url);
    }

    /** A client over a channel of the caller's own making, with whatever credentials and interceptors that has. {@link #close} closes it. */
    public static GpuShopper over(ManagedChannel channel, Patience patience) {
        return new GpuShopper(channel, patience);
    }

    /** What can be rented. */
    public Inventory inventory() {
        return new Inventory(calls);
    }

    /** Sessions. */
    public Sessions sessions() {
        return new Sessions(calls);
    }

    /** What they cost. */
    public Costs costs() {
        return new Costs(calls);
    }

    /** What an operator looks at and orders. */
    public Operators operators() {
        return new Operators(calls);
    }

    /** The channel, for the plain generated stubs: {@code SessionServiceGrpc.newFutureStub(client.channel())}. */
    public Channel channel() {
        return calls.channel;
    }

    /** All offers that match, page after page, best first. */
    public Pages<Offer> offers(ListOffersRequest request) {
        int size = request.getPageSize() == 0 ? LARGEST_PAGE : request.getPageSize();
        return Pages.of(
                token -> inventory().listOffers(request.toBuilder().setPageSize(size).setPageToken(token).build()),
                ListOffersResponse::getOffersList,
                ListOffersResponse::getNextPageToken);
    }

    /** All sessions that match, page after page, newest first. */
    public Pages<Session> listSessions(ListSessionsRequest request) {
        int size = request.getPageSize() == 0 ? LARGEST_PAGE : request.getPageSize();
        return Pages.of(
                token -> sessions().listSessions(request.toBuilder().setPageSize(size).setPageToken(token).build()),
                ListSessionsResponse::getSessionsList,
                ListSessionsResponse::getNextPageToken);
    }

    /** Everything that happened to a session, page after page, oldest first. */
    public Pages<SessionEvent> events(String sessionId) {
        return events(sessionId, LARGEST_PAGE);
    }

    /** Everything that happened to a session, in pages of this size, oldest first. */
    public Pages<SessionEvent> events(String sessionId, int pageSize) {
        ListSessionEventsRequest request = ListSessionEventsRequest.newBuilder().setSessionId(sessionId).setPageSize(pageSize).build();
        return Pages.of(
                token -> sessions().listSessionEvents(request.toBuilder().setPageToken(token).build()),
                ListSessionEventsResponse::getEventsList,
                ListSessionEventsResponse::getNextPageToken);
    }

    /** Follows one session until it has ended: every event once and in order, across lost connections and restarts of the server. */
    public Watch watch(String sessionId) {
        return watch(sessionId, WatchOptions.DEFAULT);
    }

    /** Follows one session until it has ended. */
    public Watch watch(String sessionId, WatchOptions options) {
        Duration bookmark = wire(options.bookmark());
        return new Watch(calls, new Watch.Subject<>(
                SessionServiceGrpc.getWatchSessionMethod(),
                token -> {
                    WatchSessionRequest.Builder request = WatchSessionRequest.newBuilder().setSessionId(sessionId).setBookmarkInterval(bookmark);
                    return token.isEmpty() ? request.build() : request.setResumeToken(token).build();
                },
                (WatchSessionResponse heard) -> new Watch.Heard(
                        heard.hasSnapshot() ? heard.getSnapshot() : null,
                        heard.hasSnapshotEnd() ? heard.getSnapshotEnd() : null,
                        heard.hasEvent() ? heard.getEvent() : null,
                        heard.hasBookmark() ? heard.getBookmark() : null,
                        heard.getResumeToken()),
                () -> Ledger.isOver(sessions().getSession(GetSessionRequest.newBuilder().setSessionId(sessionId).build()).getSession().getState()),
                true), options);
    }

    /** Follows all sessions that match. Ends only by {@link Watch#close}. */
    public Watch watchAll(SessionFilter filter) {
        return watchAll(filter, WatchOptions.DEFAULT);
    }

    /** Follows all sessions that match. Ends only by {@link Watch#close}. */
    public Watch watchAll(SessionFilter filter, WatchOptions options) {
        Duration bookmark = wire(options.bookmark());
        boolean whole = !filter.hasProvider() && filter.getStatesCount() == 0 && filter.getLabelsCount() == 0;
        return new Watch(calls, new Watch.Subject<>(
                SessionServiceGrpc.getWatchSessionsMethod(),
                token -> {
                    WatchSessionsRequest.Builder request = WatchSessionsRequest.newBuilder().setFilter(filter).setBookmarkInterval(bookmark);
                    if (!token.isEmpty()) {
                        request.setResumeToken(token);
                    } else if (options.endedSince() != null && !options.fromNow()) {
                        request.setEndedSince(wire(options.endedSince()));
                    }
                    return request.build();
                },
                (WatchSessionsResponse heard) -> new Watch.Heard(
                        heard.hasSnapshot() ? heard.getSnapshot() : null,
                        heard.hasSnapshotEnd() ? heard.getSnapshotEnd() : null,
                        heard.hasEvent() ? heard.getEvent() : null,
                        heard.hasBookmark() ? heard.getBookmark() : null,
                        heard.getResumeToken()),
                null,
                whole), options);
    }

    /**
     * Waits until a session is RUNNING: verified and ready for login. Half an hour at most.
     *
     * @throws SessionEndedException when it ends instead
     */
    public Session waitForRunning(String sessionId) {
        return waitForRunning(sessionId, WAIT);
    }

    /**
     * Waits until a session is RUNNING, at most this long; {@code ChronoUnit.FOREVER.getDuration()} is no limit.
     *
     * @throws SessionEndedException when it ends instead
     */
    public Session waitForRunning(String sessionId, java.time.Duration timeout) {
        Session session = waitFor(sessionId, List.of(Session.State.STATE_RUNNING, Session.State.STATE_STOPPING), timeout);
        if (session.getState() != Session.State.STATE_RUNNING) {
            throw new SessionEndedException(session);
        }
        return session;
    }

    /** Waits until a session is STOPPED or FAILED: every machine of it is proven gone. Half an hour at most. */
    public Session waitForEnd(String sessionId) {
        return waitForEnd(sessionId, WAIT);
    }

    /** Waits until a session is STOPPED or FAILED, at most this long; {@code ChronoUnit.FOREVER.getDuration()} is no limit. */
    public Session waitForEnd(String sessionId, java.time.Duration timeout) {
        return waitFor(sessionId, List.of(Session.State.STATE_STOPPED, Session.State.STATE_FAILED), timeout);
    }

    private Session waitFor(String sessionId, List<Session.State> until, java.time.Duration timeout) {
        long end = System.nanoTime() + (timeout.compareTo(LONGEST) < 0 ? timeout : LONGEST).toNanos();
        while (true) {
            java.time.Duration left = java.time.Duration.ofNanos(Math.max(0, end - System.nanoTime()));
            java.time.Duration poll = left.compareTo(LONG_POLL) < 0 ? left : LONG_POLL;
            WaitSessionRequest request = WaitSessionRequest.newBuilder().setSessionId(sessionId).addAllUntil(until).setTimeout(wire(poll)).build();
            Patience patience = calls.patience.within(left.plus(calls.patience.oneTry()), LONG_POLL.plus(calls.patience.oneTry()));
            WaitSessionResponse answer = calls.unary(SessionServiceGrpc.getWaitSessionMethod(), request, patience);
            // Nothing follows the final states, whatever was waited for.
            if (answer.getReached() || Ledger.isOver(answer.getSession().getState())) {
                return answer.getSession();
            }
            if (left.isZero()) {
                throw new GpuShopperException(
                        Status.Code.DEADLINE_EXCEEDED,
                        "",
                        "session " + sessionId + " is not there after " + timeout.toSeconds() + " s: it is " + answer.getSession().getState());
            }
        }
    }

    /** Ends the connection, and every call and watch on it. */
    @Override
    public void close() {
        calls.channel.shutdownNow();
        try {
            calls.channel.awaitTermination(5, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static Duration wire(java.time.Duration duration) {
        return Duration.newBuilder().setSeconds(duration.getSeconds()).setNanos(duration.getNano()).build();
    }

    private static Timestamp wire(Instant time) {
        return Timestamp.newBuilder().setSeconds(time.getEpochSecond()).setNanos(time.getNano()).build();
    }

    /** How to connect. What is not given comes from the environment, with the names that the command line knows. */
    public static final class Builder {
        private final String url;
        private Map<String, String> environment = System.getenv();
        private String token;
        private Path ca;
        private Path certificate;
        private Path key;
        private Patience patience = Patience.DEFAULT;

        private Builder(String url) {
            this.url = Objects.requireNonNull(url);
        }

        /**
         * Sent with each call as {@code authorization: Bearer …}; an empty one is none. Default: {@code GPU_SHOPPER_TOKEN}, else what the file
         * {@code GPU_SHOPPER_TOKEN_FILE} holds, else none.
         */
        public Builder token(String token) {
            this.token = token;
            return this;
        }

        /** A PEM file with the certificates of the only authorities to trust with {@code https}. Default: {@code GPU_SHOPPER_CA_CERT}, else Java's. */
        public Builder ca(Path pem) {
            this.ca = pem;
            return this;
        }

        /**
         * PEM files with the certificate and private key of the client itself, for servers that ask for them. Default: {@code GPU_SHOPPER_CLIENT_CERT} and
         * {@code GPU_SHOPPER_CLIENT_KEY}, else none.
         */
        public Builder identity(Path certificate, Path key) {
            this.certificate = certificate;
            this.key = key;
            return this;
        }

        /** How long calls are repeated while the server is away. */
        public Builder patience(Patience patience) {
            this.patience = patience;
            return this;
        }

        /** Another environment, for tests. */
        Builder environment(Map<String, String> environment) {
            this.environment = environment;
            return this;
        }

        /**
         * The client.
         *
         * @throws IllegalArgumentException when the address, the token or the environment makes no sense
         * @throws UncheckedIOException when a file can't be read
         */
        public GpuShopper build() {
            Address address = Address.parse(url.isEmpty() ? fromEnvironment("GPU_SHOPPER_URL").orElse("http://127.0.0.1:8080") : url);
            ManagedChannelBuilder<?> channel;
            try {
                channel = Grpc.newChannelBuilderForAddress(address.host(), address.port(), credentials(address.https()))
                        .intercept(bearer(token()));
            } catch (IOException unreadable) {
                throw new UncheckedIOException("a token or certificate can't be read: " + unreadable.getMessage(), unreadable);
            }
            return new GpuShopper(
                    channel.userAgent("gpu-shopper-client-java")
                            .maxInboundMessageSize(LARGEST_ANSWER)
                            .keepAliveTime(20, TimeUnit.SECONDS)
                            .keepAliveTimeout(10, TimeUnit.SECONDS)
                            .build(),
                    patience);
        }

        private Optional<String> fromEnvironment(String name) {
            return Optional.ofNullable(environment.get(name)).filter(value -> !value.isEmpty());
        }

        private ChannelCredentials tls(Path ownCertificate, Path ownKey) throws IOException {
            TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
            Path trusted = ca != null ? ca : fromEnvironment("GPU_SHOPPER_CA_CERT").map(Path::of).orElse(null);
            if (trusted != null) {
                tls.trustManager(trusted.toFile());
            }
            if (ownCertificate != null) {
                tls.keyManager(ownCertificate.toFile(), ownKey.toFile());
            }
            return tls.build();
        }

        private ChannelCredentials credentials(boolean https) throws IOException {
            Path ownCertificate = certificate;
            Path ownKey = key;
            if (ownCertificate == null) {
                ownCertificate = fromEnvironment("GPU_SHOPPER_CLIENT_CERT").map(Path::of).orElse(null);
                ownKey = fromEnvironment("GPU_SHOPPER_CLIENT_KEY").map(Path::of).orElse(null);
            }
            if ((ownCertificate == null) != (ownKey == null)) {
                throw new IllegalArgumentException("GPU_SHOPPER_CLIENT_CERT and GPU_SHOPPER_CLIENT_KEY go together: set both, or none");
            }
            return https ? tls(ownCertificate, ownKey) : InsecureChannelCredentials.create();
        }

        private String token() throws IOException {
            String told = token != null ? token : fromEnvironment("GPU_SHOPPER_TOKEN").orElse("");
            if (token == null && told.isEmpty()) {
                Optional<String> file = fromEnvironment("GPU_SHOPPER_TOKEN_FILE");
                told = file.isPresent() ? Files.readString(Path.of(file.get())).strip() : "";
            }
            if (!told.chars().allMatch(c -> c > ' ' && c < 0x7f)) {
                throw new IllegalArgumentException("the token has characters that no header can carry; allowed: visible ASCII");
            }
            return told;
        }

        private static ClientInterceptor bearer(String token) {
            Metadata.Key<String> key = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
            return new ClientInterceptor() {
                @Override
                public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
                    return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
                        @Override
                        public void start(Listener<A> listener, Metadata headers) {
                            if (!token.isEmpty()) {
                                headers.put(key, "Bearer " + token);
                            }
                            super.start(listener, headers);
                        }
                    };
                }
            };
        }
    }
}
