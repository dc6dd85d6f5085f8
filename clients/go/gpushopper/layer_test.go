package gpushopper_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gpushopper.dev/go/gpushopper"
	pb "gpushopper.dev/go/gpushopper/v1"

	"github.com/shopspring/decimal"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

var quick = gpushopper.WithBackoff(gpushopper.Backoff{Initial: time.Millisecond, Maximum: 5 * time.Millisecond})

// canned answers what it is told to, and keeps what it was asked.
type canned struct {
	pb.UnimplementedSessionServiceServer
	pb.UnimplementedOperatorServiceServer
	lock     sync.Mutex
	created  []*pb.CreateSessionRequest
	watched  []string
	retried  int
	bearers  []string
	failures []error
	streams  [][]any
	state    pb.Session_State
	waits    []pb.Session_State
	until    [][]pb.Session_State
}

func (c *canned) note(ctx context.Context) error {
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
		c.bearers = append(c.bearers, values...)
	}
	if len(c.failures) == 0 {
		return nil
	}
	first := c.failures[0]
	c.failures = c.failures[1:]
	return first
}

func (c *canned) CreateSession(ctx context.Context, request *pb.CreateSessionRequest) (*pb.CreateSessionResponse, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.created = append(c.created, request)
	if err := c.note(ctx); err != nil {
		return nil, err
	}
	return &pb.CreateSessionResponse{Session: &pb.Session{SessionId: "s"}}, nil
}

func (c *canned) GetSession(ctx context.Context, _ *pb.GetSessionRequest) (*pb.GetSessionResponse, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.note(ctx); err != nil {
		return nil, err
	}
	return &pb.GetSessionResponse{Session: &pb.Session{SessionId: "s", State: c.state}}, nil
}

func (c *canned) WaitSession(ctx context.Context, request *pb.WaitSessionRequest) (*pb.WaitSessionResponse, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err := c.note(ctx); err != nil {
		return nil, err
	}
	state := c.waits[0]
	if len(c.waits) > 1 {
		c.waits = c.waits[1:]
	}
	c.until = append(c.until, request.GetUntil())
	return &pb.WaitSessionResponse{Session: &pb.Session{SessionId: "s", State: state}, Reached: slices.Contains(request.GetUntil(), state)}, nil
}

func (c *canned) RetryDestroy(ctx context.Context, _ *pb.RetryDestroyRequest) (*pb.RetryDestroyResponse, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.retried++
	return nil, c.note(ctx)
}

func (c *canned) WatchSession(request *pb.WatchSessionRequest, stream grpc.ServerStreamingServer[pb.WatchSessionResponse]) error {
	c.lock.Lock()
	c.watched = append(c.watched, request.GetResumeToken())
	messages := c.streams[0]
	c.streams = c.streams[1:]
	c.lock.Unlock()
	for _, message := range messages {
		switch message := message.(type) {
		case nil: // it stays open
			<-stream.Context().Done()
		case error:
			return message
		case *pb.WatchSessionResponse:
			if err := stream.Send(message); err != nil {
				return err
			}
		}
	}
	return nil
}

func serve(t *testing.T, c *canned, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	pb.RegisterSessionServiceServer(server, c)
	pb.RegisterOperatorServiceServer(server, c)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func client(t *testing.T, url string, options ...gpushopper.Option) *gpushopper.Client {
	t.Helper()
	one, err := gpushopper.New(url, append([]gpushopper.Option{quick}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close() })
	return one
}

func fault(t *testing.T, code codes.Code, message string, details ...protoadapt.MessageV1) error {
	t.Helper()
	of, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return of.Err()
}

func info(reason string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Domain: "gpushopper", Reason: reason}
}

func unavailable(t *testing.T, reason string) error {
	return fault(t, codes.Unavailable, "come again", info(reason), &errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Millisecond)})
}

