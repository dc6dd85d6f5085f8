package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gpushopper.dev/go/gpushopper"
	pb "gpushopper.dev/go/gpushopper/v1"
	"gpushopper.dev/go/internal/world"

	"github.com/shopspring/decimal"
	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// patience is a bound for what hangs, not for what is slow.
const patience = 5 * time.Minute

// stage is a world, a client in it, and the scheduler as its users run it.
type stage struct {
	*testing.T
	world   *world.World
	client  *gpushopper.Client
	program string
	key     string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, world: world.Start(t), program: filepath.Join(t.TempDir(), "fleet"), key: filepath.Join(t.TempDir(), "key.pub")}
	if out, err := exec.Command("go", "build", "-o", s.program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(world.Folder(), "conformance", "scenario.json"))
	if err != nil {
		t.Fatal(err)
	}
	var scenario struct {
		PublicKey string `json:"public_key"`
	}
	if err := json.Unmarshal(text, &scenario); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.key, []byte(scenario.PublicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.client, err = gpushopper.New(s.world.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.client.Close() })
	return s
}

type scheduler struct {
	*exec.Cmd
	log string
}

func (s *stage) schedule(name string, arguments ...string) *scheduler {
	s.Helper()
	path := filepath.Join(filepath.Dir(s.key), name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.Fatal(err)
	}
	defer log.Close()
	child := exec.Command(s.program, append([]string{"-name", name, "-public-key", s.key}, arguments...)...)
	child.Env = append(os.Environ(), "GPU_SHOPPER_URL="+s.world.URL)
	child.Stdout, child.Stderr = log, log
	if err := child.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = child.Process.Kill() })
	return &scheduler{child, path}
}

func (c *scheduler) said() string {
	text, _ := os.ReadFile(c.log)
	return string(text)
}

func (s *stage) until(c *scheduler, what string, holds func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("it never came to: %s\n%s", what, c.said())
		}
	}
}

func (s *stage) sessions(name string) (all []*pb.Session) {
	s.Helper()
	filter := &pb.SessionFilter{Labels: map[string]string{"fleet": name}}
	for session, err := range s.client.ListSessions(s.Context(), &pb.ListSessionsRequest{Filter: filter}) {
		if err != nil {
			s.Fatal(err)
		}
		all = append(all, session)
	}
	return all
}

func (s *stage) running(name string) (ids []string) {
	for _, session := range s.sessions(name) {
		if session.GetState() == pb.Session_STATE_RUNNING {
			ids = append(ids, session.GetSessionId())
		}
	}
	return ids
}

// alive are the labels of the machines that are there, by their native ids.
func (s *stage) alive() map[string]string {
	s.Helper()
	var truth struct {
		Machines []struct {
			NativeID string `json:"native_id"`
			Label    string `json:"label"`
			Alive    bool   `json:"alive"`
		} `json:"machines"`
	}
	if err := json.Unmarshal([]byte(world.Get(s.T, s.world.Vastai+"/_sim/truth")), &truth); err != nil {
		s.Fatal(err)
	}
	labels := map[string]string{}
	for _, one := range truth.Machines {
		if one.Alive {
			labels[one.NativeID] = one.Label
		}
	}
	return labels
}

func (s *stage) preempt(id string) {
	s.Helper()
	for native, label := range s.alive() {
		if strings.Contains(label, id) {
			world.Post(s.T, s.world.Vastai+"/_sim/preempt/"+native)
			return
		}
	}
	s.Fatalf("%s has no machine", id)
}

// mostAtOnce is by the log how many sessions were alive at the same time, and what those that ran cost per hour together.
func (s *stage) mostAtOnce(name string) (most int, dearest decimal.Decimal) {
	s.Helper()
	var events []*pb.SessionEvent
	for _, session := range s.sessions(name) {
		for event, err := range s.client.SessionEvents(s.Context(), &pb.ListSessionEventsRequest{SessionId: session.GetSessionId()}) {
			if err != nil {
				s.Fatal(err)
			}
			events = append(events, event)
		}
	}
	slices.SortFunc(events, func(a, b *pb.SessionEvent) int { return int(a.GetRevision() - b.GetRevision()) })
	now := map[string]*pb.Session{}
	for _, event := range events {
		now[event.GetSessionId()] = event.GetSession()
		alive, price := 0, decimal.Zero
		for _, session := range now {
			if isAlive(session) {
				alive++
			}
			if session.GetState() == pb.Session_STATE_RUNNING || session.GetState() == pb.Session_STATE_STOPPING {
				price = price.Add(exact(session.GetPrice().GetTotalPerHour()))
			}
		}
		most, dearest = max(most, alive), decimal.Max(dearest, price)
	}
	return most, dearest
}

