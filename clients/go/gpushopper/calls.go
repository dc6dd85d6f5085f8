package gpushopper

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// interceptor is what happens to every call: token, request id, repetition, typed errors.
type interceptor struct {
	token   string
	timeout time.Duration
	backoff Backoff
}

func (i interceptor) named(ctx context.Context) context.Context {
	if i.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+i.token)
}

func (i interceptor) unary(
	ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	ctx = i.named(ctx)
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, i.timeout)
		defer cancel()
	}
	request, id := withRequestID(request)
	repeatable := id != "" || isRead(method)
	for failures := 0; ; failures++ {
		err := invoke(ctx, method, request, reply, connection, options...)
		if err == nil {
			return nil
		}
		failure := typed(err)
		if !repeatable || !failure.Retryable() {
			return failure
		}
		wait := i.backoff.wait(failures, failure.RetryAfter)
		if deadline, _ := ctx.Deadline(); time.Until(deadline) <= wait || sleep(ctx, wait) != nil {
			return failure
		}
	}
}

func (i interceptor) stream(
	ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string, streamer grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return streamer(i.named(ctx), description, connection, method, options...)
}

// isRead says whether a method only looks.
func isRead(method string) bool {
	name := method[strings.LastIndexByte(method, '/')+1:]
	for _, read := range []string{"Get", "List", "Explain", "Wait"} {
		if strings.HasPrefix(name, read) {
			return true
		}
	}
	return false
}

// withRequestID is the request, with an id of its own when it takes one and has none, so that it can be repeated; and that id, if any.
func withRequestID(request any) (any, string) {
	message, ok := request.(proto.Message)
	if !ok {
		return request, ""
	}
	field := message.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil || field.Kind() != protoreflect.StringKind {
		return request, ""
	}
	if id := message.ProtoReflect().Get(field).String(); id != "" {
		return request, id
	}
	named, id := proto.Clone(message), newID()
	named.ProtoReflect().Set(field, protoreflect.ValueOfString(id))
	return named, id
}

// newID is a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
