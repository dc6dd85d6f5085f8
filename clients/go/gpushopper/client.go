// Package gpushopper is the client of Cloud GPU Shopper, which rents verified GPU machines and streams every state change.
//
// A [Client] connects, names calls and repeats what is safe to repeat, and ends calls with typed errors. The messages and
// services of the contract are in gpushopper.dev/go/gpushopper/v1; each says its meaning, its default and an example.
package gpushopper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"os"
	"strings"
	"time"

	pb "gpushopper.dev/go/gpushopper/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// longPoll is how long one WaitSession may take, and grace how long its answer may be on its way.
	longPoll, grace = 30 * time.Second, 10 * time.Second
	// longestWait is how long a wait may take when its context has no deadline.
	longestWait = 30 * time.Minute
)

// Client is a connection to the service. It is safe for concurrent use; make one and keep it. Every RPC is there, by service. Calls get a
// request_id, are repeated while the server is away, as far as that is safe, and end with an [*Error].
type Client struct {
	// Inventory is what can be rented now.
	Inventory pb.InventoryServiceClient
	// Sessions are rented machines.
	Sessions pb.SessionServiceClient
	// Costs are what they cost.
	Costs pb.CostServiceClient
	// Operator is what an operator looks at and orders.
	Operator pb.OperatorServiceClient

	connection *grpc.ClientConn
	backoff    Backoff
}

type settings struct {
	token             *string // nil: not given
	caFile            string
	certFile, keyFile string
	timeout           time.Duration
	backoff           Backoff
	dial              []grpc.DialOption
}

// Option changes how a client connects.
type Option func(*settings)

// WithToken says who is calling; empty is nobody. Default: GPU_SHOPPER_TOKEN or the file GPU_SHOPPER_TOKEN_FILE.
func WithToken(token string) Option { return func(s *settings) { s.token = &token } }

// WithCAFile names certificates (PEM) to trust with https. Default: GPU_SHOPPER_CA_CERT, else the system's.
func WithCAFile(path string) Option { return func(s *settings) { s.caFile = path } }

// WithCertificate names the files (PEM) of your own certificate and its key, for a server that asks for one. Default: GPU_SHOPPER_CLIENT_CERT and
// GPU_SHOPPER_CLIENT_KEY, else none.
func WithCertificate(certFile, keyFile string) Option {
	return func(s *settings) { s.certFile, s.keyFile = certFile, keyFile }
}

// WithTimeout is for a call with all its repetitions, when its context has no deadline. Default: 1 minute.
func WithTimeout(timeout time.Duration) Option { return func(s *settings) { s.timeout = timeout } }

// WithBackoff is how long to wait between two tries. Default: 100 ms, at most 5 s.
func WithBackoff(backoff Backoff) Option { return func(s *settings) { s.backoff = backoff } }

