// Command conformance plays the conformance scenario by way of the client and prints a transcript: see ../../conformance/SPEC.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gpushopper.dev/go/gpushopper"
	pb "gpushopper.dev/go/gpushopper/v1"

	"github.com/shopspring/decimal"
	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

type disturbance struct {
	At string `json:"at"`
	Do string `json:"do"`
}

type step struct {
	ID        string            `json:"id"`
	Op        string            `json:"op"`
	Values    []json.RawMessage `json:"values"`
	Decimals  []string          `json:"decimals"`
	Refused   []string          `json:"refused"`
	Foreign   []json.RawMessage `json:"foreign"`
	Show      json.RawMessage   `json:"show"`
	Request   json.RawMessage   `json:"request"`
	Filter    json.RawMessage   `json:"filter"`
	Method    string            `json:"method"`
	As        string            `json:"as"`
	Hide      []string          `json:"hide"`
	Do        string            `json:"do"`
	ShowState bool              `json:"show_state"`
	Session   string            `json:"session"`
	From      string            `json:"from"`
	Until     string            `json:"until"`
	Disturb   []disturbance     `json:"disturb"`
	By        int64             `json:"by"`
	RequestID string            `json:"request_id"`
	Labels    map[string]string `json:"labels"`
	Events    int               `json:"events"`
	SaveToken string            `json:"save_token"`
	PageSize  int32             `json:"page_size"`
}

type player struct {
	client    *gpushopper.Client
	publicKey string
	driver    string
	names     []string // aliases, in the order in which they were given
	ids       map[string]string
	created   map[string]*pb.CreateSessionResponse
	tokens    map[string]string
	watched   map[string][]*pb.SessionEvent
	step      step
}

func main() {
	if err := play(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func play(ctx context.Context, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var scenario struct {
		PublicKey string `json:"public_key"`
		Steps     []step `json:"steps"`
	}
	if err := json.Unmarshal(text, &scenario); err != nil {
		return err
	}
	client, err := gpushopper.New("")
	if err != nil {
		return err
	}
	defer client.Close()
	p := &player{
		client: client, publicKey: scenario.PublicKey, driver: os.Getenv("CONFORMANCE_CONTROL"),
		ids: map[string]string{}, created: map[string]*pb.CreateSessionResponse{}, tokens: map[string]string{}, watched: map[string][]*pb.SessionEvent{},
	}
	ops := map[string]func(context.Context) error{
		"money": p.money, "offers": p.offers, "offers_paged": p.offersPaged, "fails": p.fails, "create": p.create, "save_key": p.saveKey,
		"sessions": p.sessions, "watch": p.watch, "watch_sessions": p.watchSessions, "wait_running": p.waitRunning, "wait_ended": p.waitEnded,
		"extend": p.extend, "update_labels": p.updateLabels, "complete": p.complete, "destroy": p.destroy, "events": p.events, "cost": p.cost,
		"control": p.control,
	}
	for _, p.step = range scenario.Steps {
		op, known := ops[p.step.Op]
		if !known {
			return fmt.Errorf("%s: no such op: %s", p.step.ID, p.step.Op)
		}
		if err := op(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.step.ID, err)
		}
	}
	return nil
}

func (p *player) say(format string, values ...any) {
	fmt.Printf("%s: %s\n", p.step.ID, fmt.Sprintf(format, values...))
}

func (p *player) alias(id string) string {
	for _, name := range p.names {
		if p.ids[name] == id {
			return name
		}
	}
	return id
}

// parse reads a message out of JSON in which names are filled in.
func (p *player) parse(text json.RawMessage, message proto.Message) error {
	filled := strings.ReplaceAll(string(text), "${public_key}", p.publicKey)
	for name, id := range p.ids {
		filled = strings.ReplaceAll(filled, "${session:"+name+"}", id)
	}
	return protojson.Unmarshal([]byte(filled), message)
}

func (p *player) shown() (types []string, err error) {
	err = json.Unmarshal(p.step.Show, &types)
	return types, err
}

func joined(labels map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, key+"="+labels[key])
	}
	return orDash(parts)
}

