package dev.gpushopper.client;

import dev.gpushopper.v1.Bookmark;
import dev.gpushopper.v1.Session;
import dev.gpushopper.v1.SessionEvent;
import dev.gpushopper.v1.SnapshotEnd;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Function;

/**
 * A watch that survives what happens to connections: it resumes after the last token it was given, proves by the numbers of the
 * events that nothing is missing and nothing comes twice, and begins anew where the server no longer keeps what came after the token.
 *
 * <p>It is its own iterator: one thread loops over it, and {@link #close} ends the loop from any thread. A watch of one session ends by itself
 * after the session's end.
 */
public final class Watch implements Iterable<WatchMessage>, Iterator<WatchMessage>, AutoCloseable {
    private static final int GAPS = 3;
    /** Streams that are opened in a row after one was lost on which the session's end was told already. */
    private static final int AFTER_END = 3;
    private static final Object CLOSED = new Object();

    /** A message of either kind of watch; one of the parts is there. */
    record Heard(Session snapshot, SnapshotEnd snapshotEnd, SessionEvent event, Bookmark bookmark, String resumeToken) {}

    /**
     * What is watched, and how its stream is opened.
     *
     * @param request what to ask for: after a token, or without one
     * @param isOver whether the one session that is watched has ended; null when there are many, whose streams never should
     * @param whole no session can leave and come back, so that the numbers of its events are without gaps
     */
    record Subject<Q, A>(
            MethodDescriptor<Q, A> method, Function<String, Q> request, Function<A, Heard> read, BooleanSupplier isOver, boolean whole) {}

    private final Calls calls;
    private final Subject<?, ?> subject;
    private final WatchOptions options;
    private final Ledger ledger;
    /** Held back until it is complete: a connection lost on the way leaves no half of a snapshot behind. */
    private List<Session> snapshot = new ArrayList<>();
    private String token;
    private boolean hideSnapshot;
    private boolean ended;
    private boolean over;
    private boolean heardSomething;
    private int tries;
    private int gaps;
    private long lastWord = System.nanoTime();
    private WatchMessage ahead;
    private Stream<?> stream;
    private volatile boolean closed;

    Watch(Calls calls, Subject<?, ?> subject, WatchOptions options) {
        this.calls = calls;
        this.subject = subject;
        this.options = options;
        this.ledger = new Ledger(subject.whole());
        this.token = options.resumeToken();
        // "From now" begins with a snapshot that is not told: the server would say nothing, and so give no token, before the first event.
        this.hideSnapshot = options.fromNow() && token.isEmpty();
    }

    /** The token after which this watch would resume: keep it to go on in another process. Empty before the first. */
    public String resumeToken() {
        return token;
    }

    @Override
    public Iterator<WatchMessage> iterator() {
        return this;
    }

    /** Waits for what comes next; false after the last event of a watched session, and after {@link #close} or the client's. */
    @Override
    public boolean hasNext() {
        while (ahead == null && !over && !closed) {
            advance();
        }
        return ahead != null;
    }

