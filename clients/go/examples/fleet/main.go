// Command fleet keeps a number of machines alive within a spending limit, reacting to the stream of events only. Copy it.
//
// Each machine has a slot, 0 to N-1, and each further machine of a slot a higher generation. Both are in its labels and in the
// request_id of its create: so a create whose answer was lost, by a cut or by an end of this program, is found again and
// never made twice. Nothing is kept here that the server does not know: kill this program and start it again at any time, also
// with another plan: machines that are too many, of another GPU model than is wanted now, or above its limits are completed.
//
// The server itself ends a session at its max_total_cost, so the total limit holds even while nobody runs this.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"gpushopper.dev/go/gpushopper"
	pb "gpushopper.dev/go/gpushopper/v1"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// retryAfter is for a create that failed: nothing to rent, or the server was away for long. Doubled with each session in a row that never ran.
	retryAfter, longestRetry = 20 * time.Second, 10 * time.Minute
	// stopAfter is for what is under way when this is told to stop.
	stopAfter = 2 * time.Second
	// lostFor is how long, after its wait, a watch that lost its connection may take to be connected again.
	lostFor = 5 * time.Second
	// endAfter is for a call that ends a session, awayAfter for one to a server that was away just now; its machines end by themselves at their limits.
	endAfter, awayAfter = 30 * time.Second, 3 * time.Second
)

// plan is what is wanted, and what it may cost, in dollars.
type plan struct {
	name                     string          // of the fleet: its sessions carry it as the label "fleet"
	wanted                   int             // so many machines
	gpu                      string          // with one GPU of this model each
	maxPrice, perHour, total decimal.Decimal // per hour of one machine; per hour of all; of all that this fleet ever rents
	rental                   time.Duration   // of each machine before it is replaced
	publicKey                string          // who may log in
	interruptible            bool            // rented by bids: cheaper, and taken away by whoever bids more
	consumer                 *string         // in whose name; nil: the token's
}

// budget is what one machine may cost in all, to the next nano-dollar.
func (p plan) budget() decimal.Decimal {
	return p.maxPrice.Mul(decimal.NewFromInt(int64(p.rental / time.Second))).Div(decimal.NewFromInt(3600)).RoundUp(9)
}

// errOverLimit says that one more machine would break a spending limit.
var errOverLimit = errors.New("over the limit")

// fleet is the sessions of one plan, the latest of each.
type fleet struct {
	client   *gpushopper.Client
	plan     plan
	known    map[string]*pb.Session
	told     string
	lost     atomic.Int64 // until then, in Unix nanoseconds, the server counts as away
	retryAt  time.Time    // nothing is rented before
	neverRan int          // sessions in a row that failed without ever running
}

func isAlive(s *pb.Session) bool {
	return s.GetState() == pb.Session_STATE_PENDING || s.GetState() == pb.Session_STATE_PROVISIONING || s.GetState() == pb.Session_STATE_RUNNING
}

func hasEnded(s *pb.Session) bool {
	return s.GetState() == pb.Session_STATE_STOPPED || s.GetState() == pb.Session_STATE_FAILED
}

