package gpushopper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	pb "gpushopper.dev/go/gpushopper/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// mostGaps is how often a missing event is looked for again before the watch gives up.
const mostGaps = 3

// Item is what a watch tells: one of its fields is set.
type Item struct {
	// Snapshot is how the sessions stood when the watch began, or began anew. It replaces everything known before.
	Snapshot *Snapshot
	// Event is the next event.
	Event *pb.SessionEvent
}

// Snapshot is how the sessions stand.
type Snapshot struct {
	// Sessions are those that match.
	Sessions []*pb.Session
	// End has their counts and what they cost per hour.
	End *pb.SnapshotEnd
	// Reset says why the watch had to begin anew, so that events may have been missed: WATCH_COMPACTED or WATCH_STORE_REPLACED. Empty for the first snapshot.
	Reset string
}

// told is a message of either kind of watch.
type told interface {
	GetSnapshot() *pb.Session
	GetSnapshotEnd() *pb.SnapshotEnd
	GetEvent() *pb.SessionEvent
	GetBookmark() *pb.Bookmark
	GetResumeToken() string
}

// Watch gives every event once and in order, over cuts and restarts; it waits as long as the server is away. When the server can't go on from the
// last token, a fresh snapshot comes by itself and says so. It is for one goroutine.
type Watch struct {
	ctx     context.Context
	open    func(ctx context.Context, token string) (func() (told, error), error)
	single  bool
	backoff Backoff

	token, reset   string
	revision       int64
	sequence       int64 // 0: not known
	sessions       []*pb.Session
	failures, gaps int

	receive func() (told, error)
	drop    context.CancelFunc
}

// WatchOption changes where a watch begins.
type WatchOption func(*watchStart)

type watchStart struct {
	token      string
	endedSince time.Time
}

// From begins strictly after a token: of an earlier watch, or of a create's answer, which comes before the first event. Empty is none.
func From(resumeToken string) WatchOption { return func(s *watchStart) { s.token = resumeToken } }

// EndedSince puts sessions that ended since then into the snapshot of WatchSessions, too.
func EndedSince(time time.Time) WatchOption { return func(s *watchStart) { s.endedSince = time } }

func begin(options []WatchOption) (start watchStart) {
	for _, option := range options {
		option(&start)
	}
	return start
}

// WatchSession watches one session; the watch ends with io.EOF after its last event. Without [From] it begins with a snapshot.
func (c *Client) WatchSession(ctx context.Context, sessionID string, options ...WatchOption) *Watch {
	w := &Watch{ctx: ctx, single: true, backoff: c.backoff, token: begin(options).token}
	w.open = func(ctx context.Context, token string) (func() (told, error), error) {
		request := &pb.WatchSessionRequest{SessionId: sessionID}
		if token != "" {
			request.Start = &pb.WatchSessionRequest_ResumeToken{ResumeToken: token}
		}
		stream, err := c.Sessions.WatchSession(ctx, request)
		if err != nil {
			return nil, err
		}
		return func() (told, error) { return stream.Recv() }, nil
	}
	return w
}

// WatchSessions watches all sessions that match; it never ends by itself. Without [From] it begins with a snapshot of the open ones.
func (c *Client) WatchSessions(ctx context.Context, filter *pb.SessionFilter, options ...WatchOption) *Watch {
	start := begin(options)
	w := &Watch{ctx: ctx, backoff: c.backoff, token: start.token}
	w.open = func(ctx context.Context, token string) (func() (told, error), error) {
		request := &pb.WatchSessionsRequest{Filter: filter}
		switch {
		case token != "":
			request.Start = &pb.WatchSessionsRequest_ResumeToken{ResumeToken: token}
		case !start.endedSince.IsZero():
			request.Start = &pb.WatchSessionsRequest_EndedSince{EndedSince: timestamppb.New(start.endedSince)}
		}
		stream, err := c.Sessions.WatchSessions(ctx, request)
		if err != nil {
			return nil, err
		}
		return func() (told, error) { return stream.Recv() }, nil
	}
	return w
}