func TestACallGetsARequestIDAndKeepsItOverAllTries(t *testing.T) {
	c := &canned{failures: []error{unavailable(t, "RESTARTING"), unavailable(t, "SERVER_DRAINING"), status.Error(codes.Unavailable, "no word from us")}}
	of := client(t, "http://"+serve(t, c), gpushopper.WithToken("t0k"))
	mine := &pb.CreateSessionRequest{}
	if _, err := of.Sessions.CreateSession(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	if len(c.created) != 4 || len(c.created[0].GetRequestId()) != 36 || mine.GetRequestId() != "" {
		t.Fatalf("%v", c.created)
	}
	for _, one := range c.created {
		if one.GetRequestId() != c.created[0].GetRequestId() {
			t.Errorf("another id for the same call: %s", one.GetRequestId())
		}
	}
	if got := strings.Join(c.bearers, ","); got != strings.TrimSuffix(strings.Repeat("Bearer t0k,", 4), ",") {
		t.Errorf("tokens: %s", got)
	}
	if _, err := of.Sessions.CreateSession(t.Context(), &pb.CreateSessionRequest{RequestId: "own"}); err != nil || c.created[4].GetRequestId() != "own" {
		t.Errorf("%v %v", err, c.created[4])
	}
}

func TestWhatMayDoHarmTwiceIsNotRepeated(t *testing.T) {
	c := &canned{failures: []error{unavailable(t, "RESTARTING"), unavailable(t, "RESTARTING")}}
	of := client(t, "http://"+serve(t, c))
	_, err := of.Operator.RetryDestroy(t.Context(), &pb.RetryDestroyRequest{Label: "gs-1"})
	var told *gpushopper.Error
	if !errors.As(err, &told) || told.Reason != "RESTARTING" || !told.Retryable() || told.RetryAfter != 2*time.Millisecond || c.retried != 1 {
		t.Errorf("%v after %d calls", err, c.retried)
	}
	if _, err := of.Sessions.GetSession(t.Context(), &pb.GetSessionRequest{SessionId: "s"}); err != nil {
		t.Errorf("a read is repeated: %v", err)
	}
}

func TestACallGivesUpAtItsDeadline(t *testing.T) {
	c := &canned{}
	for range 10_000 {
		c.failures = append(c.failures, unavailable(t, "RESTARTING"))
	}
	of := client(t, "http://"+serve(t, c), gpushopper.WithTimeout(time.Second))
	_, err := of.Sessions.GetSession(t.Context(), &pb.GetSessionRequest{SessionId: "s"})
	if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	if len(c.failures) > 9_998 {
		t.Error("it was not tried again")
	}
}

func TestEveryDetailOfAnErrorIsTold(t *testing.T) {
	of := info("INVALID_FIELD")
	of.Metadata = map[string]string{"fields": "disk_gb"}
	fields := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "disk_gb", Description: "-1 is out of range"}, {Field: "target", Description: "required"},
	}}
	foreign := &errdetails.ErrorInfo{Domain: "elsewhere.example", Reason: "NOPE"}
	c := &canned{failures: []error{fault(t, codes.InvalidArgument, "two fields are wrong", of, fields), fault(t, codes.NotFound, "not ours", foreign)}}
	one := client(t, "http://"+serve(t, c))
	_, err := one.Sessions.CreateSession(t.Context(), &pb.CreateSessionRequest{})
	var told *gpushopper.Error
	if !errors.As(err, &told) {
		t.Fatal(err)
	}
	violations := []gpushopper.Violation{{Field: "disk_gb", Description: "-1 is out of range"}, {Field: "target", Description: "required"}}
	if told.Code != codes.InvalidArgument || gpushopper.Reason(err) != "INVALID_FIELD" || told.Metadata["fields"] != "disk_gb" ||
		!reflect.DeepEqual(told.Violations, violations) || told.Retryable() {
		t.Errorf("%+v", told)
	}
	_, err = one.Sessions.GetSession(t.Context(), &pb.GetSessionRequest{})
	if status.Code(err) != codes.NotFound || gpushopper.Reason(err) != "" {
		t.Errorf("a reason of somebody else is none of ours: %v", err)
	}
}