    @Override
    public WatchMessage next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        WatchMessage told = ahead;
        ahead = null;
        return told;
    }

    /** Ends the watch. */
    @Override
    public void close() {
        closed = true;
        Stream<?> open;
        synchronized (this) {
            open = stream;
        }
        if (open != null) {
            open.close();
        }
    }

    private void advance() {
        GpuShopperException error;
        try {
            Heard heard = hear();
            if (heard != null) {
                heardSomething = true;
                lastWord = System.nanoTime();
                if (take(heard)) {
                    return;
                }
                error = new GpuShopperException(Status.Code.UNAVAILABLE, "", "an event is missing from the stream");
            } else if (toldEnd() || (subject.isOver() != null && !heardSomething && !token.isEmpty() && subject.isOver().getAsBoolean())) {
                // Where the end was told before the token, nothing tells it again, so it is asked for.
                over = true;
                return;
            } else {
                error = new GpuShopperException(Status.Code.UNAVAILABLE, "", "the server ended the stream early");
            }
        } catch (GpuShopperException thrown) {
            error = thrown;
        }
        disconnect();
        if (closed || calls.channel.isShutdown()) {
            over = true;
            return;
        }
        if (toldEnd() && !isResumable(error)) {
            over = true;
            return;
        }
        if (!token.isEmpty() && (error.reason().equals("WATCH_COMPACTED") || error.reason().equals("WATCH_STORE_REPLACED"))) {
            token = "";
            ledger.forget();
            ahead = new WatchMessage.Reset(error.reason(), "");
        } else if (!isResumable(error) || Thread.currentThread().isInterrupted()) {
            over = true;
            throw error;
        }
        Duration wait = calls.patience.waitBefore(tries++, error.retryAfter().orElse(null));
        boolean givenUp = ahead == null && options.giveUp() != null && System.nanoTime() + wait.toNanos() - lastWord > options.giveUp().toNanos();
        if (toldEnd() && (givenUp || tries > AFTER_END)) {
            // What may still follow a session's end is not worth waiting for a server that has gone for good.
            over = true;
            return;
        }
        if (givenUp) {
            over = true;
            throw error;
        }
        options.onLost().accept(error, wait);
        Calls.pause(wait);
        // The channel has a patience of its own, which grows to minutes.
        calls.channel.resetConnectBackoff();
    }

    /** Whether the one session's end was told. The watch of many never ends by itself. */
    private boolean toldEnd() {
        return ended && subject.isOver() != null;
    }

    /** Whether a further stream may help: the connection broke, the server is away, or it asks to come back later. */
    private static boolean isResumable(GpuShopperException error) {
        return error.isTransient() || (error.code() == Status.Code.RESOURCE_EXHAUSTED && error.retryAfter().isPresent());
    }

    /** Reads one message; false when an event is missing before it. */
    private boolean take(Heard heard) {
        if (heard.snapshot() != null) {
            snapshot.add(heard.snapshot());
            return true;
        }
        if (heard.event() != null) {
            switch (ledger.judge(heard.event())) {
                case REPEAT -> {
                    return true;
                }
                case GAP -> {
                    if (++gaps > GAPS) {
                        throw new GpuShopperException(
                                Status.Code.DATA_LOSS, "WATCH_GAP", "events are missing from the stream, also after it was resumed");
                    }
                    return false;
                }
                case NEXT -> {
                    ledger.told(heard.event());
                    ended = Ledger.isOver(heard.event().getToState());
                    gaps = 0;
                    tries = 0;
                }
            }
        }
        if (!heard.resumeToken().isEmpty()) {
            token = heard.resumeToken();
        }
        if (heard.event() != null) {
            ahead = new WatchMessage.Event(heard.event(), token);
        } else if (heard.bookmark() != null) {
            tries = 0;
            ledger.reached(heard.bookmark().getRevision());
            ahead = new WatchMessage.Bookmark(heard.bookmark().getRevision(), token);
        } else if (heard.snapshotEnd() != null) {
            List<Session> sessions = snapshot;
            snapshot = new ArrayList<>();
            sessions.forEach(ledger::snapshot);
            ledger.reached(heard.snapshotEnd().getRevision());
            ended = sessions.stream().anyMatch(session -> Ledger.isOver(session.getState()));
            if (!hideSnapshot) {
                ahead = new WatchMessage.Snapshot(List.copyOf(sessions), heard.snapshotEnd(), token);
            }
            hideSnapshot = false;
        }
        return true;
    }

    /** The next message; null at an orderly end. */
    private Heard hear() {
        Stream<?> open;
        synchronized (this) {
            if (stream == null) {
                stream = open(subject);
            }
            open = stream;
        }
        if (closed) {
            open.close();
        }
        return open.next(options.bookmark().multipliedBy(2).plusSeconds(5));
    }

    private <Q, A> Stream<A> open(Subject<Q, A> subject) {
        return new Stream<>(calls.channel.newCall(subject.method(), CallOptions.DEFAULT), subject.request().apply(token), subject.read());
    }

    private void disconnect() {
        Stream<?> open;
        synchronized (this) {
            open = stream;
            stream = null;
        }
        if (open != null) {
            open.close();
        }
        snapshot.clear();
        heardSomething = false;
    }

    /** One stream: asks for a message when one was taken, so that a slow reader slows only itself. */
    private static final class Stream<A> extends ClientCall.Listener<A> {
        private final ClientCall<?, A> call;
        private final Function<A, Heard> read;
        private final BlockingQueue<Object> queue = new LinkedBlockingQueue<>();

        <Q> Stream(ClientCall<Q, A> call, Q request, Function<A, Heard> read) {
            this.call = call;
            this.read = read;
            call.start(this, new Metadata());
            call.request(1);
            call.sendMessage(request);
            call.halfClose();
        }

        @Override
        public void onMessage(A message) {
            queue.add(read.apply(message));
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            queue.add(status.isOk() ? CLOSED : GpuShopperException.of(status.asRuntimeException(trailers)));
        }

        /** The next message; null at an orderly end. The server promises a bookmark: a longer silence is a lost connection. */
        Heard next(Duration silence) {
            Object got;
            try {
                got = queue.poll(silence.toMillis(), TimeUnit.MILLISECONDS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw Calls.interrupted();
            }
            if (got instanceof Heard heard) {
                call.request(1);
                return heard;
            }
            if (got instanceof GpuShopperException error) {
                throw error;
            }
            if (got == null) {
                throw new GpuShopperException(
                        Status.Code.UNAVAILABLE, "", "not a word for " + silence.toSeconds() + " s: the connection is lost");
            }
            return null;
        }

        void close() {
            call.cancel("the watch is over", null);
        }
    }
}