// run keeps the machines alive until the context ends.
func (f *fleet) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Ended sessions are asked for as well: what they cost counts, and their generations are taken.
	filter := &pb.SessionFilter{Labels: map[string]string{"fleet": f.plan.name}}
	watch := f.client.WatchSessions(ctx, filter, gpushopper.EndedSince(time.Unix(1, 0)), gpushopper.OnLost(f.onLost))
	items, failed := make(chan gpushopper.Item), make(chan error, 1)
	go func() {
		for {
			item, err := watch.Next()
			if err != nil {
				failed <- err
				return
			}
			select {
			case items <- item:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		var retry <-chan time.Time
		if !f.retryAt.IsZero() {
			retry = time.After(time.Until(f.retryAt))
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case item := <-items:
			if err := f.take(item); err != nil {
				return err
			}
		case <-retry:
		}
		if err := f.adjust(ctx); err != nil {
			return err
		}
	}
}

// onLost says that the server is away; the watch goes on by itself, and is back when this is not called again.
func (f *fleet) onLost(err *gpushopper.Error, wait time.Duration) {
	if !f.away() {
		log.Printf("waiting for the server: %v", err)
	}
	f.lost.Store(time.Now().Add(wait + lostFor).UnixNano())
}

// away says whether the watch has just lost its connection.
func (f *fleet) away() bool { return time.Now().UnixNano() < f.lost.Load() }

// take learns what the stream tells.
func (f *fleet) take(item gpushopper.Item) error {
	f.lost.Store(0)
	if item.Event != nil {
		f.learn(item.Event.GetSession())
		return nil
	}
	if item.Snapshot.Reset == "WATCH_STORE_REPLACED" {
		return errors.New("the server has another database now: see what still runs before you start this again")
	}
	f.known = map[string]*pb.Session{}
	for _, session := range item.Snapshot.Sessions {
		f.known[session.GetSessionId()] = session
	}
	log.Printf("%d sessions so far", len(f.known))
	return nil
}

// learn keeps the latest of each session.
func (f *fleet) learn(s *pb.Session) {
	before := f.known[s.GetSessionId()]
	if before != nil && before.GetRevision() > s.GetRevision() {
		return
	}
	f.known[s.GetSessionId()] = s
	if before != nil && before.GetState() == s.GetState() {
		return
	}
	log.Printf("slot %s: %s %s: %s", s.GetLabels()["slot"], s.GetSessionId(), s.GetState(), s.GetStatusMessage())
	switch {
	case s.GetState() == pb.Session_STATE_RUNNING:
		f.neverRan = 0
	case s.GetState() == pb.Session_STATE_FAILED && before != nil && s.GetRunningTime() == nil:
		// Something is wrong with what is asked for, or with the market: what fails at once is not rented again and again.
		f.pause(retryAfter<<min(f.neverRan, 10), "it never ran")
		f.neverRan++
	}
}

// pause rents nothing for a while.
func (f *fleet) pause(wait time.Duration, why string) {
	wait = min(wait, longestRetry)
	if until := time.Now().Add(wait); until.After(f.retryAt) {
		f.retryAt = until
	}
	log.Printf("%s; nothing is rented for %s", why, wait)
}

// adjust ends what is too much, and rents what is missing.
func (f *fleet) adjust(ctx context.Context) error {
	err := f.trim(ctx)
	if err == nil && !time.Now().Before(f.retryAt) {
		f.retryAt = time.Time{}
		err = f.fill(ctx)
	}
	var failure *gpushopper.Error
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case errors.Is(err, errOverLimit):
		// What is ending now, or turns out cheaper, makes room; the stream tells it.
		if f.told != err.Error() {
			f.told = err.Error()
			log.Print(err)
		}
		return nil
	case errors.As(err, &failure) && mayWorkLater(failure):
		f.pause(max(retryAfter, failure.RetryAfter), err.Error())
		return nil
	default:
		return err
	}
}

// mayWorkLater says whether the same may work later, without any change: also what, without a reason of the service, did not get through.
func mayWorkLater(err *gpushopper.Error) bool {
	switch err.Code {
	case codes.Unavailable, codes.ResourceExhausted:
		return true
	case codes.FailedPrecondition:
		// Operators mend these; until then nothing new is rented, and what runs goes on.
		return slices.Contains([]string{"LAUNCHES_HELD", "PROVIDER_CREDIT", "PROVIDER_AUTH", "DATABASE_NOT_ACCEPTED"}, err.Reason)
	case codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		return err.Reason == ""
	default:
		return false
	}
}

// machine is a session that is alive, in its slot, and what it may cost.
type machine struct {
	session *pb.Session
	slot    int
	price   decimal.Decimal // per hour
	ahead   decimal.Decimal // beyond what it has cost
	why     string          // it is not wanted
}

// trim completes machines that the plan does not want, which an earlier one may have rented.
func (f *fleet) trim(ctx context.Context) error {
	unwanted, err := f.unwanted()
	if err != nil {
		return err
	}
	for _, m := range unwanted {
		if ctx.Err() != nil {
			return nil
		}
		log.Printf("slot %d: %s is not wanted any more: %s", m.slot, m.session.GetSessionId(), m.why)
		answer, err := f.client.Sessions.CompleteSession(ctx, &pb.CompleteSessionRequest{SessionId: m.session.GetSessionId()})
		if err != nil {
			return err
		}
		f.learn(answer.GetSession())
	}
	return nil
}

