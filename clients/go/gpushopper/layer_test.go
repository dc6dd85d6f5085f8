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
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
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
	return &pb.GetSessionResponse{Session: &pb.Session{SessionId: "s"}}, nil
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
	of := client(t, "http://"+serve(t, c), gpushopper.WithTimeout(200*time.Millisecond))
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
		of := client(t, "https://localhost:"+port, gpushopper.WithCAFile(path), gpushopper.WithTimeout(time.Second))
		_, err := of.Sessions.GetSession(t.Context(), &pb.GetSessionRequest{SessionId: "s"})
		if (err == nil) != (name == "right.pem") {
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
	return &pb.WatchSessionResponse{
		Message:     &pb.WatchSessionResponse_Event{Event: &pb.SessionEvent{SessionId: "s", Sequence: sequence, Revision: revision}},
		ResumeToken: token(revision),
	}
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
		{snapshot(9), snapshotEnd(30), event(10, 31)},
	}}
	of := client(t, "http://"+serve(t, c))
	watch := of.WatchSession(t.Context(), "s")
	type facts struct {
		reset    string
		sequence int64
	}
	var told []facts
	for {
		item, err := watch.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if item.Snapshot != nil {
			told = append(told, facts{"snapshot " + item.Snapshot.Reset, item.Snapshot.Sessions[0].GetSequence()})
		} else {
			told = append(told, facts{"", item.Event.GetSequence()})
		}
	}
	if want := []facts{{"snapshot ", 3}, {"", 4}, {"", 5}, {"", 6}, {"snapshot WATCH_COMPACTED", 9}, {"", 10}}; !reflect.DeepEqual(told, want) {
		t.Errorf("%v", told)
	}
	if want := []string{"", "", "t12", "t15", "t18", ""}; !reflect.DeepEqual(c.watched, want) || watch.ResumeToken() != "t31" {
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

func TestMoneyIsExactAndNeverRounded(t *testing.T) {
	for text, want := range map[string]*money.Money{
		"0.36": {Nanos: 360_000_000}, "-1.75": {Units: -1, Nanos: -750_000_000}, "0.000000001": {Nanos: 1}, "250": {Units: 250}, "0": {},
		"9007199254740993.999999999": {Units: 9007199254740993, Nanos: 999_999_999},
	} {
		made := gpushopper.Dollars(text)
		if made.GetUnits() != want.GetUnits() || made.GetNanos() != want.GetNanos() || gpushopper.ToDecimal(made).String() != text {
			t.Errorf("%s: %v, %s", text, made, gpushopper.ToDecimal(made))
		}
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
	for _, wrong := range []string{"localhost:8080", "ftp://host", "http://", "http://host/path"} {
		if _, err := gpushopper.New(wrong); err == nil || !strings.Contains(err.Error(), "http://HOST:PORT") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
