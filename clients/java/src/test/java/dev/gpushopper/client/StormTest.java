package dev.gpushopper.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.gpushopper.v1.CreateSessionRequest;
import dev.gpushopper.v1.CreateSessionResponse;
import dev.gpushopper.v1.DestroySessionRequest;
import dev.gpushopper.v1.OfferFilter;
import dev.gpushopper.v1.Requirements;
import dev.gpushopper.v1.SessionEvent;
import dev.gpushopper.v1.SessionFilter;
import dev.gpushopper.v1.UpdateSessionRequest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

/** The connection is cut at random a thousand times while sessions change: what the watches tell is exactly the log. */
class StormTest {
    private static final int CUTS = Optional.ofNullable(System.getenv("STORM_CUTS")).map(Integer::parseInt).orElse(1000);

    private static CreateSessionResponse rent(GpuShopper client) {
        OfferFilter filter = OfferFilter.newBuilder().addProviders("tensordock").addGpuModels("RTX 4090").build();
        return client.sessions().createSession(
                CreateSessionRequest.newBuilder().setRequirements(Requirements.newBuilder().setFilter(filter)).build());
    }

    private static List<String> numbers(List<SessionEvent> events) {
        return events.stream().map(e -> e.getRevision() + " " + e.getSequence() + " " + e.getSessionId()).toList();
    }

    /** Waits for some work as long as a number moves, however slow the machine is; fails when it stands for a minute. */
    private static <T> T whileMoving(Future<T> work, AtomicInteger count) throws Exception {
        while (true) {
            int before = count.get();
            try {
                return work.get(1, TimeUnit.MINUTES);
            } catch (TimeoutException late) {
                assertTrue(count.get() > before, "nothing has happened for a minute after " + before + " events");
            }
        }
    }

    @Test
    void afterAThousandCutsTheUnionOfEventsIsExactlyTheLog() throws Exception {
        Patience patience = new Patience(Duration.ofSeconds(60), Duration.ofSeconds(20), Duration.ofMillis(2), Duration.ofMillis(50));
        ExecutorService threads = Executors.newFixedThreadPool(2);
        try (World world = new World();
                GpuShopper direct = GpuShopper.connect(world.at("direct"));
                GpuShopper one = GpuShopper.builder(world.at("url")).patience(patience).build();
                GpuShopper all = GpuShopper.builder(world.at("url")).patience(patience).build()) {
            AtomicInteger lost = new AtomicInteger();
            AtomicInteger heard = new AtomicInteger();
            AtomicLong last = new AtomicLong(-1);
            WatchOptions counting = WatchOptions.DEFAULT.withBookmarks(Duration.ofSeconds(5)).tellingLosses((error, wait) -> lost.incrementAndGet());
            Watch every = all.watchAll(SessionFilter.getDefaultInstance(), counting);
            assertTrue(every.next() instanceof WatchMessage.Snapshot begun && begun.sessions().isEmpty());
            Future<List<SessionEvent>> fromAll = threads.submit(() -> {
                List<SessionEvent> events = new ArrayList<>();
                for (WatchMessage message : every) {
                    if (message instanceof WatchMessage.Event told) {
                        events.add(told.event());
                        heard.incrementAndGet();
                    }
                    // A bookmark comes at the latest when everything has been told.
                    if (!events.isEmpty() && last.get() > 0 && events.get(events.size() - 1).getRevision() >= last.get()) {
                        break;
                    }
                }
                return events;
            });
            CreateSessionResponse created = rent(direct);
            String id = created.getSession().getSessionId();
            Watch single = one.watch(id, counting.after(created.getResumeToken()));
            Future<List<SessionEvent>> fromOne = threads.submit(() -> {
                List<SessionEvent> events = new ArrayList<>();
                for (WatchMessage message : single) {
                    if (message instanceof WatchMessage.Event told) {
                        events.add(told.event());
                        heard.incrementAndGet();
                    }
                }
                return events;
            });

            world.order("storm?cuts=" + CUTS);
            List<String> sessions = new ArrayList<>(List.of(id));
            for (int n = 0; !world.order("storm-left").equals("0"); n++) {
                direct.sessions().updateSession(
                        UpdateSessionRequest.newBuilder().setSessionId(sessions.get(n % sessions.size())).putLabels("n", String.valueOf(n)).build());
                if (n % 500 == 50) {
                    sessions.add(rent(direct).getSession().getSessionId());
                }
                Thread.sleep(10);
            }
            for (String session : sessions) {
                direct.sessions().destroySession(DestroySessionRequest.newBuilder().setSessionId(session).build());
            }
            sessions.forEach(direct::waitForEnd);
            List<SessionEvent> log = new ArrayList<>();
            sessions.forEach(session -> direct.events(session).forEach(log::add));
            log.sort(Comparator.comparingLong(SessionEvent::getRevision));
            last.set(log.get(log.size() - 1).getRevision());
            assertEquals(numbers(log.stream().filter(e -> e.getSessionId().equals(id)).toList()), numbers(whileMoving(fromOne, heard)));
            assertEquals(numbers(log), numbers(whileMoving(fromAll, heard)));
            assertTrue(lost.get() >= CUTS / 2, "only " + lost + " lost connections were noticed");
            System.out.println(CUTS + " cuts, " + lost + " noticed; " + log.size() + " events, none lost, none twice");
        } finally {
            threads.shutdownNow();
        }
    }
}
