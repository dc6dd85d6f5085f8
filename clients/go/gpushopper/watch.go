package gpushopper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	pb "gpushopper.dev/go/gpushopper/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// mostGaps is how often a missing event is looked for again before the watch gives up.
	mostGaps = 3
	// mostAfterEnd are streams that are opened in a row after one was lost on which the session's end was told already.
	mostAfterEnd = 3
)

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
	look    func(ctx context.Context) (*pb.Session, error) // nil for the watch of many
	terms   terms
	backoff Backoff

	token, reset   string
	revision       int64
	sequence       int64 // 0: not known
	sessions       []*pb.Session
	hide           bool // the snapshot, which was asked for so that there is a token before the first event
	heard, final   bool // something on this stream; that the one session has ended
	lastWord       time.Time
	failures, gaps int

	receive func() (told, error)
	drop    context.CancelFunc
}

// WatchOption changes where a watch begins and how it goes on.
type WatchOption func(*terms)

type terms struct {
	token      string
	fromNow    bool
	endedSince time.Time
	bookmark   time.Duration
	giveUp     time.Duration
	onLost     func(err *Error, wait time.Duration)
}

// silence is how long a stream says nothing until it is lost: two bookmarks should have come.
func (t terms) silence() time.Duration { return 2*t.bookmark + 5*time.Second }

// From begins strictly after a token: of an earlier watch, or of a create's answer, which comes before the first event. Empty is none.
func From(resumeToken string) WatchOption { return func(t *terms) { t.token = resumeToken } }

// FromNow tells only what happens next, without a snapshot. A token goes before it.
func FromNow() WatchOption { return func(t *terms) { t.fromNow = true } }

// EndedSince puts sessions that ended since then into the snapshot of WatchSessions, too. [FromNow] goes before it.
func EndedSince(time time.Time) WatchOption { return func(t *terms) { t.endedSince = time } }

// Bookmark asks for a sign of life after so much silence, 5 seconds to a minute; after twice that and 5 seconds a stream is lost and opened again.
// Default: 15 seconds.
func Bookmark(silence time.Duration) WatchOption { return func(t *terms) { t.bookmark = silence } }

// GiveUpAfter ends the watch with the last error after so much time without a word from the server. Default: never.
func GiveUpAfter(away time.Duration) WatchOption { return func(t *terms) { t.giveUp = away } }

// OnLost is called each time that the watch opens its stream again: with what was wrong and how long it waits before. It must not call the watch.
func OnLost(told func(err *Error, wait time.Duration)) WatchOption {
	return func(t *terms) { t.onLost = told }
}

func (c *Client) watch(ctx context.Context, options []WatchOption) *Watch {
	w := &Watch{ctx: ctx, backoff: c.backoff, terms: terms{bookmark: 15 * time.Second}, lastWord: time.Now()}
	for _, option := range options {
		option(&w.terms)
	}
	w.token = w.terms.token
	w.hide = w.terms.fromNow && w.token == ""
	return w
}

