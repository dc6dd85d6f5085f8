package dev.gpushopper.client;

import dev.gpushopper.v1.Session;
import dev.gpushopper.v1.SessionEvent;
import java.util.HashMap;
import java.util.Map;

/** Numbers of what a watch has told, to see repeats and gaps. */
final class Ledger {
    enum Verdict {
        NEXT,
        REPEAT,
        GAP
    }

    private final boolean whole;
    private long revision;
    private final Map<String, Long> sequences = new HashMap<>();

    /** @param whole no session can leave and come back, so that the numbers of its events are without gaps */
    Ledger(boolean whole) {
        this.whole = whole;
    }

    void forget() {
        revision = 0;
        sequences.clear();
    }

    void snapshot(Session session) {
        sequences.put(session.getSessionId(), session.getSequence());
    }

    void reached(long revision) {
        this.revision = Math.max(this.revision, revision);
    }

    Verdict judge(SessionEvent event) {
        Long last = sequences.get(event.getSessionId());
        if (event.getRevision() <= revision || (last != null && event.getSequence() <= last)) {
            return Verdict.REPEAT;
        }
        return whole && last != null && event.getSequence() != last + 1 ? Verdict.GAP : Verdict.NEXT;
    }

    void told(SessionEvent event) {
        reached(event.getRevision());
        // After its end almost nothing follows: it need not be remembered for that.
        if (isOver(event.getToState())) {
            sequences.remove(event.getSessionId());
        } else {
            sequences.put(event.getSessionId(), event.getSequence());
        }
    }

    static boolean isOver(Session.State state) {
        return state == Session.State.STATE_STOPPED || state == Session.State.STATE_FAILED;
    }
}