// unwanted are machines that do not fit the plan, then those of the highest slots until the rest is within the limits.
func (f *fleet) unwanted() (unwanted []machine, err error) {
	p, perHour, total := f.plan, decimal.Zero, decimal.Zero
	var fits []machine
	for _, session := range f.known {
		high, err := gpushopper.ToDecimal(session.GetCost().GetHigh())
		if err != nil {
			return nil, err
		}
		// What ends will cost no more than it has cost; only what goes on may come to its limit.
		total = total.Add(high)
		if !isAlive(session) {
			continue
		}
		m := machine{session: session}
		if m.price, err = f.price(session); err != nil {
			return nil, err
		}
		if m.ahead, err = most(session); err != nil {
			return nil, err
		}
		m.ahead = m.ahead.Sub(high)
		accepts, err := gpushopper.ToDecimal(session.GetSpec().GetMaxPricePerHour())
		if err != nil {
			return nil, err
		}
		slot, noSlot := strconv.Atoi(session.GetLabels()["slot"])
		m.slot = slot
		switch {
		case noSlot != nil:
		case slot >= p.wanted:
			m.why = fmt.Sprintf("the plan wants %d", p.wanted)
		case !slices.Equal(session.GetSpec().GetRequirements().GetFilter().GetGpuModels(), []string{p.gpu}):
			m.why = "the plan wants " + p.gpu
		case m.price.GreaterThan(p.maxPrice) && accepts.GreaterThan(p.maxPrice):
			m.why = fmt.Sprintf("it could cost $%s/h, and $%s/h is allowed for one", m.price, p.maxPrice)
		}
		if m.why != "" {
			unwanted = append(unwanted, m)
			continue
		}
		perHour, total = perHour.Add(m.price), total.Add(m.ahead)
		if noSlot == nil {
			fits = append(fits, m)
		}
	}
	slices.SortFunc(fits, func(a, b machine) int { return b.slot - a.slot })
	for _, m := range fits {
		switch {
		case perHour.GreaterThan(p.perHour):
			m.why = fmt.Sprintf("all could cost $%s/h, and $%s/h is allowed", perHour, p.perHour)
		case total.GreaterThan(p.total):
			m.why = fmt.Sprintf("all could cost $%s in the end, and $%s is allowed", total, p.total)
		default:
			return unwanted, nil
		}
		perHour, total = perHour.Sub(m.price), total.Sub(m.ahead)
		unwanted = append(unwanted, m)
	}
	return unwanted, nil
}

// fill rents what is missing.
func (f *fleet) fill(ctx context.Context) error {
	alive := map[string]bool{}
	for _, session := range f.known {
		alive[session.GetLabels()["slot"]] = alive[session.GetLabels()["slot"]] || isAlive(session)
	}
	for number := range f.plan.wanted {
		slot := strconv.Itoa(number)
		if alive[slot] || ctx.Err() != nil {
			continue
		}
		if err := f.rent(ctx, slot); err != nil {
			return err
		}
	}
	return nil
}

// rent creates the next session of a slot, or finds the one that an earlier create has made.
func (f *fleet) rent(ctx context.Context, slot string) error {
	generation := 1
	for _, session := range f.known {
		used, _ := strconv.Atoi(session.GetLabels()["generation"])
		if session.GetLabels()["slot"] == slot && used >= generation {
			generation = used + 1
		}
	}
	for ; ; generation++ {
		request, err := f.request(slot, generation)
		if err != nil {
			return err
		}
		answer, err := f.create(ctx, request)
		if gpushopper.Reason(err) == "REQUEST_ID_REUSED" {
			continue // by a plan with other terms
		}
		if err != nil {
			return err
		}
		f.learn(answer.GetSession())
		if isAlive(answer.GetSession()) {
			return nil
		}
	}
}