// certificate makes a certificate for localhost that signs itself, and its PEM.
func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTLSTrustsTheCAThatItIsGiven(t *testing.T) {
	pair, roots := certificate(t)
	_, others := certificate(t)
	c := &canned{}
	address := serve(t, c, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	_, port, _ := net.SplitHostPort(address)
	for name, pem := range map[string][]byte{"right.pem": roots, "wrong.pem": others} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		right, limit := name == "right.pem", time.Second
		if right {
			limit = time.Minute
		}
		of := client(t, "https://localhost:"+port, gpushopper.WithCAFile(path), gpushopper.WithTimeout(limit))
		_, err := of.Sessions.GetSession(t.Context(), &pb.GetSessionRequest{SessionId: "s"})
		if (err == nil) != right {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAServerThatAsksForACertificateGetsOne(t *testing.T) {
	pair, roots := certificate(t)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certFile, keyFile := filepath.Join(folder, "me.pem"), filepath.Join(folder, "me.key")
	for path, text := range map[string][]byte{certFile: roots, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	asks := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	_, port, _ := net.SplitHostPort(serve(t, &canned{}, grpc.Creds(credentials.NewTLS(asks))))
	with := client(t, "https://localhost:"+port, gpushopper.WithCAFile(certFile), gpushopper.WithCertificate(certFile, keyFile))
	if _, err := with.Sessions.GetSession(t.Context(), &pb.GetSessionRequest{SessionId: "s"}); err != nil {
		t.Error(err)
	}
	without := client(t, "https://localhost:"+port, gpushopper.WithCAFile(certFile), gpushopper.WithTimeout(300*time.Millisecond))
	if _, err := without.Sessions.GetSession(t.Context(), &pb.GetSessionRequest{SessionId: "s"}); err == nil {
		t.Error("it was let in without one")
	}
}

func event(sequence, revision int64) *pb.WatchSessionResponse {
	return toState(sequence, revision, pb.Session_STATE_RUNNING)
}

// last is an event after which the session's watch may end.
func last(sequence, revision int64) *pb.WatchSessionResponse {
	return toState(sequence, revision, pb.Session_STATE_STOPPED)
}

func toState(sequence, revision int64, state pb.Session_State) *pb.WatchSessionResponse {
	event := &pb.SessionEvent{SessionId: "s", Sequence: sequence, Revision: revision, ToState: state}
	return &pb.WatchSessionResponse{Message: &pb.WatchSessionResponse_Event{Event: event}, ResumeToken: token(revision)}
}

func token(revision int64) string { return "t" + decimal.NewFromInt(revision).String() }

func snapshot(sequence int64) *pb.WatchSessionResponse {
	return &pb.WatchSessionResponse{Message: &pb.WatchSessionResponse_Snapshot{Snapshot: &pb.Session{SessionId: "s", Sequence: sequence}}}
}

func snapshotEnd(revision int64) *pb.WatchSessionResponse {
	return &pb.WatchSessionResponse{
		Message: &pb.WatchSessionResponse_SnapshotEnd{SnapshotEnd: &pb.SnapshotEnd{Revision: revision}}, ResumeToken: token(revision),
	}
}

// all is what a watch tells until it ends: sequences, and snapshots with that of their session.
func all(watch *gpushopper.Watch) (told []string, err error) {
	for {
		item, err := watch.Next()
		switch {
		case errors.Is(err, io.EOF):
			return told, nil
		case err != nil:
			return told, err
		case item.Snapshot != nil:
			var first *pb.Session
			if len(item.Snapshot.Sessions) > 0 {
				first = item.Snapshot.Sessions[0]
			}
			told = append(told, strings.TrimSpace(fmt.Sprint("snapshot ", first.GetSequence(), " ", item.Snapshot.Reset)))
		default:
			told = append(told, fmt.Sprint(item.Event.GetSequence()))
		}
	}
}

func TestASilentStreamIsLostAndOpenedAgainFromItsToken(t *testing.T) {
	c := &canned{streams: [][]any{{snapshot(1), snapshotEnd(1), nil}, {last(2, 2)}}}
	var lost []string
	note := gpushopper.OnLost(func(err *gpushopper.Error, _ time.Duration) { lost = append(lost, err.Error()) })
	told, err := all(client(t, "http://"+serve(t, c)).WatchSession(t.Context(), "s", gpushopper.Bookmark(10*time.Millisecond), note))
	if err != nil || !slices.Equal(told, []string{"snapshot 1", "2"}) || !slices.Equal(c.watched, []string{"", "t1"}) {
		t.Errorf("%v %v %v", told, err, c.watched)
	}
	if !slices.Equal(lost, []string{"Unavailable: not a word for 5.02s: the connection is lost"}) {
		t.Errorf("%q", lost)
	}
}

func TestAWatchGoesOnAfterWhatBreaksConnectionsAndAfterWhatWillPass(t *testing.T) {
	broken := []codes.Code{codes.Internal, codes.Unknown, codes.Canceled, codes.Aborted, codes.DeadlineExceeded, codes.DataLoss}
	c := &canned{}
	of := client(t, "http://"+serve(t, c))
	for _, code := range broken {
		c.streams = append(c.streams, []any{status.Error(code, "no word from us")})
	}
	soon := &errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Millisecond)}
	c.streams = append(c.streams, []any{fault(t, codes.ResourceExhausted, "slower", info("RATE_LIMITED"), soon)}, []any{snapshot(1), snapshotEnd(1)}, []any{last(2, 2)})
	var waits []time.Duration
	note := gpushopper.OnLost(func(_ *gpushopper.Error, wait time.Duration) { waits = append(waits, wait) })
	if told, err := all(of.WatchSession(t.Context(), "s", note)); err != nil || len(told) != 2 {
		t.Errorf("%v %v", told, err)
	}
	if len(waits) != 8 || slices.Min(waits) <= 0 {
		t.Errorf("also after an end in order there is a wait: %v", waits)
	}
	for _, code := range broken {
		c.streams = [][]any{{fault(t, code, "ours", info("INTERNAL"))}}
		if _, err := all(of.WatchSession(t.Context(), "s")); gpushopper.Reason(err) != "INTERNAL" {
			t.Errorf("%s: %v", code, err)
		}
	}
	c.streams = [][]any{{fault(t, codes.ResourceExhausted, "too many", info("TOO_MANY_STREAMS"))}}
	if _, err := all(of.WatchSession(t.Context(), "s")); gpushopper.Reason(err) != "TOO_MANY_STREAMS" {
		t.Error(err)
	}
}

func TestFromNowTellsOnlyWhatHappensNextAndLosesNothingBeforeTheFirstEvent(t *testing.T) {
	c := &canned{streams: [][]any{
		{snapshot(3), snapshotEnd(10), unavailable(t, "RESTARTING")},
		{event(4, 12), fault(t, codes.OutOfRange, "too old", info("WATCH_COMPACTED"))},
		{snapshot(9), snapshotEnd(30), last(10, 31)},
	}}
	told, err := all(client(t, "http://"+serve(t, c)).WatchSession(t.Context(), "s", gpushopper.FromNow()))
	if err != nil || !slices.Equal(told, []string{"4", "snapshot 9 WATCH_COMPACTED", "10"}) || !slices.Equal(c.watched, []string{"", "t10", ""}) {
		t.Errorf("%v %v %v", told, err, c.watched)
	}
}

func TestATokenOfAfterTheEndEndsTheWatchAndOneOfBeforeDoesNot(t *testing.T) {
	c := &canned{streams: [][]any{{}, {last(5, 7)}, {}}, state: pb.Session_STATE_RUNNING}
	of := client(t, "http://"+serve(t, c))
	if told, err := all(of.WatchSession(t.Context(), "s", gpushopper.From("t6"))); err != nil || !slices.Equal(told, []string{"5"}) {
		t.Errorf("it was not the end: %v %v", told, err)
	}
	c.state = pb.Session_STATE_STOPPED
	if told, err := all(of.WatchSession(t.Context(), "s", gpushopper.From("t7"))); err != nil || len(told) != 0 {
		t.Errorf("%v %v", told, err)
	}
}

func TestAWatchWhoseSessionHasEndedDoesNotWaitForAServerThatIsGone(t *testing.T) {
	gone := []any{unavailable(t, "RESTARTING")}
	c := &canned{streams: [][]any{{last(5, 7), gone[0]}, {last(6, 8), gone[0]}, gone, gone, gone, gone}}
	of := client(t, "http://"+serve(t, c))
	// What may follow the end is looked for, and not for ever.
	if told, err := all(of.WatchSession(t.Context(), "s", gpushopper.From("t6"))); err != nil || !slices.Equal(told, []string{"5", "6"}) {
		t.Errorf("%v %v", told, err)
	}
	if !slices.Equal(c.watched, []string{"t6", "t7", "t8", "t8", "t8"}) {
		t.Error(c.watched)
	}
	c.streams = [][]any{{last(5, 7), gone[0]}, {fault(t, codes.OutOfRange, "another one", info("WATCH_STORE_REPLACED"))}}
	if told, err := all(of.WatchSession(t.Context(), "s", gpushopper.From("t6"))); err != nil || !slices.Equal(told, []string{"5"}) {
		t.Errorf("%v %v", told, err)
	}
	c.streams = [][]any{{last(5, 7), gone[0]}}
	if told, err := all(of.WatchSession(t.Context(), "s", gpushopper.From("t6"), gpushopper.GiveUpAfter(1))); err != nil || !slices.Equal(told, []string{"5"}) {
		t.Errorf("%v %v", told, err)
	}
}

func TestASessionThatAReplacedDatabaseDoesNotKnowIsToldAsAResetAndThenAsAnError(t *testing.T) {
	unknown := []any{fault(t, codes.NotFound, "no such session", info("SESSION_NOT_FOUND"))}
	replaced := []any{fault(t, codes.OutOfRange, "another one", info("WATCH_STORE_REPLACED"))}
	c := &canned{streams: [][]any{{event(5, 7), unavailable(t, "RESTARTING")}, replaced, unknown, unknown}}
	told, err := all(client(t, "http://"+serve(t, c)).WatchSession(t.Context(), "s", gpushopper.From("t6")))
	if gpushopper.Reason(err) != "SESSION_NOT_FOUND" || !slices.Equal(told, []string{"5", "snapshot 0 WATCH_STORE_REPLACED"}) {
		t.Errorf("%v %v", told, err)
	}
}

func TestAWatchGivesUpWhenItIsToldTo(t *testing.T) {
	c := &canned{streams: [][]any{{snapshot(1), snapshotEnd(1)}}}
	for range 10_000 {
		c.streams = append(c.streams, []any{unavailable(t, "RESTARTING")})
	}
	_, err := all(client(t, "http://"+serve(t, c)).WatchSession(t.Context(), "s", gpushopper.GiveUpAfter(200*time.Millisecond)))
	if gpushopper.Reason(err) != "RESTARTING" {
		t.Error(err)
	}
}

func TestAWaitEndsWithWhatIsWaitedForOrSaysWhyNot(t *testing.T) {
	c := &canned{failures: []error{unavailable(t, "RESTARTING")}, waits: []pb.Session_State{pb.Session_STATE_PROVISIONING, pb.Session_STATE_RUNNING}}
	of := client(t, "http://"+serve(t, c))
	if session, err := of.WaitRunning(t.Context(), "s"); err != nil || session.GetState() != pb.Session_STATE_RUNNING {
		t.Errorf("%v %v", session, err)
	}
	c.waits = []pb.Session_State{pb.Session_STATE_STOPPING}
	var ended *gpushopper.SessionEndedError
	if _, err := of.WaitRunning(t.Context(), "s"); !errors.As(err, &ended) {
		t.Error(err)
	}
	c.waits = []pb.Session_State{pb.Session_STATE_STOPPING, pb.Session_STATE_FAILED}
	if session, err := of.WaitEnded(t.Context(), "s"); err != nil || session.GetState() != pb.Session_STATE_FAILED {
		t.Errorf("%v %v", session, err)
	}
	c.waits = []pb.Session_State{pb.Session_STATE_PENDING}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := of.WaitRunning(ctx, "s"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "session s is still STATE_PENDING") {
		t.Error(err)
	}
}

func TestAWatchGoesOnFromItsLastTokenAndSeesGapsAndRepeats(t *testing.T) {
	bookmark := &pb.WatchSessionResponse{Message: &pb.WatchSessionResponse_Bookmark{Bookmark: &pb.Bookmark{Revision: 18}}, ResumeToken: "t18"}
	c := &canned{streams: [][]any{
		// Cut in the midst of a snapshot: it is taken from the start.
		{snapshot(3), unavailable(t, "RESTARTING")},
		{snapshot(3), snapshotEnd(10), event(4, 12), status.Error(codes.Internal, "the connection broke")},
		// A repeat, and then a gap: asked for again from the last token.
		{event(4, 12), event(5, 15), event(7, 19)},
		{event(6, 17), bookmark, unavailable(t, "SERVER_DRAINING")},
		{fault(t, codes.OutOfRange, "too old", info("WATCH_COMPACTED"))},
		// An end in order is not the end of a session that goes on.
		{snapshot(9), snapshotEnd(30)},
		{last(10, 31)},
	}}
	of := client(t, "http://"+serve(t, c))
	watch := of.WatchSession(t.Context(), "s")
	if told, err := all(watch); err != nil || !slices.Equal(told, []string{"snapshot 3", "4", "5", "6", "snapshot 9 WATCH_COMPACTED", "10"}) {
		t.Errorf("%v %v", told, err)
	}
	if want := []string{"", "", "t12", "t15", "t18", "", "t30"}; !reflect.DeepEqual(c.watched, want) || watch.ResumeToken() != "t31" {
		t.Errorf("%v %s", c.watched, watch.ResumeToken())
	}

	c.streams = [][]any{{fault(t, codes.NotFound, "no such session", info("SESSION_NOT_FOUND"))}}
	if _, err := of.WatchSession(t.Context(), "s").Next(); gpushopper.Reason(err) != "SESSION_NOT_FOUND" {
		t.Errorf("%v", err)
	}
	// A gap that stays is not hidden.
	c.streams = [][]any{{snapshot(1), snapshotEnd(1), event(3, 3)}, {event(3, 3)}, {event(3, 3)}, {event(3, 3)}, {event(3, 3)}}
	watch = of.WatchSession(t.Context(), "s")
	if _, err := watch.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Next(); err == nil || !strings.Contains(err.Error(), "event 3 of session s came after event 1") {
		t.Errorf("%v", err)
	}
	// A context that ends ends the wait.
	c.streams = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := of.WatchSession(ctx, "s").Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// exact is an amount that is in dollars.
func exact(amount *money.Money) decimal.Decimal {
	value, err := gpushopper.ToDecimal(amount)
	if err != nil {
		panic(err)
	}
	return value
}

func TestMoneyIsExactAndNeverRounded(t *testing.T) {
	for text, want := range map[string]*money.Money{
		"0.36": {Nanos: 360_000_000}, "-1.75": {Units: -1, Nanos: -750_000_000}, "0.000000001": {Nanos: 1}, "250": {Units: 250}, "0": {},
		"9007199254740993.999999999": {Units: 9007199254740993, Nanos: 999_999_999},
	} {
		made := gpushopper.Dollars(text)
		if made.GetUnits() != want.GetUnits() || made.GetNanos() != want.GetNanos() || exact(made).String() != text {
			t.Errorf("%s: %v, %s", text, made, exact(made))
		}
	}
	if amount, err := gpushopper.ToDecimal(&money.Money{CurrencyCode: "EUR", Units: 1}); err == nil || !strings.Contains(err.Error(), "allowed: USD") {
		t.Errorf("%s, %v", amount, err)
	}
	for _, text := range []string{"0.0000000001", "9223372036854775808", "1e300"} {
		if made, err := gpushopper.FromDecimal(decimal.RequireFromString(text)); err == nil {
			t.Errorf("%s: %v", text, made)
		}
	}
}

func TestAKeyIsForItsOwnerAndNeverWrittenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := gpushopper.SaveKey(path, "SECRET"); err != nil {
		t.Fatal(err)
	}
	if err := gpushopper.SaveKey(path, "OTHER"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	about, err := os.Stat(path)
	text, _ := os.ReadFile(path)
	if err != nil || about.Mode().Perm() != 0o600 || string(text) != "SECRET\n" {
		t.Errorf("%v %v %q", err, about.Mode(), text)
	}
	if err := gpushopper.SaveKey(path+".none", ""); err == nil {
		t.Error("an empty key is none")
	}
}

func TestAWrongAddressIsToldAtOnce(t *testing.T) {
	for _, wrong := range []string{
		"ftp://host", "http://", "http://host/path", "http://host?query=1", "http://host#part", "http://host:port", "https://me:s3cret@host",
	} {
		_, err := gpushopper.New(wrong)
		if err == nil || !strings.Contains(err.Error(), "allowed: http://HOST:PORT, https://HOST:PORT or HOST:PORT") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestWhatIsNotGivenComesFromTheEnvironment(t *testing.T) {
	c := &canned{}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(" from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GPU_SHOPPER_URL", serve(t, c)) // without a scheme it is http
	t.Setenv("GPU_SHOPPER_TOKEN_FILE", file)
	t.Setenv("GPU_SHOPPER_CA_CERT", "")
	ask := func(options ...gpushopper.Option) {
		t.Helper()
		if _, err := client(t, "", options...).Sessions.GetSession(t.Context(), &pb.GetSessionRequest{SessionId: "s"}); err != nil {
			t.Error(err)
		}
	}
	ask()
	t.Setenv("GPU_SHOPPER_TOKEN", "from-variable")
	ask()
	ask(gpushopper.WithToken("given"))
	ask(gpushopper.WithToken(""))
	if got := strings.Join(c.bearers, ","); got != "Bearer from-file,Bearer from-variable,Bearer given" {
		t.Error(got)
	}
	t.Setenv("GPU_SHOPPER_CLIENT_CERT", "me.pem")
	if _, err := gpushopper.New(""); err == nil || !strings.Contains(err.Error(), "GPU_SHOPPER_CLIENT_KEY") {
		t.Error(err)
	}
}