func orDash(parts []string) string {
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ",")
}

func word(yes bool) string { return map[bool]string{true: "yes", false: "no"}[yes] }

func (p *player) ask(do string) error {
	answer, err := http.Post(p.driver+"/"+do, "", nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the driver answers %s", answer.Status)
	}
	return nil
}

// exact is an amount that is in dollars.
func exact(amount *money.Money) decimal.Decimal {
	value, err := gpushopper.ToDecimal(amount)
	if err != nil {
		panic(err)
	}
	return value
}

func (p *player) money(context.Context) error {
	sum := decimal.Zero
	for _, text := range p.step.Values {
		var value money.Money
		if err := p.parse(text, &value); err != nil {
			return err
		}
		back, err := gpushopper.FromDecimal(exact(&value))
		if err != nil {
			return err
		}
		p.say("value %s %d:%d", exact(&value), back.GetUnits(), back.GetNanos())
		sum = sum.Add(exact(&value))
	}
	p.say("sum %s", sum)
	for _, text := range p.step.Decimals {
		made := gpushopper.Dollars(text)
		p.say("money %d:%d", made.GetUnits(), made.GetNanos())
	}
	for _, text := range p.step.Refused {
		if _, err := gpushopper.FromDecimal(decimal.RequireFromString(text)); err != nil {
			p.say("refused")
		} else {
			p.say("accepted")
		}
	}
	for _, text := range p.step.Foreign {
		var value money.Money
		if err := p.parse(text, &value); err != nil {
			return err
		}
		if _, err := gpushopper.ToDecimal(&value); err != nil {
			p.say("refused")
		} else {
			p.say("accepted")
		}
	}
	return nil
}

func (p *player) offers(ctx context.Context) error {
	var request pb.ListOffersRequest
	var show int
	if err := errors.Join(p.parse(p.step.Request, &request), json.Unmarshal(p.step.Show, &show)); err != nil {
		return err
	}
	page, err := p.client.Inventory.ListOffers(ctx, &request)
	if err != nil {
		return err
	}
	p.say("total=%d offers=%d", page.GetTotalSize(), len(page.GetOffers()))
	sum := decimal.Zero
	for at, offer := range page.GetOffers() {
		price := exact(offer.GetPrice().GetTotalPerHour())
		sum = sum.Add(price)
		if at < show {
			p.say("%s %s x%d %d %s %s", offer.GetProvider(), offer.GetGpuModel(), offer.GetGpuCount(), offer.GetGpuMemoryMib(), offer.GetRentalKind(), price)
		}
	}
	p.say("sum=%s", sum)
	return nil
}

func (p *player) offersPaged(ctx context.Context) error {
	var request pb.ListOffersRequest
	if err := p.parse(p.step.Request, &request); err != nil {
		return err
	}
	number, distinct := 0, map[string]bool{}
	for offer, err := range p.client.Offers(ctx, &request) {
		if err != nil {
			return err
		}
		number++
		distinct[offer.GetOfferId()] = true
	}
	p.say("offers=%d distinct=%d", number, len(distinct))
	return nil
}

// called calls a method with the step's request and forgets the answer.
func called[Q proto.Message, A any](ctx context.Context, p *player, request Q, call func(context.Context, Q) (A, error)) error {
	if err := p.parse(p.step.Request, request); err != nil {
		return err
	}
	_, err := call(ctx, request)
	return err
}

