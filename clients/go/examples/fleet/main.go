// Command fleet keeps a number of machines alive within a spending limit, reacting to the stream of events only. Copy it.
//
// Each machine has a slot, 0 to N-1, and each further machine of a slot a higher generation. Both are in its labels and in the
// request_id of its create: so a create whose answer was lost, by a cut or by an end of this program, is found again and
// never made twice. Nothing is kept here that the server does not know: kill this program and start it again at any time.
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"gpushopper.dev/go/gpushopper"
	pb "gpushopper.dev/go/gpushopper/v1"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// retryAfter is for a create that failed: nothing to rent, or the server was away for long.
const retryAfter = 20 * time.Second

// plan is what is wanted, and what it may cost, in dollars.
type plan struct {
	name                     string          // of the fleet: its sessions carry it as the label "fleet"
	wanted                   int             // so many machines
	gpu                      string          // of this GPU model
	maxPrice, perHour, total decimal.Decimal // per hour of one machine; per hour of all; of all that this fleet ever rents
	rental                   time.Duration   // of each machine before it is replaced
	publicKey                string          // who may log in
	interruptible            bool            // rented by bids: cheaper, and taken away by whoever bids more
}

// errOverLimit says that one more machine would break a spending limit.
var errOverLimit = errors.New("over the limit")

// fleet is the sessions of one plan, the latest of each.
type fleet struct {
	client *gpushopper.Client
	plan   plan
	known  map[string]*pb.Session
	told   string
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
	watch := f.client.WatchSessions(ctx, filter, gpushopper.EndedSince(time.Unix(1, 0)))
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
	var retry <-chan time.Time
	for {
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
			if retry != nil {
				continue
			}
		case <-retry:
			retry = nil
		}
		again, err := f.fill(ctx)
		if err != nil {
			return err
		}
		if again {
			retry = time.After(retryAfter)
		}
	}
}

// take learns what the stream tells.
func (f *fleet) take(item gpushopper.Item) error {
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
	if before == nil || before.GetState() != s.GetState() {
		log.Printf("slot %s: %s %s: %s", s.GetLabels()["slot"], s.GetSessionId(), s.GetState(), s.GetStatusMessage())
	}
}

