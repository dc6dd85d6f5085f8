package dev.gpushopper.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.Descriptors.MethodDescriptor;
import com.google.protobuf.Descriptors.ServiceDescriptor;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.type.Money;
import dev.gpushopper.v1.CostServiceOuterClass;
import dev.gpushopper.v1.CreateSessionRequest;
import dev.gpushopper.v1.CreateSessionResponse;
import dev.gpushopper.v1.DrainSessionsRequest;
import dev.gpushopper.v1.DrainSessionsResponse;
import dev.gpushopper.v1.EndReason;
import dev.gpushopper.v1.GetSessionRequest;
import dev.gpushopper.v1.GetSessionResponse;
import dev.gpushopper.v1.InventoryServiceOuterClass;
import dev.gpushopper.v1.OperatorServiceGrpc;
import dev.gpushopper.v1.OperatorServiceOuterClass;
import dev.gpushopper.v1.Session;
import dev.gpushopper.v1.SessionEvent;
import dev.gpushopper.v1.SessionFilter;
import dev.gpushopper.v1.SessionServiceGrpc;
import dev.gpushopper.v1.SessionServiceOuterClass;
import dev.gpushopper.v1.SnapshotEnd;
import dev.gpushopper.v1.WaitSessionRequest;
import dev.gpushopper.v1.WaitSessionResponse;
import dev.gpushopper.v1.WatchSessionRequest;
import dev.gpushopper.v1.WatchSessionResponse;
import dev.gpushopper.v1.WatchSessionsRequest;
import dev.gpushopper.v1.WatchSessionsResponse;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.TlsServerCredentials;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The layer against a server in memory that does what the real one does only on bad days. */
class LayerTest {
    private static final Patience QUICK = new Patience(Duration.ofSeconds(60), Duration.ofSeconds(20), Duration.ofMillis(2), Duration.ofMillis(4));

    private final List<AutoCloseable> open = new ArrayList<>();

    /** In a script: nothing more is said, and nothing ends. */
    private static final String SILENCE = "silence";

    /** One answer after the other: messages, and a status at the end of each. */
    private static final class Fake extends SessionServiceGrpc.SessionServiceImplBase {
        final ArrayDeque<List<Object>> scripts = new ArrayDeque<>();
        final List<String> asked = Collections.synchronizedList(new ArrayList<>());

        Fake(List<List<Object>> scripts) {
            this.scripts.addAll(scripts);
        }

        @SuppressWarnings("unchecked")
        private <A> void play(StreamObserver<A> to) {
            List<Object> script = scripts.isEmpty() ? List.of(Status.UNIMPLEMENTED.withDescription("asked too often").asRuntimeException()) : scripts.poll();
            for (Object step : script) {
                if (step instanceof Throwable end) {
                    to.onError(end);
                    return;
                }
                if (step.equals(SILENCE)) {
                    return;
                }
                to.onNext((A) step);
            }
            to.onCompleted();
        }

        @Override
        public void watchSession(WatchSessionRequest request, StreamObserver<WatchSessionResponse> to) {
            asked.add(request.getResumeToken());
            play(to);
        }

        @Override
        public void watchSessions(WatchSessionsRequest request, StreamObserver<WatchSessionsResponse> to) {
            asked.add(request.hasEndedSince() ? "since " + request.getEndedSince().getSeconds() : request.getResumeToken());
            play(to);
        }

        @Override
        public void createSession(CreateSessionRequest request, StreamObserver<CreateSessionResponse> to) {
            asked.add(request.getRequestId());
            play(to);
        }

        @Override
        public void getSession(GetSessionRequest request, StreamObserver<GetSessionResponse> to) {
            asked.add(request.getSessionId());
            play(to);
        }

        @Override
        public void waitSession(WaitSessionRequest request, StreamObserver<WaitSessionResponse> to) {
            asked.add(request.getSessionId());
            play(to);
        }
    }

    @SafeVarargs
    private static Fake playing(List<Object>... scripts) {
        return new Fake(Arrays.asList(scripts));
    }

    private static List<Object> script(Object... steps) {
        return Arrays.asList(steps);
    }