func (p *player) fails(ctx context.Context) error {
	c := p.client
	var err error
	switch p.step.Method {
	case "GetOffer":
		err = called(ctx, p, &pb.GetOfferRequest{}, func(ctx context.Context, q *pb.GetOfferRequest) (any, error) { return c.Inventory.GetOffer(ctx, q) })
	case "GetSession":
		err = called(ctx, p, &pb.GetSessionRequest{}, func(ctx context.Context, q *pb.GetSessionRequest) (any, error) { return c.Sessions.GetSession(ctx, q) })
	case "CreateSession":
		err = called(ctx, p, &pb.CreateSessionRequest{}, func(ctx context.Context, q *pb.CreateSessionRequest) (any, error) {
			return c.Sessions.CreateSession(ctx, q)
		})
	case "ExtendSession":
		err = called(ctx, p, &pb.ExtendSessionRequest{}, func(ctx context.Context, q *pb.ExtendSessionRequest) (any, error) {
			return c.Sessions.ExtendSession(ctx, q)
		})
	case "GetSessionCost":
		err = called(ctx, p, &pb.GetSessionCostRequest{}, func(ctx context.Context, q *pb.GetSessionCostRequest) (any, error) {
			return c.Costs.GetSessionCost(ctx, q)
		})
	case "WatchSession":
		err = called(ctx, p, &pb.WatchSessionRequest{}, func(ctx context.Context, q *pb.WatchSessionRequest) (any, error) {
			watch := c.WatchSession(ctx, q.GetSessionId())
			defer watch.Close()
			return watch.Next()
		})
	default:
		return fmt.Errorf("no such method: %s", p.step.Method)
	}
	var told *gpushopper.Error
	switch {
	case err == nil:
		p.say("no error")
	case !errors.As(err, &told):
		return err
	default:
		var fields []string
		for _, violation := range told.Violations {
			fields = append(fields, violation.Field)
		}
		p.say("%s %s fields=%s metadata=%s retryable=%t", capitals(told.Code.String()), told.Reason, orDash(fields),
			orDash(slices.Sorted(maps.Keys(told.Metadata))), told.Retryable())
	}
	return nil
}

// capitals turns NotFound into NOT_FOUND.
func capitals(name string) string {
	var out strings.Builder
	for at, letter := range name {
		if at > 0 && letter >= 'A' && letter <= 'Z' {
			out.WriteByte('_')
		}
		out.WriteRune(letter)
	}
	return strings.ToUpper(out.String())
}

func (p *player) create(ctx context.Context) error {
	var request pb.CreateSessionRequest
	if err := p.parse(p.step.Request, &request); err != nil {
		return err
	}
	answer, err := p.client.Sessions.CreateSession(ctx, &request)
	if err != nil {
		return err
	}
	session := answer.GetSession()
	if p.alias(session.GetSessionId()) == session.GetSessionId() {
		p.names = append(p.names, p.step.As)
		p.ids[p.step.As], p.created[p.step.As] = session.GetSessionId(), answer
	}
	key := "server"
	if session.GetSpec().GetSshPublicKey() == p.publicKey {
		key = "own"
	}
	var parts []string
	for _, part := range [][2]string{
		{"session", p.alias(session.GetSessionId())},
		{"replayed", fmt.Sprint(answer.GetReplayed())},
		{"private_key", word(answer.GetSshPrivateKey() != "")},
		{"key", key},
		{"labels", joined(session.GetLabels())},
		{"reservation", fmt.Sprint(session.GetSpec().GetReservation().GetSeconds())},
	} {
		if !slices.Contains(p.step.Hide, part[0]) {
			parts = append(parts, part[0]+"="+part[1])
		}
	}
	p.say("%s", strings.Join(parts, " "))
	return nil
}

func (p *player) saveKey(context.Context) error {
	path := filepath.Join(os.Getenv("CONFORMANCE_DIR"), p.step.Session+".pem")
	key := p.created[p.step.Session].GetSshPrivateKey()
	if err := gpushopper.SaveKey(path, key); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	again := "overwritten"
	if err := gpushopper.SaveKey(path, key); errors.Is(err, fs.ErrExist) {
		again = "refused"
	}
	p.say("mode=%04o again=%s", info.Mode().Perm(), again)
	return nil
}

func (p *player) sessions(ctx context.Context) error {
	var filter pb.SessionFilter
	if err := p.parse(p.step.Filter, &filter); err != nil {
		return err
	}
	line, count := "", 0
	for session, err := range p.client.ListSessions(ctx, &pb.ListSessionsRequest{Filter: &filter, PageSize: 1}) {
		if err != nil {
			return err
		}
		count++
		line += " " + p.alias(session.GetSessionId())
		if p.step.ShowState {
			line += ":" + session.GetState().String()
		}
	}
	p.say("count=%d%s", count, line)
	return nil
}