// WithDialOptions gives more options to gRPC.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// New makes a client that connects when it is first used. The URL is http://HOST:PORT, https://HOST:PORT, or HOST:PORT, which is http; when it is
// empty, GPU_SHOPPER_URL, else http://127.0.0.1:8080.
func New(serverURL string, options ...Option) (*Client, error) {
	s := settings{
		caFile:   os.Getenv("GPU_SHOPPER_CA_CERT"),
		certFile: os.Getenv("GPU_SHOPPER_CLIENT_CERT"), keyFile: os.Getenv("GPU_SHOPPER_CLIENT_KEY"),
		timeout: time.Minute,
		backoff: Backoff{Initial: 100 * time.Millisecond, Maximum: 5 * time.Second},
	}
	for _, option := range options {
		option(&s)
	}
	if s.token == nil {
		token, err := tokenOfEnvironment()
		if err != nil {
			return nil, err
		}
		s.token = &token
	}
	if strings.ContainsFunc(*s.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token has characters that no header can carry, such as a space or the end of a line")
	}
	if (s.certFile == "") != (s.keyFile == "") {
		return nil, errors.New("a certificate needs its key: give both GPU_SHOPPER_CLIENT_CERT and GPU_SHOPPER_CLIENT_KEY, or none of them")
	}
	target, secure, err := address(serverURL)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if secure {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if s.caFile != "" {
			roots, err := os.ReadFile(s.caFile)
			if err != nil {
				return nil, fmt.Errorf("certificates to trust: %w", err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(roots) {
				return nil, fmt.Errorf("certificates to trust: %s has none in PEM", s.caFile)
			}
		}
		if s.certFile != "" {
			own, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
			if err != nil {
				return nil, fmt.Errorf("certificate of your own: %w", err)
			}
			config.Certificates = []tls.Certificate{own}
		}
		transport = credentials.NewTLS(config)
	}
	calls := interceptor{token: *s.token, timeout: s.timeout, backoff: s.backoff}
	dial := append([]grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithUnaryInterceptor(calls.unary),
		grpc.WithStreamInterceptor(calls.stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16 << 20)),
		// Dead connections are noticed, and after a cut the next try is made soon.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}, s.dial...)
	connection, err := grpc.NewClient(target, dial...)
	if err != nil {
		return nil, err
	}
	return &Client{
		Inventory:  pb.NewInventoryServiceClient(connection),
		Sessions:   pb.NewSessionServiceClient(connection),
		Costs:      pb.NewCostServiceClient(connection),
		Operator:   pb.NewOperatorServiceClient(connection),
		connection: connection,
		backoff:    s.backoff,
	}, nil
}

// address is the target of a URL and whether it is spoken to by TLS.
func address(serverURL string) (target string, secure bool, err error) {
	if serverURL == "" {
		serverURL = os.Getenv("GPU_SHOPPER_URL")
	}
	if serverURL == "" {
		serverURL = "http://127.0.0.1:8080"
	}
	const allowed = "allowed: http://HOST:PORT, https://HOST:PORT or HOST:PORT"
	if !strings.Contains(serverURL, "://") {
		serverURL = "http://" + serverURL
	}
	parts, err := url.Parse(serverURL)
	switch {
	case err != nil:
		return "", false, errors.New("the server's address makes no sense; " + allowed)
	case parts.User != nil:
		return "", false, errors.New("the server's address has a user; " + allowed + "; a token is given by WithToken or GPU_SHOPPER_TOKEN")
	case parts.Scheme != "http" && parts.Scheme != "https", parts.Hostname() == "", strings.Trim(parts.Path, "/") != "", parts.RawQuery != "", parts.Fragment != "":
		return "", false, fmt.Errorf("%q is no address of a server; %s", serverURL, allowed)
	}
	secure = parts.Scheme == "https"
	port := parts.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[secure]
	}
	host := parts.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port, secure, nil
}

// tokenOfEnvironment is the token that the environment gives, empty when it gives none.
func tokenOfEnvironment() (string, error) {
	token, file := os.Getenv("GPU_SHOPPER_TOKEN"), os.Getenv("GPU_SHOPPER_TOKEN_FILE")
	if token != "" || file == "" {
		return token, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("GPU_SHOPPER_TOKEN_FILE: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Close ends the connection, and with it every watch.
func (c *Client) Close() error { return c.connection.Close() }

// WaitRunning waits until a session runs, verified and ready to log in, for as long as the context allows, or 30 minutes when it has no deadline. When it
// ends instead, or is ending, the error is a [*SessionEndedError].
func (c *Client) WaitRunning(ctx context.Context, sessionID string) (*pb.Session, error) {
	session, err := c.wait(ctx, sessionID, pb.Session_STATE_RUNNING, pb.Session_STATE_STOPPING)
	if err == nil && session.GetState() != pb.Session_STATE_RUNNING {
		return session, &SessionEndedError{Session: session}
	}
	return session, err
}

// WaitEnded waits until a session has ended and every machine of it is proven gone, as long as [Client.WaitRunning] does.
func (c *Client) WaitEnded(ctx context.Context, sessionID string) (*pb.Session, error) {
	return c.wait(ctx, sessionID, pb.Session_STATE_STOPPED, pb.Session_STATE_FAILED)
}

func (c *Client) wait(ctx context.Context, sessionID string, until ...pb.Session_State) (*pb.Session, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longestWait)
		defer cancel()
	}
	request := &pb.WaitSessionRequest{SessionId: sessionID, Until: until, Timeout: durationpb.New(longPoll)}
	state := "of a state that the server did not tell"
	for {
		answer, err := c.waitOnce(ctx, request)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("session %s is still %s: %w", sessionID, state, ctx.Err())
		case err != nil && !typed(err).Retryable() && status.Code(err) != codes.DeadlineExceeded:
			return nil, err
		case err != nil: // the server is away
			_ = sleep(ctx, c.backoff.wait(1, 0))
		case answer.GetReached() || isFinal(answer.GetSession().GetState()):
			return answer.GetSession(), nil
		default:
			state = answer.GetSession().GetState().String()
		}
	}
}

func (c *Client) waitOnce(ctx context.Context, request *pb.WaitSessionRequest) (*pb.WaitSessionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, longPoll+grace)
	defer cancel()
	return c.Sessions.WaitSession(ctx, request)
}

// Offers are all offers that match, over all pages of one snapshot. It stops after an error.
func (c *Client) Offers(ctx context.Context, request *pb.ListOffersRequest) iter.Seq2[*pb.Offer, error] {
	return Pages(request.GetPageToken(), func(token string) ([]*pb.Offer, string, error) {
		page, err := c.Inventory.ListOffers(ctx, &pb.ListOffersRequest{
			Filter: request.GetFilter(), OrderBy: request.GetOrderBy(), PageSize: request.GetPageSize(), PageToken: token,
		})
		return page.GetOffers(), page.GetNextPageToken(), err
	})
}

// ListSessions are all sessions that match, newest first, over all pages. It stops after an error.
func (c *Client) ListSessions(ctx context.Context, request *pb.ListSessionsRequest) iter.Seq2[*pb.Session, error] {
	return Pages(request.GetPageToken(), func(token string) ([]*pb.Session, string, error) {
		page, err := c.Sessions.ListSessions(ctx, &pb.ListSessionsRequest{Filter: request.GetFilter(), PageSize: request.GetPageSize(), PageToken: token})
		return page.GetSessions(), page.GetNextPageToken(), err
	})
}

// SessionEvents are what happened to a session so far, oldest first, over all pages. It stops after an error.
func (c *Client) SessionEvents(ctx context.Context, request *pb.ListSessionEventsRequest) iter.Seq2[*pb.SessionEvent, error] {
	return Pages(request.GetPageToken(), func(token string) ([]*pb.SessionEvent, string, error) {
		page, err := c.Sessions.ListSessionEvents(ctx, &pb.ListSessionEventsRequest{
			SessionId: request.GetSessionId(), PageSize: request.GetPageSize(), PageToken: token,
		})
		return page.GetEvents(), page.GetNextPageToken(), err
	})
}

// Pages are the items of any call that has pages: fetch gives those of the page at a token, and the next page's token.
func Pages[T any](token string, fetch func(token string) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for at := token; ; {
			items, next, err := fetch(at)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			at = next
		}
	}
}
