package gpushopper

import (
	"errors"
	"fmt"
	"maps"
	"time"

	pb "gpushopper.dev/go/gpushopper/v1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const domain = "gpushopper"

// Error is what a call of the service ends with when it is refused or does not get through. Get it with errors.As, or its reason with [Reason].
type Error struct {
	// Code is the gRPC code.
	Code codes.Code
	// Reason is a stable name such as NO_CAPACITY, see the table in the service's README. Empty when the service told nothing, which is the case when a
	// call did not get through.
	Reason string
	// Message says for people what happened and what to do.
	Message string
	// Metadata has the variables of the message: relax_field, max_expire_time, …
	Metadata map[string]string
	// Violations are all wrong fields of the request.
	Violations []Violation
	// RetryAfter is how long to wait before trying again, when the service told; else 0.
	RetryAfter time.Duration

	status *status.Status
}

// Violation is a wrong field of a request.
type Violation struct {
	// Field is its path: requirements.filter.gpu_count.
	Field string
	// Description is its value and what is allowed.
	Description string
}

// Error is the code, the reason and the message.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s %s: %s", e.Code, e.Reason, e.Message)
}

// Retryable says whether the same call may work later without any change: the code is Unavailable.
func (e *Error) Retryable() bool { return e.Code == codes.Unavailable }

// GRPCStatus lets status.FromError and status.Code read the error.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Reason is the reason of an error of the service; empty for any other error and for nil.
func Reason(err error) string {
	var of *Error
	if errors.As(err, &of) {
		return of.Reason
	}
	return ""
}

// SessionEndedError says that a session ended before it came to what was waited for.
type SessionEndedError struct {
	// Session is the session after its end: EndReason and Error say why.
	Session *pb.Session
}

// Error names the session and why it ended.
func (e *SessionEndedError) Error() string {
	why := e.Session.GetError()
	if why == "" {
		why = e.Session.GetStatusMessage()
	}
	return fmt.Sprintf("session %s has ended: %s", e.Session.GetSessionId(), why)
}

// typed reads ErrorInfo, BadRequest and RetryInfo out of an error of gRPC.
func typed(err error) *Error {
	var already *Error
	if errors.As(err, &already) {
		return already
	}
	of := status.Convert(err)
	e := &Error{Code: of.Code(), Message: of.Message(), status: of}
	for _, detail := range of.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				e.Reason, e.Metadata = detail.GetReason(), maps.Clone(detail.GetMetadata())
			}
		case *errdetails.BadRequest:
			for _, field := range detail.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{Field: field.GetField(), Description: field.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return e
}