func (p *player) watch(ctx context.Context) error {
	types, err := p.shown()
	if err != nil {
		return err
	}
	name := p.step.Session
	token := p.tokens[name]
	if p.step.From == "create" {
		token = p.created[name].GetResumeToken()
	}
	watch := p.client.WatchSession(ctx, p.ids[name], gpushopper.From(token))
	defer watch.Close()
	for {
		item, err := watch.Next()
		if errors.Is(err, io.EOF) {
			p.say("ended")
			break
		}
		if err != nil {
			return err
		}
		if item.Snapshot != nil {
			p.say("reset %s", item.Snapshot.Reset)
			continue
		}
		event := item.Event
		p.watched[name] = append(p.watched[name], event)
		line := fmt.Sprintf("%s %s", event.GetType(), event.GetToState())
		if slices.Contains(types, event.GetType().String()) {
			p.say("%s", line)
			at := slices.IndexFunc(p.step.Disturb, func(one disturbance) bool { return one.At == line })
			if at >= 0 {
				do := p.step.Disturb[at].Do
				p.step.Disturb = slices.Delete(p.step.Disturb, at, at+1)
				if err := p.ask(do); err != nil {
					return err
				}
			}
		}
		if event.GetToState().String() == p.step.Until {
			break
		}
	}
	p.tokens[name] = watch.ResumeToken()
	whole := true
	for at, event := range p.watched[name] {
		whole = whole && event.GetSequence() == int64(at+1)
	}
	p.say("gap_free=%t", whole)
	return nil
}

func (p *player) watchSessions(ctx context.Context) error {
	types, err := p.shown()
	if err != nil {
		return err
	}
	var filter pb.SessionFilter
	if err := p.parse(p.step.Filter, &filter); err != nil {
		return err
	}
	token := ""
	if p.step.From != "snapshot" {
		token = p.tokens[p.step.From]
	}
	watch := p.client.WatchSessions(ctx, &filter, gpushopper.From(token))
	defer watch.Close()
	for missing := p.step.Events; ; {
		item, err := watch.Next()
		if err != nil {
			return err
		}
		switch {
		case item.Snapshot != nil:
			if item.Snapshot.Reset != "" {
				p.say("reset %s", item.Snapshot.Reset)
			}
			var lines []string
			for _, session := range item.Snapshot.Sessions {
				lines = append(lines, fmt.Sprintf("snapshot %s %s", p.alias(session.GetSessionId()), session.GetState()))
			}
			slices.Sort(lines)
			for _, line := range lines {
				p.say("%s", line)
			}
			p.say("snapshot_end %d", len(lines))
		case slices.Contains(types, item.Event.GetType().String()):
			p.say("event %s %s %s", p.alias(item.Event.GetSessionId()), item.Event.GetType(), item.Event.GetToState())
			missing--
		}
		if missing <= 0 {
			break
		}
	}
	if p.step.SaveToken != "" {
		p.tokens[p.step.SaveToken] = watch.ResumeToken()
	}
	return nil
}

func (p *player) waitRunning(ctx context.Context) error {
	one, err := p.client.WaitRunning(ctx, p.ids[p.step.Session])
	var ended *gpushopper.SessionEndedError
	if errors.As(err, &ended) {
		p.say("ended %s", ended.Session.GetEndReason())
		return nil
	}
	if err != nil {
		return err
	}
	p.say("%s %s %s x%d user=%s address=%s", one.GetState(), one.GetProvider(), one.GetGpuModel(), one.GetGpuCount(), one.GetSshUser(),
		word(one.GetSshHost() != "" && one.GetSshPort() != 0))
	return nil
}

func (p *player) waitEnded(ctx context.Context) error {
	one, err := p.client.WaitEnded(ctx, p.ids[p.step.Session])
	if err != nil {
		return err
	}
	p.say("%s %s cost_final=%t", one.GetState(), one.GetEndReason(), one.GetCostFinal())
	return nil
}