// ResumeToken goes on strictly after the last item that Next gave. Keep it with what you made of that item.
func (w *Watch) ResumeToken() string { return w.token }

// Close ends the watch. Ending its context does the same.
func (w *Watch) Close() {
	if w.drop != nil {
		w.drop()
	}
	w.receive, w.drop = nil, nil
}

// Next waits for the next item. The error is io.EOF when one session's watch has told everything, the context's error when that ended, and an
// [*Error] for what no further try helps: an unknown session, a wrong filter, a refused token.
func (w *Watch) Next() (Item, error) {
	for {
		item, ok, err := w.next()
		if err == nil && ok {
			return item, nil
		}
		if err == nil {
			continue
		}
		w.Close()
		var missing gap
		switch {
		case w.ctx.Err() != nil:
			return Item{}, w.ctx.Err()
		case errors.Is(err, io.EOF) && w.single:
			return Item{}, io.EOF
		case errors.Is(err, io.EOF):
			continue
		case errors.As(err, &missing):
			if w.gaps++; w.gaps > mostGaps {
				return Item{}, &Error{Code: codes.DataLoss, Message: missing.Error()}
			}
			err = sleep(w.ctx, w.backoff.wait(w.gaps, 0))
		default:
			err = w.broken(typed(err))
		}
		if err != nil {
			return Item{}, err
		}
	}
}

// next reads one message; ok says whether it tells the reader something.
func (w *Watch) next() (item Item, ok bool, err error) {
	if w.receive == nil {
		ctx, cancel := context.WithCancel(w.ctx)
		w.sessions = nil
		receive, err := w.open(ctx, w.token)
		if err != nil {
			cancel()
			return item, false, err
		}
		w.receive, w.drop = receive, cancel
	}
	message, err := w.receive()
	if err != nil {
		return item, false, err
	}
	return w.take(message)
}

// gap says that an event is missing: the stream is opened again from the last token.
type gap struct {
	session     string
	last, after int64
}

func (g gap) Error() string {
	return fmt.Sprintf("event %d of session %s came after event %d", g.after, g.session, g.last)
}

// take makes of a message what it tells the reader, if anything.
func (w *Watch) take(message told) (item Item, ok bool, err error) {
	if session := message.GetSnapshot(); session != nil {
		w.sessions = append(w.sessions, session)
		return item, false, nil
	}
	w.failures = 0
	if end := message.GetSnapshotEnd(); end != nil {
		item, ok = Item{Snapshot: &Snapshot{Sessions: w.sessions, End: end, Reset: w.reset}}, true
		w.revision, w.sequence, w.reset = end.GetRevision(), 0, ""
		if w.single && len(w.sessions) > 0 {
			w.sequence = w.sessions[0].GetSequence()
		}
		w.sessions = nil
	}
	if event := message.GetEvent(); event != nil && event.GetRevision() > w.revision {
		if w.single && w.sequence != 0 && event.GetSequence() != w.sequence+1 {
			return item, false, gap{session: event.GetSessionId(), last: w.sequence, after: event.GetSequence()}
		}
		item, ok = Item{Event: event}, true
		w.revision, w.sequence, w.gaps = event.GetRevision(), event.GetSequence(), 0
	}
	if bookmark := message.GetBookmark(); bookmark != nil {
		w.revision = max(w.revision, bookmark.GetRevision())
	}
	if token := message.GetResumeToken(); token != "" {
		w.token = token
	}
	return item, ok, nil
}

// broken waits after an error before the next stream, or gives the error back when no further stream helps.
func (w *Watch) broken(err *Error) error {
	switch {
	case err.Reason == "WATCH_COMPACTED" || err.Reason == "WATCH_STORE_REPLACED":
		w.reset, w.token, w.revision, w.sequence = err.Reason, "", 0, 0
	case err.Retryable():
	case err.Reason == "" && (err.Code == codes.Internal || err.Code == codes.Unknown || err.Code == codes.Canceled):
		// Without a reason these are the transport's: a connection that broke in the midst of a stream.
	default:
		return err
	}
	wait := w.backoff.wait(w.failures, err.RetryAfter)
	w.failures++
	return sleep(w.ctx, wait)
}
