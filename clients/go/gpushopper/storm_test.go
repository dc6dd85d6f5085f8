package gpushopper_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gpushopper.dev/go/gpushopper"
	pb "gpushopper.dev/go/gpushopper/v1"
	"gpushopper.dev/go/internal/world"
)

// What a watch tells is the log, whatever happens to its connection.
func TestAThousandCutsLoseNothingAndRepeatNothing(t *testing.T) {
	t.Parallel()
	w := world.Start(t)
	ctx := t.Context()
	direct, err := gpushopper.New(w.Direct)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	var ids []string
	for range 3 {
		created, err := direct.Sessions.CreateSession(ctx, &pb.CreateSessionRequest{
			AllowSameOffer: true,
			Target: &pb.CreateSessionRequest_Requirements{Requirements: &pb.Requirements{
				Filter: &pb.OfferFilter{Providers: []string{"tensordock"}, GpuModels: []string{"RTX 4090"}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, created.GetSession().GetSessionId())
	}
	label := func(number int) {
		_, err := direct.Sessions.UpdateSession(ctx, &pb.UpdateSessionRequest{
			SessionId: ids[number%3], Labels: map[string]string{"number": fmt.Sprint(number)},
		})
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}

	client, err := gpushopper.New(w.URL, gpushopper.WithBackoff(gpushopper.Backoff{Initial: 2 * time.Millisecond, Maximum: 50 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// Ends the watch when it is lost: no progress for a minute. The whole length is not limited.
	watching, lost := context.WithCancelCause(ctx)
	watch := client.WatchSessions(watching, nil)
	defer watch.Close()
	var over atomic.Bool
	done := make(chan struct{})
	change := func() {
		number := 0
		for ; ; number++ {
			left, err := w.Ask("storm-left")
			if err != nil {
				lost(err)
				return
			}
			if left == "0" {
				break
			}
			label(number)
			time.Sleep(5 * time.Millisecond)
		}
		over.Store(true)
		// The first event after that ends the watch, whatever it had got before.
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); number++ {
			label(number)
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
		lost(errors.New("the watch told nothing for a minute after the storm"))
	}
	w.Do(t, "storm?cuts=1000")
	written := make(chan struct{})
	go func() {
		defer close(written)
		change()
	}()
	type facts struct {
		revision int64
		id       string
		sequence int64
	}
	of := func(event *pb.SessionEvent) facts {
		return facts{event.GetRevision(), event.GetSessionId(), event.GetSequence()}
	}
	var told []facts
	var began int64
	snapshots := 0
	for {
		item, err := watch.Next()
		if err != nil {
			t.Fatalf("%v (%v)", err, context.Cause(watching))
		}
		if item.Snapshot != nil {
			snapshots++
			began = item.Snapshot.End.GetRevision()
			continue
		}
		told = append(told, of(item.Event))
		if over.Load() {
			break
		}
	}
	close(done)
	<-written
	if left := w.Do(t, "storm-left"); left != "0" {
		t.Fatalf("the watch ended before the storm: %s cuts are left", left)
	}
	if snapshots != 1 {
		t.Errorf("%d snapshots: a watch that can go on needs no second one", snapshots)
	}
	for at, one := range told {
		if one.revision != began+int64(at)+1 {
			t.Fatalf("event %d after revision %d has revision %d", at+1, began, one.revision)
		}
	}
	var logged []facts
	for _, id := range ids {
		for event, err := range direct.SessionEvents(ctx, &pb.ListSessionEventsRequest{SessionId: id, PageSize: 1000}) {
			if err != nil {
				t.Fatal(err)
			}
			if event.GetRevision() > began && event.GetRevision() <= told[len(told)-1].revision {
				logged = append(logged, of(event))
			}
		}
	}
	slices.SortFunc(logged, func(a, b facts) int { return int(a.revision - b.revision) })
	if !slices.Equal(told, logged) || len(logged) < 100 {
		t.Errorf("the watch told %d events, the log has %d", len(told), len(logged))
	}
}