func TestMachinesAreKeptOverPreemptionsCutsAndKills(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	terms := []string{"-wanted", "3", "-max-price", "0.50", "-per-hour", "3", "-total", "20", "-interruptible"}
	s.world.Do(t, "storm?cuts=40")
	fleet := s.schedule("kept", terms...)
	s.until(fleet, "three running", func() bool { return len(s.running("kept")) == 3 })

	first := s.running("kept")
	s.preempt(first[0])
	s.preempt(first[1])
	s.world.Do(t, "restart")
	s.until(fleet, "three running again, without the two that were taken away", func() bool {
		now := s.running("kept")
		return len(now) == 3 && !slices.Contains(now, first[0]) && !slices.Contains(now, first[1])
	})

	// The scheduler dies without a word; another one finds everything and changes nothing.
	before := s.running("kept")
	_ = fleet.Process.Kill()
	_ = fleet.Wait()
	fleet = s.schedule("kept", terms...)
	s.until(fleet, "it has looked", func() bool { return strings.Contains(fleet.said(), "5 sessions so far") })
	s.preempt(s.running("kept")[0])
	s.until(fleet, "three again", func() bool { return len(s.running("kept")) == 3 && len(s.sessions("kept")) == 6 })
	after := s.running("kept")
	if kept := slices.DeleteFunc(before, func(id string) bool { return !slices.Contains(after, id) }); len(kept) != 2 {
		t.Errorf("only %v of them were kept", kept)
	}

	if err := fleet.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := fleet.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, fleet.said())
	}
	var reasons, places []string
	cost := decimal.Zero
	for _, session := range s.sessions("kept") {
		if !hasEnded(session) {
			t.Errorf("%s is %s", session.GetSessionId(), session.GetState())
		}
		reasons = append(reasons, strings.TrimPrefix(session.GetEndReason().String(), "END_REASON_"))
		places = append(places, session.GetLabels()["slot"]+"/"+session.GetLabels()["generation"])
		cost = cost.Add(exact(session.GetCost().GetCost()))
	}
	slices.Sort(reasons)
	if got := strings.Join(reasons, " "); got != "COMPLETED COMPLETED COMPLETED PREEMPTED PREEMPTED PREEMPTED" {
		t.Error(got)
	}
	slices.Sort(places)
	if len(slices.Compact(places)) != 6 {
		t.Errorf("a generation was made twice: %v", places)
	}
	if most, dearest := s.mostAtOnce("kept"); most != 3 || dearest.GreaterThan(decimal.NewFromInt(3)) {
		t.Errorf("%d at once, for $%s/h: never more than wanted", most, dearest)
	}
	if left := s.alive(); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
	told := regexp.MustCompile(`all gone; the fleet has cost \$(\S+)`).FindStringSubmatch(fleet.said())
	if told == nil || !decimal.RequireFromString(told[1]).Equal(cost) {
		t.Errorf("it has cost $%s, and the scheduler says %v", cost, told)
	}
}