// create gives a create that is under way the time to be answered when this is told to stop: so its session is among those that are ended.
func (f *fleet) create(ctx context.Context, request *pb.CreateSessionRequest) (*pb.CreateSessionResponse, error) {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopAfter, cancel) })()
	return f.client.Sessions.CreateSession(patient, request)
}

// request asks for one more machine, unless it could cost too much.
func (f *fleet) request(slot string, generation int) (*pb.CreateSessionRequest, error) {
	p := f.plan
	perHour, total := p.maxPrice, p.budget()
	for _, session := range f.known {
		most, err := most(session)
		if err != nil {
			return nil, err
		}
		total = total.Add(most)
		if hasEnded(session) {
			continue
		}
		price, err := f.price(session)
		if err != nil {
			return nil, err
		}
		perHour = perHour.Add(price)
	}
	if perHour.GreaterThan(p.perHour) {
		return nil, fmt.Errorf("%w: one machine more could cost $%s/h in all, and $%s/h is allowed", errOverLimit, perHour, p.perHour)
	}
	if total.GreaterThan(p.total) {
		return nil, fmt.Errorf("%w: one machine more could cost $%s in all, and $%s is allowed", errOverLimit, total, p.total)
	}
	maxPrice, err := gpushopper.FromDecimal(p.maxPrice)
	if err != nil {
		return nil, err
	}
	maxTotal, err := gpushopper.FromDecimal(p.budget())
	if err != nil {
		return nil, err
	}
	kind, oneGPU := pb.RentalKind_RENTAL_KIND_ON_DEMAND, int32(1)
	if p.interruptible {
		kind = pb.RentalKind_RENTAL_KIND_INTERRUPTIBLE
	}
	return &pb.CreateSessionRequest{
		ConsumerId: p.consumer,
		RequestId:  fmt.Sprintf("%s/%s/%d", p.name, slot, generation),
		Labels:     map[string]string{"fleet": p.name, "slot": slot, "generation": strconv.Itoa(generation)},
		Target: &pb.CreateSessionRequest_Requirements{Requirements: &pb.Requirements{
			Filter: &pb.OfferFilter{GpuModels: []string{p.gpu}, GpuCount: &oneGPU, MaxPricePerHour: maxPrice},
		}},
		MaxPricePerHour: maxPrice,
		MaxTotalCost:    maxTotal,
		Reservation:     durationpb.New(p.rental.Truncate(time.Second)),
		SshPublicKey:    &p.publicKey,
		RentalKind:      kind,
	}, nil
}

// price is what an open session may cost per hour: until it runs, another attempt may take a machine as dear as it was created to accept.
func (f *fleet) price(s *pb.Session) (decimal.Decimal, error) {
	if s.GetPrice() != nil && (s.GetState() == pb.Session_STATE_RUNNING || s.GetState() == pb.Session_STATE_STOPPING) {
		return gpushopper.ToDecimal(s.GetPrice().GetTotalPerHour())
	}
	accepts, err := gpushopper.ToDecimal(s.GetSpec().GetMaxPricePerHour())
	return decimal.Max(f.plan.maxPrice, accepts), err
}

// most is what a session may cost in the end.
func most(s *pb.Session) (decimal.Decimal, error) {
	high, err := gpushopper.ToDecimal(s.GetCost().GetHigh())
	if err != nil || hasEnded(s) {
		return high, err
	}
	limit, err := gpushopper.ToDecimal(s.GetSpec().GetMaxTotalCost())
	return decimal.Max(high, limit), err
}

// end completes all sessions, also one whose create was never answered, and waits until every machine is proven gone.
func (f *fleet) end(ctx context.Context) error {
	if err := f.complete(ctx); err != nil {
		return fmt.Errorf("%w\nmachines that go on until their limits: %d that are known; to end them: fleet -name %s -wanted 0", err, f.open(), f.plan.name)
	}
	if open := f.open(); open > 0 {
		log.Printf("waiting until %d machines are proven gone; a second signal ends this at once", open)
	}
	cost := decimal.Zero
	for id, session := range f.known {
		if !hasEnded(session) {
			var err error
			if session, err = f.waitEnded(ctx, id); err != nil {
				return err
			}
			f.learn(session)
		}
		one, err := gpushopper.ToDecimal(session.GetCost().GetCost())
		if err != nil {
			return err
		}
		cost = cost.Add(one)
	}
	log.Printf("all gone; the fleet has cost $%s", cost)
	return nil
}