    private GpuShopper client(Fake fake) throws Exception {
        String name = InProcessServerBuilder.generateName();
        OperatorServiceGrpc.OperatorServiceImplBase operator = new OperatorServiceGrpc.OperatorServiceImplBase() {
            @Override
            public void drainSessions(DrainSessionsRequest request, StreamObserver<DrainSessionsResponse> to) {
                fake.asked.add("drain");
                to.onError(lost());
            }
        };
        Server server = InProcessServerBuilder.forName(name).addService(fake).addService(operator).build().start();
        open.add(server::shutdownNow);
        GpuShopper client = GpuShopper.over(InProcessChannelBuilder.forName(name).build(), QUICK);
        open.add(client);
        return client;
    }

    @AfterEach
    void close() throws Exception {
        for (AutoCloseable one : open) {
            one.close();
        }
    }

    private static Throwable refuse(Status.Code code, String reason, long retryMillis) {
        com.google.rpc.Status.Builder status = com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage("no");
        status.addDetails(Any.pack(ErrorInfo.newBuilder().setReason(reason).setDomain("gpushopper").putMetadata("session_id", "s").build()));
        BadRequest.FieldViolation wrong = BadRequest.FieldViolation.newBuilder().setField("disk_gb").setDescription("too small").build();
        status.addDetails(Any.pack(BadRequest.newBuilder().addFieldViolations(wrong).build()));
        if (retryMillis > 0) {
            com.google.protobuf.Duration delay = com.google.protobuf.Duration.newBuilder().setNanos((int) (retryMillis * 1_000_000)).build();
            status.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()));
        }
        return StatusProto.toStatusRuntimeException(status.build());
    }

    private static Throwable lost() {
        return Status.UNKNOWN.withDescription("connection lost").asRuntimeException();
    }

    private static WatchSessionResponse snapshot() {
        Session session = Session.newBuilder().setSessionId("s").setSequence(1).setState(Session.State.STATE_RUNNING).build();
        return WatchSessionResponse.newBuilder().setSnapshot(session).build();
    }

    private static WatchSessionResponse snapshotEnd(long revision) {
        return WatchSessionResponse.newBuilder().setSnapshotEnd(SnapshotEnd.newBuilder().setRevision(revision)).setResumeToken("t" + revision).build();
    }

    private static WatchSessionResponse event(long revision, long sequence) {
        return event(revision, sequence, Session.State.STATE_RUNNING);
    }

    private static WatchSessionResponse last(long revision, long sequence) {
        return event(revision, sequence, Session.State.STATE_STOPPED);
    }

    private static WatchSessionResponse event(long revision, long sequence, Session.State state) {
        SessionEvent event = SessionEvent.newBuilder().setSessionId("s").setRevision(revision).setSequence(sequence).setToState(state).build();
        return WatchSessionResponse.newBuilder().setEvent(event).setResumeToken("t" + revision).build();
    }

    /** What a watch tells until it ends, in words. */
    private static List<String> all(Watch watch) {
        List<String> words = new ArrayList<>();
        for (WatchMessage message : watch) {
            if (message instanceof WatchMessage.Snapshot told) {
                words.add("snapshot " + told.sessions().size());
            } else if (message instanceof WatchMessage.Event told) {
                words.add("event " + told.event().getSequence());
            } else if (message instanceof WatchMessage.Reset told) {
                words.add(told.reason());
            }
        }
        return words;
    }

    private static WatchOptions after(String token) {
        return WatchOptions.DEFAULT.after(token);
    }

    @Test
    void aWatchGoesOnAfterItsLastTokenAndTellsEachEventOnce() throws Exception {
        Fake fake = playing(
                script(snapshot(), snapshotEnd(5), event(6, 2), lost()),
                script(event(6, 2), event(7, 3), event(7, 3), refuse(Status.Code.UNAVAILABLE, "SERVER_DRAINING", 20)),
                script(event(8, 4)),
                script(last(9, 5)));
        List<Duration> waits = new ArrayList<>();
        Watch watch = client(fake).watch("s", WatchOptions.DEFAULT.tellingLosses((error, wait) -> waits.add(wait)));
        assertEquals(List.of("snapshot 1", "event 2", "event 3", "event 4", "event 5"), all(watch));
        assertEquals(List.of("", "t6", "t7", "t8"), fake.asked);
        assertEquals(3, waits.size());
        assertTrue(waits.get(1).toMillis() >= 20, "the server's wish is honoured");
    }

    private static GetSessionResponse session(Session.State state) {
        return GetSessionResponse.newBuilder().setSession(Session.newBuilder().setSessionId("s").setState(state)).build();
    }

    @Test
    void oneSessionsWatchEndsAfterItsEndOnlyHoweverOftenItsStreamEndsEarly() throws Exception {
        Fake fake = playing(script(event(6, 2)), script(), script(session(Session.State.STATE_STOPPING)), script(snapshot()), script(last(7, 3)));
        assertEquals(List.of("event 2", "event 3"), all(client(fake).watch("s", after("t5"))));
        assertEquals(List.of("t5", "t6", "s", "t6", "t6"), fake.asked);
        assertEquals(List.of("event 3"), all(client(playing(script(last(7, 3), lost()), script())).watch("s", after("t5"))), "the end was told");
        Session ended = Session.newBuilder().setSessionId("s").setState(Session.State.STATE_FAILED).build();
        WatchSessionResponse snapshot = WatchSessionResponse.newBuilder().setSnapshot(ended).build();
        assertEquals(List.of("snapshot 1"), all(client(playing(script(snapshot), script(snapshot, snapshotEnd(5)))).watch("s")));
        Fake over = playing(script(), script(session(Session.State.STATE_STOPPED)));
        assertEquals(List.of(), all(client(over).watch("s", after("t9"))), "after the end there is nothing to tell");
    }

    @Test
    void theWatchOfManySessionsNeverEndsByItselfAndWaitsLongerAndLongerWhenItsStreamAlwaysEnds() throws Exception {
        SessionEvent gone = SessionEvent.newBuilder().setSessionId("s").setRevision(6).setSequence(1).setToState(Session.State.STATE_STOPPED).build();
        // A snapshot is no progress; an event is.
        WatchSessionsResponse all = WatchSessionsResponse.newBuilder().setSnapshotEnd(SnapshotEnd.newBuilder().setRevision(6)).setResumeToken("t6").build();
        List<List<Object>> scripts = new ArrayList<>(Collections.nCopies(9, script(all)));
        scripts.set(0, script(WatchSessionsResponse.newBuilder().setEvent(gone).setResumeToken("t6").build()));
        Fake fake = new Fake(scripts);
        List<Duration> waits = new ArrayList<>();
        try (Watch watch = client(fake).watchAll(SessionFilter.getDefaultInstance(), WatchOptions.DEFAULT.tellingLosses((error, wait) -> {
            assertEquals(Status.Code.UNAVAILABLE, error.code());
            waits.add(wait);
            if (waits.size() == 4) {
                throw new IllegalStateException("enough");
            }
        }))) {
            assertInstanceOf(WatchMessage.Event.class, watch.next());
            assertEquals("enough", assertThrows(IllegalStateException.class, () -> watch.forEach(message -> {})).getMessage());
        }
        assertEquals(List.of("", "t6", "t6", "t6"), fake.asked);
        for (int tries = 0; tries < 4; tries++) {
            assertTrue(waits.get(tries).toMillis() >= Math.min(4, 2 << tries) / 2, waits.toString());
        }
    }

    @Test
    void whatBreaksBetweenHereAndTheServerIsResumedOverAndWhatTheServerRefusesIsNot() throws Exception {
        List<Status.Code> between = List.of(
                Status.Code.ABORTED, Status.Code.DEADLINE_EXCEEDED, Status.Code.DATA_LOSS, Status.Code.UNKNOWN, Status.Code.INTERNAL,
                Status.Code.CANCELLED, Status.Code.UNAVAILABLE);
        List<List<Object>> scripts = new ArrayList<>();
        between.forEach(code -> scripts.add(script(code.toStatus().withDescription("cut").asRuntimeException())));
        scripts.add(script(last(6, 2)));
        assertEquals(List.of("event 2"), all(client(new Fake(scripts)).watch("s", after("t5"))));
        Fake full = playing(script(refuse(Status.Code.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", 1)), script(last(6, 2)));
        assertEquals(List.of("event 2"), all(client(full).watch("s", after("t5"))), "the server asks to come back");
        for (Status.Code code : List.of(Status.Code.ABORTED, Status.Code.INTERNAL, Status.Code.PERMISSION_DENIED, Status.Code.RESOURCE_EXHAUSTED)) {
            Watch refused = client(playing(script(refuse(code, "ITS_REASON", 0)))).watch("s", after("t5"));
            assertEquals("ITS_REASON", assertThrows(GpuShopperException.class, refused::hasNext).reason());
        }
        com.google.rpc.Status foreign = com.google.rpc.Status.newBuilder()
                .setCode(Status.Code.ABORTED.value())
                .addDetails(Any.pack(ErrorInfo.newBuilder().setReason("LB").setDomain("proxy").build()))
                .build();
        Fake proxied = playing(script(StatusProto.toStatusRuntimeException(foreign)), script(last(6, 2)));
        assertEquals(List.of("event 2"), all(client(proxied).watch("s", after("t5"))), "another's reason is none of the server's");
    }

    @Test
    void aStreamThatFallsSilentIsLeftAndResumedAfterItsLastToken() throws Exception {
        Fake fake = playing(script(event(6, 2), SILENCE), script(last(7, 3)));
        List<String> lost = new ArrayList<>();
        // Twice the interval and five seconds: the shortest that there is.
        WatchOptions options = after("t5").withBookmarks(Duration.ofMillis(1)).tellingLosses((error, wait) -> lost.add(error.getMessage()));
        assertEquals(List.of("event 2", "event 3"), all(client(fake).watch("s", options)));
        assertEquals(List.of("t5", "t6"), fake.asked);
        assertEquals(List.of("not a word for 5 s: the connection is lost"), lost);
    }

    @Test
    void theSnapshotOfManySessionsHasThoseThatEndedSinceATimeAlsoWhenTheWatchBeginsAnew() throws Exception {
        WatchSessionsResponse all = WatchSessionsResponse.newBuilder().setSnapshotEnd(SnapshotEnd.newBuilder().setRevision(5)).setResumeToken("t5").build();
        Throwable over = refuse(Status.Code.NOT_FOUND, "OVER", 0);
        Fake fake = playing(script(all, lost()), script(refuse(Status.Code.OUT_OF_RANGE, "WATCH_COMPACTED", 0)), script(all, over), script(over));
        GpuShopper client = client(fake);
        WatchOptions options = WatchOptions.DEFAULT.withEndedSince(Instant.ofEpochSecond(77));
        Watch watch = client.watchAll(SessionFilter.getDefaultInstance(), options);
        assertInstanceOf(WatchMessage.Snapshot.class, watch.next());
        assertInstanceOf(WatchMessage.Reset.class, watch.next());
        assertInstanceOf(WatchMessage.Snapshot.class, watch.next());
        Watch resumed = client.watchAll(SessionFilter.getDefaultInstance(), options.after("t5"));
        assertThrows(GpuShopperException.class, watch::hasNext);
        assertThrows(GpuShopperException.class, resumed::hasNext);
        assertEquals(List.of("since 77", "t5", "since 77", "t5"), fake.asked, "a token goes before it");
    }

    @Test
    void fromNowOnMeansNothingToldOfBeforeAndATokenAtOnce() throws Exception {
        Fake fake = playing(script(snapshot()), script(snapshot(), snapshotEnd(5), lost()), script(last(6, 2)));
        assertEquals(List.of("event 2"), all(client(fake).watch("s", WatchOptions.DEFAULT.withoutSnapshot())));
        assertEquals(List.of("", "", "t5"), fake.asked);
    }

    @Test
    void aSnapshotIsToldOnceAndWholeHoweverOftenItIsBegun() throws Exception {
        Fake fake = playing(script(snapshot(), lost()), script(snapshot(), snapshotEnd(5), last(6, 2)));
        assertEquals(List.of("snapshot 1", "event 2"), all(client(fake).watch("s")));
        assertEquals(List.of("", ""), fake.asked);
    }

    @Test
    void aGapIsResumedOverAndToldWhenItStays() throws Exception {
        Fake healed = playing(script(event(6, 2), event(8, 4)), script(event(7, 3), last(8, 4)));
        assertEquals(List.of("event 2", "event 3", "event 4"), all(client(healed).watch("s", after("t5"))));
        assertEquals(List.of("t5", "t6"), healed.asked);
        Fake broken = playing(script(event(6, 2), event(8, 4)), script(event(8, 4)), script(event(8, 4)), script(event(8, 4)));
        Watch watch = client(broken).watch("s", after("t5"));
        assertEquals("WATCH_GAP", assertThrows(GpuShopperException.class, () -> all(watch)).reason());
    }

    @Test
    void whereTheServerForgotTheWatchBeginsAnewAndSaysSo() throws Exception {
        for (String reason : List.of("WATCH_COMPACTED", "WATCH_STORE_REPLACED")) {
            Fake fake = playing(
                    script(event(6, 2), lost()), script(refuse(Status.Code.OUT_OF_RANGE, reason, 0)), script(snapshot(), snapshotEnd(1), last(2, 2)));
            assertEquals(List.of("event 2", reason, "snapshot 1", "event 2"), all(client(fake).watch("s", after("t5"))));
            assertEquals(List.of("t5", "t6", ""), fake.asked);
        }
    }

    @Test
    void whatIsRefusedForGoodEndsTheWatchAndSoDoTheEndOfItsPatienceAndClosing() throws Exception {
        Watch unknown = client(playing(script(refuse(Status.Code.NOT_FOUND, "SESSION_NOT_FOUND", 0)))).watch("s");
        GpuShopperException error = assertThrows(GpuShopperException.class, unknown::hasNext);
        assertEquals(Status.Code.NOT_FOUND, error.code());
        assertEquals("SESSION_NOT_FOUND", error.reason());
        Fake away = new Fake(new ArrayList<>(Collections.nCopies(500, script(lost()))));
        Watch given = client(away).watch("s", after("t5").givingUpAfter(Duration.ofMillis(30)));
        assertEquals(Status.Code.UNKNOWN, assertThrows(GpuShopperException.class, given::hasNext).code());
        assertEquals("t5", given.resumeToken());
        Fake endless = playing(script(event(6, 2), lost()), script(event(7, 3), lost()));
        GpuShopper client = client(endless);
        Watch watch = client.watch("s", after("t5"));
        assertTrue(watch.hasNext());
        client.close();
        assertInstanceOf(WatchMessage.Event.class, watch.next());
        assertFalse(watch.hasNext());
    }

    @Test
    void aWatchWhoseSessionHasEndedDoesNotWaitForAServerThatIsGone() throws Exception {
        List<List<Object>> scripts = new ArrayList<>(List.of(script(last(6, 2), lost()), script(last(7, 3), lost())));
        scripts.addAll(Collections.nCopies(9, script(lost())));
        Fake gone = new Fake(scripts);
        assertEquals(List.of("event 2", "event 3"), all(client(gone).watch("s", after("t5"))));
        assertEquals(List.of("t5", "t6", "t7", "t7", "t7"), gone.asked, "what may follow the end is looked for, and not for ever");
        Fake replaced = playing(script(last(6, 2), lost()), script(refuse(Status.Code.OUT_OF_RANGE, "WATCH_STORE_REPLACED", 0)));
        assertEquals(List.of("event 2"), all(client(replaced).watch("s", after("t5"))), "the end was told: no reset, no error");
        Fake away = playing(script(last(6, 2), lost()));
        assertEquals(List.of("event 2"), all(client(away).watch("s", after("t5").givingUpAfter(Duration.ZERO))));
    }

    @Test
    void aSessionThatAReplacedDatabaseDoesNotKnowIsToldAsAResetAndThenAsAnError() throws Exception {
        Fake fake = playing(
                script(event(6, 2), lost()),
                script(refuse(Status.Code.OUT_OF_RANGE, "WATCH_STORE_REPLACED", 0)),
                script(refuse(Status.Code.NOT_FOUND, "SESSION_NOT_FOUND", 0)));
        Watch watch = client(fake).watch("s", after("t5"));
        assertInstanceOf(WatchMessage.Event.class, watch.next());
        assertEquals(new WatchMessage.Reset("WATCH_STORE_REPLACED", ""), watch.next());
        assertEquals("SESSION_NOT_FOUND", assertThrows(GpuShopperException.class, watch::hasNext).reason());
    }

    @Test
    void thePagesOfAnyCallAreFetchedOneAfterTheOther() {
        List<String> fetched = new ArrayList<>();
        Pages<String> pages = Pages.of(
                token -> {
                    fetched.add(token);
                    return fetched.size();
                },
                page -> List.of("a" + page, "b" + page),
                page -> page < 3 ? "t" + page : "");
        assertEquals(List.of("a1", "b1", "a2", "b2", "a3", "b3"), pages.stream().toList());
        assertEquals(List.of("", "t1", "t2"), fetched);
    }

    @Test
    void aChangeGetsARequestIdAndIsRepeatedWithItWhileTheServerIsAway() throws Exception {
        Fake fake = playing(
                script(refuse(Status.Code.UNAVAILABLE, "RESTARTING", 5)),
                script(lost()),
                script(CreateSessionResponse.newBuilder().setResumeToken("t1").build()));
        CreateSessionResponse answer = client(fake).sessions().createSession(CreateSessionRequest.getDefaultInstance());
        assertEquals("t1", answer.getResumeToken());
        assertEquals(3, fake.asked.size());
        assertEquals(1, new HashSet<>(fake.asked).size());
        assertEquals(36, fake.asked.get(0).length());
    }

    @Test
    void whatWouldNotHelpOrDoHarmIsNotRepeated() throws Exception {
        Fake fake = playing(script(refuse(Status.Code.INVALID_ARGUMENT, "INVALID_FIELD", 0)));
        GpuShopper client = client(fake);
        CreateSessionRequest request = CreateSessionRequest.newBuilder().setRequestId("mine").build();
        GpuShopperException error = assertThrows(GpuShopperException.class, () -> client.sessions().createSession(request));
        assertEquals(List.of(new GpuShopperException.Violation("disk_gb", "too small")), error.violations());
        assertEquals(Map.of("session_id", "s"), error.metadata());
        assertFalse(error.isRetryable() || error.isTransient());
        assertThrows(GpuShopperException.class, () -> client.operators().drainSessions(DrainSessionsRequest.getDefaultInstance()));
        assertEquals(List.of("mine", "drain"), fake.asked);
    }

    @Test
    void aCallGivesUpWhenItsTimeIsOver() throws Exception {
        Fake fake = new Fake(new ArrayList<>(Collections.nCopies(50, script(refuse(Status.Code.UNAVAILABLE, "STARTING", 400)))));
        String name = InProcessServerBuilder.generateName();
        Server server = InProcessServerBuilder.forName(name).addService(fake).build().start();
        open.add(server::shutdownNow);
        Patience patience = QUICK.within(Duration.ofMillis(1500), Duration.ofSeconds(1));
        try (GpuShopper client = GpuShopper.over(InProcessChannelBuilder.forName(name).build(), patience)) {
            GpuShopperException error =
                    assertThrows(GpuShopperException.class, () -> client.sessions().getSession(GetSessionRequest.getDefaultInstance()));
            assertEquals("STARTING", error.reason());
            assertEquals(Duration.ofMillis(400), error.retryAfter().orElseThrow());
            assertTrue(fake.asked.size() >= 2 && fake.asked.size() <= 4, fake.asked.size() + " tries");
        }
    }

    @Test
    void waitingForRunningTellsAnEndFromIt() throws Exception {
        Session.Builder session = Session.newBuilder().setSessionId("s").setError("no driver").setEndReason(EndReason.END_REASON_VERIFY_FAILED);
        WaitSessionResponse not = WaitSessionResponse.newBuilder().setSession(session.setState(Session.State.STATE_PROVISIONING)).build();
        WaitSessionResponse ended = WaitSessionResponse.newBuilder().setSession(session.setState(Session.State.STATE_STOPPING)).setReached(true).build();
        WaitSessionResponse runs = WaitSessionResponse.newBuilder().setSession(session.setState(Session.State.STATE_RUNNING)).setReached(true).build();
        GpuShopper client = client(playing(script(not), script(ended), script(runs), script(not), script(not), script(runs)));
        SessionEndedException error = assertThrows(SessionEndedException.class, () -> client.waitForRunning("s"));
        assertEquals(EndReason.END_REASON_VERIFY_FAILED, error.session().getEndReason());
        assertTrue(error.getMessage().contains("no driver"));
        assertEquals(Session.State.STATE_RUNNING, client.waitForRunning("s").getState());
        GpuShopperException late = assertThrows(GpuShopperException.class, () -> client.waitForRunning("s", Duration.ZERO));
        assertEquals(Status.Code.DEADLINE_EXCEEDED, late.code());
        assertTrue(late.getMessage().endsWith("it is STATE_PROVISIONING"), late.getMessage());
        assertEquals(Session.State.STATE_RUNNING, client.waitForRunning("s", ChronoUnit.FOREVER.getDuration()).getState());
    }

    @Test
    void httpsWithTheAuthoritysCertificateAndTheTokenAsABearer(@TempDir Path folder) throws Exception {
        Path cert = folder.resolve("cert.pem");
        Path key = folder.resolve("key.pem");
        Process made = new ProcessBuilder(
                        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key.toString(), "-out", cert.toString())
                .redirectErrorStream(true)
                .start();
        String said = new String(made.getInputStream().readAllBytes());
        assertEquals(0, made.waitFor(), said);
        List<String> told = Collections.synchronizedList(new ArrayList<>());
        Fake fake = playing(script(GetSessionResponse.getDefaultInstance()), script(GetSessionResponse.getDefaultInstance()));
        Server server = Grpc.newServerBuilderForPort(0, TlsServerCredentials.newBuilder()
                        .keyManager(cert.toFile(), key.toFile())
                        .trustManager(cert.toFile())
                        .clientAuth(TlsServerCredentials.ClientAuth.REQUIRE)
                        .build())
                .addService(fake)
                .intercept(authorizations(told))
                .build()
                .start();
        open.add(server::shutdownNow);
        String url = "https://127.0.0.1:" + server.getPort();
        try (GpuShopper trusting = GpuShopper.builder(url).ca(cert).token("gs_secret").identity(cert, key).build()) {
            trusting.sessions().getSession(GetSessionRequest.getDefaultInstance());
        }
        Map<String, String> environment = Map.of(
                "GPU_SHOPPER_CA_CERT", cert.toString(), "GPU_SHOPPER_CLIENT_CERT", cert.toString(), "GPU_SHOPPER_CLIENT_KEY", key.toString(), "GPU_SHOPPER_TOKEN", "gs_env");
        try (GpuShopper trusting = GpuShopper.builder(url).environment(environment).build()) {
            trusting.sessions().getSession(GetSessionRequest.getDefaultInstance());
        }
        assertEquals(List.of("Bearer gs_secret", "Bearer gs_env"), told);
        Patience brief = QUICK.within(Duration.ofMillis(300), Duration.ofMillis(300));
        try (GpuShopper strange = GpuShopper.builder(url).patience(brief).build()) {
            assertThrows(GpuShopperException.class, () -> strange.sessions().getSession(GetSessionRequest.getDefaultInstance()));
        }
        try (GpuShopper nameless = GpuShopper.builder(url).ca(cert).patience(brief).build()) {
            assertThrows(GpuShopperException.class, () -> nameless.sessions().getSession(GetSessionRequest.getDefaultInstance()));
        }
        assertEquals(2, told.size());
    }

    /** Keeps what calls said who they are. */
    private static ServerInterceptor authorizations(List<String> told) {
        Metadata.Key<String> authorization = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
        return new ServerInterceptor() {
            @Override
            public <Q, A> ServerCall.Listener<Q> interceptCall(ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
                told.add(headers.get(authorization));
                return Contexts.interceptCall(Context.current(), call, headers, next);
            }
        };
    }

    @Test
    void amountsAreExactAndWhatIsNotIsRefused() {
        for (String text : List.of("0", "0.36", "12", "250", "-1.75", "0.000000001", "-0.000000001", "9223372036854775807.999999999")) {
            Money money = Usd.money(text);
            assertEquals("USD", money.getCurrencyCode());
            assertEquals(new BigDecimal(text), Usd.decimal(money));
            assertEquals(text, Usd.decimal(money).toPlainString());
        }
        for (String text : List.of("", "0.0000000001", "1,5", "x", "9223372036854775808")) {
            assertThrows(IllegalArgumentException.class, () -> Usd.money(text), text);
        }
        assertThrows(IllegalArgumentException.class, () -> Usd.decimal(Money.newBuilder().setCurrencyCode("EUR").build()));
    }

    @Test
    void keysAreForTheirOwnerAloneAndNeverOverwrittenSilently(@TempDir Path folder) throws Exception {
        Path path = folder.resolve("key.pem");
        KeyFile.save(path, "one");
        assertThrows(FileAlreadyExistsException.class, () -> KeyFile.save(path, "two"));
        assertEquals("one", Files.readString(path));
        KeyFile.replace(path, "two");
        assertEquals("two", Files.readString(path));
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(path)));
        assertThrows(IllegalArgumentException.class, () -> KeyFile.save(folder.resolve("none.pem"), ""));
        try (Stream<Path> files = Files.list(folder)) {
            assertEquals(1, files.count());
        }
    }

    @Test
    void waitsDoubleWithinBoundsAndHonourWhatTheServerAsksFor() {
        for (int tries = 0; tries < 40; tries++) {
            long most = Math.min(10_000, 200L << Math.min(tries, 20));
            long wait = Patience.DEFAULT.waitBefore(tries, null).toMillis();
            assertTrue(wait >= most / 2 && wait <= most, tries + ": " + wait);
        }
        assertEquals(Duration.ofSeconds(33), Patience.DEFAULT.waitBefore(0, Duration.ofSeconds(33)));
    }

    @Test
    void addressesWithAndWithoutSchemeAreReadAndOthersRefusedWithoutTellingThem() {
        assertEquals(new Address(false, "gpu_host", 8080), Address.parse("gpu_host:8080"));
        assertEquals(new Address(false, "[::1]", 80), Address.parse("HTTP://[::1]/"));
        assertEquals(new Address(true, "gpu.example", 443), Address.parse("https://gpu.example"));
        for (String bad : List.of("ftp://x", "http://", "http://u:secret@x:1", "u:secret@x", "http://a b", "http://x/api", "http://x:1?a=b", "x:99999", "x:0")) {
            IllegalArgumentException error = assertThrows(IllegalArgumentException.class, () -> GpuShopper.connect(bad).close(), bad);
            assertFalse(error.getMessage().contains("secret"));
        }
    }

    @Test
    void whatIsNotGivenComesFromTheEnvironment(@TempDir Path folder) throws Exception {
        List<String> told = Collections.synchronizedList(new ArrayList<>());
        Server server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
                .addService(new Fake(new ArrayList<>(Collections.nCopies(3, script(GetSessionResponse.getDefaultInstance())))))
                .intercept(authorizations(told))
                .build()
                .start();
        open.add(server::shutdownNow);
        Path file = Files.writeString(folder.resolve("token"), "gs_file\n");
        Map<String, String> environment = Map.of("GPU_SHOPPER_URL", "127.0.0.1:" + server.getPort(), "GPU_SHOPPER_TOKEN_FILE", file.toString());
        try (GpuShopper client = GpuShopper.builder().environment(environment).build();
                GpuShopper other = GpuShopper.builder().environment(environment).token("gs_given").build();
                GpuShopper nobody = GpuShopper.builder().environment(environment).token("").build()) {
            client.sessions().getSession(GetSessionRequest.getDefaultInstance());
            other.sessions().getSession(GetSessionRequest.getDefaultInstance());
            nobody.sessions().getSession(GetSessionRequest.getDefaultInstance());
        }
        assertEquals(Arrays.asList("Bearer gs_file", "Bearer gs_given", null), told);
        GpuShopper.Builder half = GpuShopper.builder("https://x").environment(Map.of("GPU_SHOPPER_CLIENT_KEY", "key.pem"));
        assertTrue(assertThrows(IllegalArgumentException.class, half::build).getMessage().contains("go together"));
        GpuShopper.Builder lost = GpuShopper.builder("https://x").environment(Map.of("GPU_SHOPPER_CA_CERT", folder.resolve("none.pem").toString()));
        assertTrue(assertThrows(UncheckedIOException.class, lost::build).getMessage().contains("none.pem"));
        IllegalArgumentException error = assertThrows(IllegalArgumentException.class, () -> GpuShopper.builder("x").token("gs_\n").build());
        assertFalse(error.getMessage().contains("gs_"));
    }

    @Test
    void everyUnaryCallOfTheContractHasItsMethod() {
        Map<ServiceDescriptor, Class<?>> classes = Map.of(
                InventoryServiceOuterClass.getDescriptor().getServices().get(0), Inventory.class,
                SessionServiceOuterClass.getDescriptor().getServices().get(0), Sessions.class,
                CostServiceOuterClass.getDescriptor().getServices().get(0), Costs.class,
                OperatorServiceOuterClass.getDescriptor().getServices().get(0), Operators.class);
        List<String> missing = new ArrayList<>();
        classes.forEach((service, type) -> {
            for (MethodDescriptor method : service.getMethods()) {
                String name = method.getName().substring(0, 1).toLowerCase() + method.getName().substring(1);
                if (!method.isServerStreaming() && Arrays.stream(type.getMethods()).noneMatch(m -> m.getName().equals(name))) {
                    missing.add(type.getSimpleName() + "." + name);
                }
            }
        });
        assertEquals(List.of(), missing);
    }
}