// WatchSession watches one session; the watch ends with io.EOF after its last event. Without [From] it begins with a snapshot.
func (c *Client) WatchSession(ctx context.Context, sessionID string, options ...WatchOption) *Watch {
	w := c.watch(ctx, options)
	w.look = func(ctx context.Context) (*pb.Session, error) {
		answer, err := c.Sessions.GetSession(ctx, &pb.GetSessionRequest{SessionId: sessionID})
		return answer.GetSession(), err
	}
	w.open = func(ctx context.Context, token string) (func() (told, error), error) {
		request := &pb.WatchSessionRequest{SessionId: sessionID, BookmarkInterval: durationpb.New(w.terms.bookmark)}
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
	w := c.watch(ctx, options)
	w.open = func(ctx context.Context, token string) (func() (told, error), error) {
		request := &pb.WatchSessionsRequest{Filter: filter, BookmarkInterval: durationpb.New(w.terms.bookmark)}
		switch {
		case token != "":
			request.Start = &pb.WatchSessionsRequest_ResumeToken{ResumeToken: token}
		case !w.terms.endedSince.IsZero() && !w.terms.fromNow:
			request.Start = &pb.WatchSessionsRequest_EndedSince{EndedSince: timestamppb.New(w.terms.endedSince)}
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
		if w.ctx.Err() != nil {
			return Item{}, w.ctx.Err()
		}
		var missing gap
		switch {
		case errors.Is(err, io.EOF):
			err = w.ended()
		case errors.As(err, &missing):
			lost := &Error{Code: codes.DataLoss, Message: missing.Error()}
			if w.gaps++; w.gaps > mostGaps {
				return Item{}, lost
			}
			err = w.again(lost)
		case w.look != nil && w.reset != "" && Reason(typed(err)) == "SESSION_NOT_FOUND":
			// The one session is not in the database with which the watch was to begin anew. The next stream says so.
			item := Item{Snapshot: &Snapshot{End: &pb.SnapshotEnd{}, Reset: w.reset}}
			w.reset = ""
			return item, nil
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
		w.sessions, w.heard = nil, false
		receive, err := w.open(ctx, w.token)
		if err != nil {
			cancel()
			return item, false, err
		}
		w.receive, w.drop = receive, cancel
	}
	guard := time.AfterFunc(w.terms.silence(), w.drop)
	message, err := w.receive()
	silent := !guard.Stop()
	switch {
	case err != nil && silent:
		return item, false, &Error{Code: codes.Unavailable, Message: fmt.Sprintf("not a word for %s: the connection is lost", w.terms.silence())}
	case err != nil:
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
	w.heard, w.lastWord = true, time.Now()
	if session := message.GetSnapshot(); session != nil {
		w.sessions = append(w.sessions, session)
		return item, false, nil
	}
	if end := message.GetSnapshotEnd(); end != nil {
		if !w.hide {
			item, ok = Item{Snapshot: &Snapshot{Sessions: w.sessions, End: end, Reset: w.reset}}, true
		}
		w.revision, w.sequence, w.reset, w.hide = end.GetRevision(), 0, "", false
		if w.look != nil && len(w.sessions) > 0 {
			w.sequence, w.final = w.sessions[0].GetSequence(), isFinal(w.sessions[0].GetState())
		}
		w.sessions = nil
	}
	if event := message.GetEvent(); event != nil {
		w.failures = 0
		if event.GetRevision() > w.revision {
			if w.look != nil && w.sequence != 0 && event.GetSequence() != w.sequence+1 {
				return item, false, gap{session: event.GetSessionId(), last: w.sequence, after: event.GetSequence()}
			}
			item, ok = Item{Event: event}, true
			w.revision, w.sequence, w.gaps, w.final = event.GetRevision(), event.GetSequence(), 0, isFinal(event.GetToState())
		}
	}
	if bookmark := message.GetBookmark(); bookmark != nil {
		w.revision, w.failures = max(w.revision, bookmark.GetRevision()), 0
	}
	if token := message.GetResumeToken(); token != "" {
		w.token = token
	}
	return item, ok, nil
}

func isFinal(state pb.Session_State) bool {
	return state == pb.Session_STATE_STOPPED || state == pb.Session_STATE_FAILED
}

// over says whether the one session's end was told; the watch of many is never over.
func (w *Watch) over() bool { return w.look != nil && w.final }

// ended waits before the next stream after one that ended in order; io.EOF when that is the end of the watch.
func (w *Watch) ended() error {
	switch {
	case w.over():
		return io.EOF
	case w.look != nil && !w.heard && w.token != "":
		// The token may be that of the last event.
		session, err := w.look(w.ctx)
		if err != nil {
			return w.broken(typed(err))
		}
		if isFinal(session.GetState()) {
			return io.EOF
		}
	}
	return w.again(&Error{Code: codes.Unavailable, Message: "the stream ended before there was an end"})
}

// broken waits after an error before the next stream, or gives the error back when no further stream helps; io.EOF when the session's end was told.
func (w *Watch) broken(err *Error) error {
	switch {
	case err.Retryable():
	case err.Code == codes.ResourceExhausted && err.RetryAfter > 0:
	case err.Reason == "" && slices.Contains(broken, err.Code):
	case w.over():
		return io.EOF
	case err.Reason == "WATCH_COMPACTED" || err.Reason == "WATCH_STORE_REPLACED":
		w.reset, w.token, w.revision, w.sequence, w.hide = err.Reason, "", 0, 0, false
	default:
		return err
	}
	return w.again(err)
}

// broken are codes that, without a reason of the service, are the transport's: a connection that broke in the midst of a stream.
var broken = []codes.Code{codes.Internal, codes.Unknown, codes.Canceled, codes.Aborted, codes.DeadlineExceeded, codes.DataLoss}

// again waits before the next stream; the error is given back when the watch gives up, io.EOF when that is after the session's end, or the
// context's error when that ends.
func (w *Watch) again(err *Error) error {
	wait := w.backoff.wait(w.failures, max(err.RetryAfter, w.backoff.Initial/2))
	w.failures++
	givenUp := w.terms.giveUp > 0 && time.Since(w.lastWord)+wait > w.terms.giveUp
	switch {
	case w.over() && (givenUp || w.failures > mostAfterEnd):
		return io.EOF // what may still follow is not worth waiting for a server that has gone for good
	case givenUp:
		return err
	}
	if w.terms.onLost != nil {
		w.terms.onLost(err, wait)
	}
	return sleep(w.ctx, wait)
}
