package gpushopper

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is how long to wait before a further try: a random part of Initial, doubled with each failure, at most Maximum.
type Backoff struct {
	// Initial bounds the first wait.
	Initial time.Duration
	// Maximum bounds every wait.
	Maximum time.Duration
}

// wait is the time before the try after so many failures in a row; not less than what the server asks for.
func (b Backoff) wait(failures int, atLeast time.Duration) time.Duration {
	most := b.Initial
	for range failures {
		if most >= b.Maximum {
			break
		}
		most *= 2
	}
	return atLeast + time.Duration(rand.Int64N(int64(max(min(most, b.Maximum), 1))))
}

// sleep waits, or ends early with the context's error.
func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