// fill rents what is missing; again says that a create failed and should be tried later.
func (f *fleet) fill(ctx context.Context) (again bool, err error) {
	alive := map[string]bool{}
	for _, session := range f.known {
		alive[session.GetLabels()["slot"]] = alive[session.GetLabels()["slot"]] || isAlive(session)
	}
	for number := range f.plan.wanted {
		if ctx.Err() != nil {
			return false, nil
		}
		slot := strconv.Itoa(number)
		if alive[slot] {
			continue
		}
		err := f.rent(ctx, slot)
		var refused *gpushopper.Error
		switch {
		case err == nil:
		case errors.Is(err, errOverLimit):
			// What is ending now, or turns out cheaper, makes room; the stream tells it.
			if f.told != err.Error() {
				f.told = err.Error()
				log.Print(err)
			}
			return false, nil
		case errors.As(err, &refused) && refused.Code != codes.InvalidArgument:
			log.Printf("slot %s: %v; again in %s", slot, err, retryAfter)
			return true, nil
		default:
			return false, err
		}
	}
	return false, nil
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
		// What has begun is brought to its end, also when this program is told to stop: its answer says what there is to end.
		answer, err := f.client.Sessions.CreateSession(context.WithoutCancel(ctx), request)
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

// request asks for one more machine, unless it could cost too much.
func (f *fleet) request(slot string, generation int) (*pb.CreateSessionRequest, error) {
	p := f.plan
	budget := p.maxPrice.Mul(decimal.NewFromInt(int64(p.rental / time.Second))).Div(decimal.NewFromInt(3600)).RoundUp(9)
	perHour, total := p.maxPrice, budget
	for _, session := range f.known {
		total = total.Add(most(session))
		if !hasEnded(session) {
			perHour = perHour.Add(f.price(session))
		}
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
	maxTotal, err := gpushopper.FromDecimal(budget)
	if err != nil {
		return nil, err
	}
	kind := pb.RentalKind_RENTAL_KIND_ON_DEMAND
	if p.interruptible {
		kind = pb.RentalKind_RENTAL_KIND_INTERRUPTIBLE
	}
	return &pb.CreateSessionRequest{
		ConsumerId: &p.name,
		RequestId:  fmt.Sprintf("%s/%s/%d", p.name, slot, generation),
		Labels:     map[string]string{"fleet": p.name, "slot": slot, "generation": strconv.Itoa(generation)},
		Target: &pb.CreateSessionRequest_Requirements{Requirements: &pb.Requirements{
			Filter: &pb.OfferFilter{GpuModels: []string{p.gpu}, MaxPricePerHour: maxPrice},
		}},
		MaxPricePerHour: maxPrice,
		MaxTotalCost:    maxTotal,
		Reservation:     durationpb.New(p.rental),
		SshPublicKey:    &p.publicKey,
		RentalKind:      kind,
	}, nil
}

// price is what an open session may cost per hour: until it runs, another attempt may take a dearer machine.
func (f *fleet) price(s *pb.Session) decimal.Decimal {
	if s.GetPrice() != nil && (s.GetState() == pb.Session_STATE_RUNNING || s.GetState() == pb.Session_STATE_STOPPING) {
		return gpushopper.ToDecimal(s.GetPrice().GetTotalPerHour())
	}
	return f.plan.maxPrice
}

// most is what a session may cost in the end.
func most(s *pb.Session) decimal.Decimal {
	high := gpushopper.ToDecimal(s.GetCost().GetHigh())
	if hasEnded(s) {
		return high
	}
	return decimal.Max(high, gpushopper.ToDecimal(s.GetSpec().GetMaxTotalCost()))
}

// end completes all sessions, also one whose create was never answered, and waits until every machine is proven gone.
func (f *fleet) end(ctx context.Context) error {
	filter := &pb.SessionFilter{Labels: map[string]string{"fleet": f.plan.name}}
	for session, err := range f.client.ListSessions(ctx, &pb.ListSessionsRequest{Filter: filter, PageSize: 1000}) {
		if err != nil {
			return err
		}
		f.known[session.GetSessionId()] = session
	}
	for id, session := range f.known {
		if hasEnded(session) {
			continue
		}
		if _, err := f.client.Sessions.CompleteSession(ctx, &pb.CompleteSessionRequest{SessionId: id}); err != nil {
			return err
		}
	}
	cost := decimal.Zero
	for id, session := range f.known {
		if !hasEnded(session) {
			var err error
			if session, err = f.client.WaitEnded(ctx, id); err != nil {
				return err
			}
			f.learn(session)
		}
		cost = cost.Add(gpushopper.ToDecimal(session.GetCost().GetCost()))
	}
	log.Printf("all gone; the fleet has cost $%s", cost)
	return nil
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
	flag.IntVar(&p.wanted, "wanted", 2, "how many machines")
	flag.StringVar(&p.gpu, "gpu", "RTX 4090", "GPU model")
	p.maxPrice, p.perHour, p.total = decimal.New(50, -2), decimal.New(100, -2), decimal.New(20, 0)
	flag.TextVar(&p.maxPrice, "max-price", p.maxPrice, "dollars per hour of one machine")
	flag.TextVar(&p.perHour, "per-hour", p.perHour, "dollars per hour of all")
	flag.TextVar(&p.total, "total", p.total, "dollars in all")
	flag.DurationVar(&p.rental, "rental", 4*time.Hour, "how long each machine is rented")
	flag.BoolVar(&p.interruptible, "interruptible", false, "rent by bids")
	keyFile := flag.String("public-key", filepath.Join(home, ".ssh", "id_ed25519.pub"), "who may log in")
	onExit := flag.String("on-exit", "complete", "what becomes of the machines: complete or leave")
	flag.Parse()
	if *onExit != "complete" && *onExit != "leave" {
		return fmt.Errorf("-on-exit %s: complete or leave", *onExit)
	}
	key, err := os.ReadFile(*keyFile)
	if err != nil {
		return err
	}
	p.publicKey = strings.TrimSpace(string(key))
	client, err := gpushopper.New("")
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f := &fleet{client: client, plan: p, known: map[string]*pb.Session{}}
	if err := f.run(ctx); err != nil || *onExit == "leave" {
		return err
	}
	return f.end(context.Background())
}