func (p *player) extend(ctx context.Context) error {
	id := p.ids[p.step.Session]
	before, err := p.client.Sessions.GetSession(ctx, &pb.GetSessionRequest{SessionId: id})
	if err != nil {
		return err
	}
	answer, err := p.client.Sessions.ExtendSession(ctx, &pb.ExtendSessionRequest{
		SessionId: id, RequestId: p.step.RequestID,
		Extension: &pb.ExtendSessionRequest_AdditionalDuration{AdditionalDuration: durationpb.New(time.Duration(p.step.By) * time.Second)},
	})
	if err != nil {
		return err
	}
	by := answer.GetSession().GetExpireTime().AsTime().Sub(before.GetSession().GetExpireTime().AsTime())
	p.say("by=%d replayed=%t", int64(by/time.Second), answer.GetReplayed())
	return nil
}

func (p *player) updateLabels(ctx context.Context) error {
	answer, err := p.client.Sessions.UpdateSession(ctx, &pb.UpdateSessionRequest{SessionId: p.ids[p.step.Session], Labels: p.step.Labels})
	if err != nil {
		return err
	}
	p.say("labels=%s", joined(answer.GetSession().GetLabels()))
	return nil
}

func (p *player) complete(ctx context.Context) error {
	answer, err := p.client.Sessions.CompleteSession(ctx, &pb.CompleteSessionRequest{SessionId: p.ids[p.step.Session]})
	if err != nil {
		return err
	}
	p.say("%s %s", answer.GetSession().GetState(), answer.GetSession().GetEndReason())
	return nil
}

func (p *player) destroy(ctx context.Context) error {
	answer, err := p.client.Sessions.DestroySession(ctx, &pb.DestroySessionRequest{SessionId: p.ids[p.step.Session]})
	if err != nil {
		return err
	}
	p.say("%s %s", answer.GetSession().GetState(), answer.GetSession().GetEndReason())
	return nil
}

func (p *player) events(ctx context.Context) error {
	type facts struct {
		revision, sequence int64
		kind               pb.SessionEvent_Type
		state              pb.Session_State
	}
	of := func(event *pb.SessionEvent) facts {
		return facts{event.GetRevision(), event.GetSequence(), event.GetType(), event.GetToState()}
	}
	var logged, seen []facts
	request := &pb.ListSessionEventsRequest{SessionId: p.ids[p.step.Session], PageSize: p.step.PageSize}
	for event, err := range p.client.SessionEvents(ctx, request) {
		if err != nil {
			return err
		}
		logged = append(logged, of(event))
	}
	for _, event := range p.watched[p.step.Session] {
		seen = append(seen, of(event))
	}
	p.say("same_as_watched=%t", slices.Equal(logged, seen))
	return nil
}

func (p *player) cost(ctx context.Context) error {
	answer, err := p.client.Costs.GetSessionCost(ctx, &pb.GetSessionCostRequest{SessionId: p.ids[p.step.Session]})
	if err != nil {
		return err
	}
	total := answer.GetTotal()
	cost := exact(total.GetCost())
	components, attempts := decimal.Zero, decimal.Zero
	for _, one := range answer.GetComponents() {
		components = components.Add(exact(one.GetAmount().GetCost()))
	}
	for _, one := range answer.GetAttempts() {
		attempts = attempts.Add(exact(one.GetAmount().GetCost()))
	}
	bounds := exact(total.GetLow()).LessThanOrEqual(cost) && cost.LessThanOrEqual(exact(total.GetHigh()))
	p.say("currency=%s exact=%t components=%t attempts=%t bounds=%t final=%t", total.GetCost().GetCurrencyCode(),
		total.GetText() == "$"+cost.String(), components.Equal(cost), attempts.Equal(cost), bounds, answer.GetFinal())
	return nil
}

func (p *player) control(context.Context) error {
	if err := p.ask(p.step.Do); err != nil {
		return err
	}
	p.say("ok")
	return nil
}