// complete asks for the end of every session; the list of the server has also what is not known here.
func (f *fleet) complete(ctx context.Context) error {
	limit := endAfter
	if f.away() {
		limit = awayAfter
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	filter := &pb.SessionFilter{Labels: map[string]string{"fleet": f.plan.name}}
	for session, err := range f.client.ListSessions(limited, &pb.ListSessionsRequest{Filter: filter, PageSize: 1000}) {
		if err != nil {
			return err
		}
		f.known[session.GetSessionId()] = session
	}
	for id, session := range f.known {
		if hasEnded(session) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, limit)
		_, err := f.client.Sessions.CompleteSession(limited, &pb.CompleteSessionRequest{SessionId: id})
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// open is how many sessions have not ended yet.
func (f *fleet) open() (number int) {
	for _, session := range f.known {
		if !hasEnded(session) {
			number++
		}
	}
	return number
}

// waitEnded waits as long as it takes.
func (f *fleet) waitEnded(ctx context.Context, id string) (*pb.Session, error) {
	for {
		session, err := f.client.WaitEnded(ctx, id)
		if !errors.Is(err, context.DeadlineExceeded) {
			return session, err
		}
	}
}

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	if err := keep(); err != nil {
		log.Fatal("error: ", err)
	}
}

// keep reads the plan, keeps it, and ends in order on Ctrl-C or SIGTERM.
func keep() error {
	home, _ := os.UserHomeDir()
	var p plan
	flag.StringVar(&p.name, "name", "fleet", "name of the fleet")
	flag.IntVar(&p.wanted, "wanted", 2, "how many machines, with one GPU each; 0 ends all")
	flag.StringVar(&p.gpu, "gpu", "RTX 4090", "GPU model")
	p.maxPrice, p.perHour, p.total = decimal.New(50, -2), decimal.New(100, -2), decimal.New(20, 0)
	flag.TextVar(&p.maxPrice, "max-price", p.maxPrice, "dollars per hour of one machine")
	flag.TextVar(&p.perHour, "per-hour", p.perHour, "dollars per hour of all")
	flag.TextVar(&p.total, "total", p.total, "dollars in all")
	flag.DurationVar(&p.rental, "rental", 4*time.Hour, "how long each machine is rented")
	flag.BoolVar(&p.interruptible, "interruptible", false, "rent by bids")
	keyFile := flag.String("public-key", filepath.Join(home, ".ssh", "id_ed25519.pub"), "who may log in")
	flag.Func("consumer", "in whose `name` (default: the token's)", func(name string) error {
		p.consumer = &name
		return nil
	})
	onExit := flag.String("on-exit", "complete", "what becomes of the machines: complete or leave")
	flag.Parse()
	if *onExit != "complete" && *onExit != "leave" {
		return fmt.Errorf("-on-exit %s: complete or leave", *onExit)
	}
	if p.wanted < 0 {
		return fmt.Errorf("-wanted %d: a number of machines, 0 or more", p.wanted)
	}
	if p.rental < time.Second {
		return fmt.Errorf("-rental %s: at least a second", p.rental)
	}
	if p.wanted > 0 {
		key, err := os.ReadFile(*keyFile)
		if err != nil {
			return err
		}
		p.publicKey = strings.TrimSpace(string(key))
	}
	client, err := gpushopper.New("")
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f := &fleet{client: client, plan: p, known: map[string]*pb.Session{}}
	if p.wanted == 0 {
		// Nothing to keep alive: all that there is ends, and a second signal ends this at once.
		go func() {
			<-ctx.Done()
			stop()
		}()
		return f.end(context.Background())
	}
	if err := f.run(ctx); err != nil {
		return fmt.Errorf("%w\nmachines go on until their limits; to end them: fleet -name %s -wanted 0", err, p.name)
	}
	stop() // a second signal ends this at once
	if *onExit == "leave" {
		return nil
	}
	return f.end(context.Background())
}