func TestSpendingLimitsHold(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	// Per hour: what runs costs much less than 0.60, and one more machine is allowed for as long as it could cost 0.60 in all.
	hourly := s.schedule("hourly", "-wanted", "4", "-max-price", "0.40", "-per-hour", "0.60")
	s.until(hourly, "the limit is told", func() bool { return strings.Contains(hourly.said(), "/h is allowed") })
	// In all: each could cost 0.40 times 2; a third one does not fit.
	terms := []string{"-wanted", "4", "-max-price", "0.40", "-rental", "2h", "-per-hour", "9", "-total", "2", "-on-exit", "leave"}
	total := s.schedule("total", terms...)
	s.until(total, "the limit is told", func() bool { return strings.Contains(total.said(), "$2 is allowed") })
	s.until(total, "two running", func() bool { return len(s.running("total")) == 2 })
	s.end(total)
	most := decimal.Zero
	for _, session := range s.sessions("total") {
		if session.GetState() != pb.Session_STATE_RUNNING {
			t.Errorf("left by choice, and it is %s", session.GetState())
		}
		most = most.Add(exact(session.GetSpec().GetMaxTotalCost()))
	}
	if most.IsZero() || most.GreaterThan(decimal.NewFromInt(2)) {
		t.Errorf("all of them may cost $%s", most)
	}
	s.end(hourly)
	if number, dearest := s.mostAtOnce("hourly"); number < 1 || number > 3 || dearest.GreaterThan(decimal.RequireFromString("0.60")) {
		t.Error(fmt.Sprint(number, " at once for ", dearest))
	}
}

func (s *stage) end(c *scheduler) {
	s.Helper()
	_ = c.Process.Signal(syscall.SIGTERM)
	if err := c.Wait(); err != nil {
		s.Errorf("%v\n%s", err, c.said())
	}
}

func TestAnotherPlanEndsWhatIsTooMuchAndReplacesAnotherGPU(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	terms := []string{"-max-price", "0.60", "-per-hour", "3", "-rental", "1200s", "-on-exit", "leave"}
	one := s.schedule("planned", append([]string{"-wanted", "2"}, terms...)...)
	s.until(one, "two running", func() bool { return len(s.running("planned")) == 2 })
	s.end(one)
	alive := func() (gpus []string) {
		for _, session := range s.sessions("planned") {
			if isAlive(session) {
				gpus = append(gpus, session.GetGpuModel())
			}
		}
		return gpus
	}
	limit := decimal.New(-1, -3)
	for _, session := range s.sessions("planned") {
		limit = limit.Add(exact(session.GetPrice().GetTotalPerHour()))
	}
	one = s.schedule("planned", append(append([]string{"-wanted", "2"}, terms...), "-per-hour", limit.String())...)
	s.until(one, "one, within the limit", func() bool { return len(alive()) == 1 })
	s.end(one)
	if !strings.Contains(one.said(), "slot 1: ") || !strings.Contains(one.said(), "/h, and $"+limit.String()+"/h is allowed") || len(s.sessions("planned")) != 2 {
		t.Errorf("the lower slot stays, and it says why:\n%s", one.said())
	}
	one = s.schedule("planned", append([]string{"-wanted", "1", "-gpu", "RTX 3090"}, terms...)...)
	s.until(one, "one machine of the other kind", func() bool {
		return slices.Equal(alive(), []string{"RTX 3090"}) && len(s.running("planned")) == 1
	})
	s.end(one)
	one = s.schedule("planned", append([]string{"-wanted", "0"}, terms...)...)
	s.until(one, "none", func() bool { return len(alive()) == 0 })
	s.end(one)
}

// exact is an amount that is in dollars.
func exact(amount *money.Money) decimal.Decimal {
	value, err := gpushopper.ToDecimal(amount)
	if err != nil {
		panic(err)
	}
	return value
}

func TestTheServerIsAwayWhileTheWatchSaysSoAndNotUntilTheNextEvent(t *testing.T) {
	f := &fleet{}
	gone := &gpushopper.Error{Code: codes.Unavailable, Message: "gone"}
	f.onLost(gone, time.Hour)
	if !f.away() {
		t.Error("it waits for the server")
	}
	f.onLost(gone, -lostFor)
	if f.away() {
		t.Error("it is connected again, though nothing has happened yet")
	}
}

func TestItStopsAlsoWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.Addr().String()
	_ = nobody.Close()
	folder := t.TempDir()
	s := &stage{T: t, world: &world.World{URL: "http://" + address}, program: filepath.Join(folder, "fleet"), key: filepath.Join(folder, "key.pub")}
	if out, err := exec.Command("go", "build", "-o", s.program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(s.key, []byte("ssh-ed25519 AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	one := s.schedule("away")
	s.until(one, "it says that it waits", func() bool { return strings.Contains(one.said(), "waiting for the server") })
	_ = one.Process.Signal(syscall.SIGTERM)
	if err := one.Wait(); err == nil || !strings.Contains(one.said(), "machines that go on until their limits: 0 that are known") {
		t.Errorf("%v\n%s", err, one.said())
	}
}

// refusing answers creates by sessions that are about to fail, or by an error.
type refusing struct {
	pb.SessionServiceClient
	made      int
	completed []string
	err       error
}

func (r *refusing) CreateSession(_ context.Context, request *pb.CreateSessionRequest, _ ...grpc.CallOption) (*pb.CreateSessionResponse, error) {
	if r.err != nil {
		return nil, r.err
	}
	if request.GetRequirements().GetFilter().GetGpuCount() != 1 {
		return nil, errors.New("a machine of many GPUs for the price of one")
	}
	r.made++
	return &pb.CreateSessionResponse{Session: &pb.Session{
		SessionId: fmt.Sprint("s", r.made), State: pb.Session_STATE_PENDING, Labels: request.GetLabels(), Revision: int64(r.made * 10),
		Spec: &pb.SessionSpec{Target: &pb.SessionSpec_Requirements{Requirements: request.GetRequirements()}},
	}}, nil
}

func (r *refusing) CompleteSession(_ context.Context, request *pb.CompleteSessionRequest, _ ...grpc.CallOption) (*pb.CompleteSessionResponse, error) {
	r.completed = append(r.completed, request.GetSessionId())
	return &pb.CompleteSessionResponse{Session: &pb.Session{SessionId: request.GetSessionId(), State: pb.Session_STATE_STOPPING, Revision: 1000}}, nil
}

// rented is a machine of a slot that has cost 0.1, accepts a price and may cost twice that in all.
func rented(slot int, perHour, accepts string, state pb.Session_State) *pb.Session {
	return &pb.Session{
		SessionId: fmt.Sprint("of ", slot), State: state, Revision: 1,
		Labels: map[string]string{"slot": fmt.Sprint(slot), "generation": "1"},
		Price:  &pb.Price{TotalPerHour: gpushopper.Dollars(perHour)},
		Cost:   &pb.CostAmount{High: gpushopper.Dollars("0.1")},
		Spec: &pb.SessionSpec{
			Target:          &pb.SessionSpec_Requirements{Requirements: &pb.Requirements{Filter: &pb.OfferFilter{GpuModels: []string{"RTX 4090"}}}},
			MaxPricePerHour: gpushopper.Dollars(accepts),
			MaxTotalCost:    gpushopper.Dollars(decimal.RequireFromString(accepts).Mul(decimal.New(2, 0)).String()),
		},
	}
}

func TestWhatIsAboveTheLimitsOfAnotherPlanIsCompletedWithItsReason(t *testing.T) {
	const runs, begins, ends = pb.Session_STATE_RUNNING, pb.Session_STATE_PROVISIONING, pb.Session_STATE_STOPPING
	three := func(price string, last pb.Session_State) []*pb.Session {
		return []*pb.Session{rented(1, price, "0.5", runs), rented(2, price, "0.5", last), rented(0, price, "0.5", runs)}
	}
	for name, c := range map[string]struct {
		maxPrice, perHour, total string
		there                    []*pb.Session
		completed, why           string
	}{
		"within":                          {"0.5", "1.5", "9", three("0.4", runs), "", ""},
		"one too many per hour":           {"0.3", "0.8", "9", three("0.3", runs), "of 2", "all could cost $0.9/h, and $0.8/h is allowed"},
		"two too many per hour":           {"0.3", "0.5", "9", three("0.3", runs), "of 2 of 1", "all could cost $0.6/h, and $0.5/h is allowed"},
		"what is ending goes by itself":   {"0.3", "0.7", "9", three("0.3", ends), "", ""},
		"what is spent counts":            {"0.5", "9", "2.1", three("0.4", runs), "of 2", "all could cost $3 in the end, and $2.1 is allowed"},
		"nothing fits":                    {"0.5", "9", "1", three("0.4", runs), "of 2 of 1 of 0", "all could cost $1.2 in the end, and $1 is allowed"},
		"too dear is replaced":            {"0.3", "0.6", "9", []*pb.Session{rented(0, "0.4", "0.5", runs), rented(1, "0.3", "0.5", runs)}, "of 0", "it could cost $0.4/h, and $0.3/h is allowed for one"},
		"not running yet, as it accepts":  {"0.3", "9", "9", []*pb.Session{rented(0, "0.2", "0.5", begins)}, "of 0", "it could cost $0.5/h, and $0.3/h is allowed for one"},
		"dearer than it accepts, it runs": {"0.5", "9", "9", []*pb.Session{rented(0, "0.6", "0.5", runs)}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			exactly := decimal.RequireFromString
			p := plan{name: "f", wanted: 3, gpu: "RTX 4090", maxPrice: exactly(c.maxPrice), perHour: exactly(c.perHour), total: exactly(c.total), rental: 2 * time.Hour}
			market := &refusing{}
			f := &fleet{client: &gpushopper.Client{Sessions: market}, plan: p, known: map[string]*pb.Session{}}
			for _, session := range c.there {
				f.known[session.GetSessionId()] = session
			}
			unwanted, err := f.unwanted()
			if err != nil || c.completed != "" && unwanted[len(unwanted)-1].why != c.why {
				t.Errorf("%v %v", err, unwanted)
			}
			if err := f.trim(t.Context()); err != nil || strings.Join(market.completed, " ") != c.completed {
				t.Errorf("%v %v", err, market.completed)
			}
		})
	}
}

func TestWhatDoesNotRunYetCountsWithThePriceThatItWasCreatedToAccept(t *testing.T) {
	p := plan{name: "f", wanted: 3, gpu: "RTX 4090", maxPrice: decimal.New(3, -1), perHour: decimal.New(7, -1), total: decimal.New(9, 0), rental: 2 * time.Hour}
	f := &fleet{plan: p, known: map[string]*pb.Session{"of 0": rented(0, "0.2", "0.5", pb.Session_STATE_PROVISIONING)}}
	if _, err := f.request("1", 1); !errors.Is(err, errOverLimit) || !strings.Contains(err.Error(), "$0.8/h") {
		t.Error(err)
	}
	f.known["of 0"] = rented(0, "0.2", "0.1", pb.Session_STATE_PROVISIONING)
	if _, err := f.request("1", 1); err != nil {
		t.Error(err)
	}
}

func TestThePauseGrowsWithEachSessionThatNeverRanAndIsAsLongAsTheServerAsks(t *testing.T) {
	market := &refusing{}
	p := plan{name: "f", wanted: 1, gpu: "RTX 4090", maxPrice: decimal.New(5, -1), perHour: decimal.New(1, 0), total: decimal.New(100, 0), rental: time.Hour}
	f := &fleet{client: &gpushopper.Client{Sessions: market}, plan: p, known: map[string]*pb.Session{}}
	adjust := func() {
		t.Helper()
		if err := f.adjust(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for number, want := range []time.Duration{20, 40, 80, 160, 320, 600, 600} {
		adjust()
		failed := proto.CloneOf(f.known[fmt.Sprint("s", number+1)])
		failed.State, failed.Revision = pb.Session_STATE_FAILED, failed.GetRevision()+1
		f.learn(failed)
		if pause := time.Until(f.retryAt).Round(10 * time.Second); pause != want*time.Second {
			t.Errorf("after %d: %s", number+1, pause)
		}
		adjust()
		if market.made != number+1 {
			t.Fatalf("in the pause %d were made", market.made)
		}
		f.retryAt = time.Now()
	}
	market.err = &gpushopper.Error{Code: codes.ResourceExhausted, Reason: "NO_CAPACITY", RetryAfter: 50 * time.Second}
	adjust()
	if pause := time.Until(f.retryAt).Round(10 * time.Second); pause != 50*time.Second {
		t.Error(pause)
	}
	f.retryAt = time.Now()
	market.err = &gpushopper.Error{Code: codes.NotFound, Reason: "CONSUMER_NOT_FOUND"}
	if err := f.adjust(t.Context()); gpushopper.Reason(err) != "CONSUMER_NOT_FOUND" {
		t.Error(err)
	}
	market.err = nil
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := f.adjust(stopped); err != nil || market.made != 7 {
		t.Errorf("told to stop, it rents nothing more: %v, %d", err, market.made)
	}
}
