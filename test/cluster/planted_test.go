package cluster

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// invented is a history without a mistake: one request after the other, each answered from the model, two watches, and a lease that
// ends when it is over.
func invented(seed uint64) (*history, map[string][]event) {
	h := newHistory()
	rng := rand.New(rand.NewPCG(seed, 0))
	c := newClient(h, 1, nil, seed)
	now := &store{1, map[string]event{}}
	all := &watch{member: "m1", span: everything, from: 1, prev: true}
	some := &watch{member: "m2", span: span{keyName(0), keyName(8)}, from: 1}
	h.watches = []*watch{all, some}
	for _, w := range h.watches {
		w.messages = []message{{created: true, revision: 1}}
	}
	life := &leaseLife{id: 7, ttl: 1, granted: true, renewals: []renewal{{sent: 1, answered: 2, ttl: 1}}}
	h.leases[life.id] = life
	var told []event
	at := time.Duration(10)
	happen := func(o *op) {
		before := now
		var got outcome
		now, got = o.do(before)
		o.called, o.answered, o.got = at, at+5, got
		at += 10
		for _, w := range h.watches {
			m := message{at: at, revision: now.revision}
			for key, row := range now.keys {
				if before.keys[key] != row && w.span.contains(key) {
					m.events = append(m.events, row)
				}
			}
			for key := range before.keys {
				if _, left := now.keys[key]; !left && w.span.contains(key) {
					m.events = append(m.events, event{deleted: true, key: key, mod: now.revision})
				}
			}
			slices.SortFunc(m.events, func(a, b event) int { return strings.Compare(a.key, b.key) })
			for _, e := range m.events {
				m.before = append(m.before, before.keys[e.key])
			}
			if w == all {
				told = append(told, m.events...)
			}
			w.messages = append(w.messages, m) // one without events is news of progress
		}
	}
	for n := range 300 {
		o := &op{client: 1}
		switch {
		case n == 5:
			o.actions = []action{{span: span{key: "l/7"}, value: "leased", lease: 7}}
		case n == 200:
			at = life.renewals[0].until() + 1
			happen(&op{ends: 7})
			continue
		case rng.IntN(3) == 0:
			o.reads = span{key: c.key()}
		case rng.IntN(5) == 0:
			o.reads = everything
		case rng.IntN(4) == 0:
			o.actions = []action{c.deletion(c.key())}
		default:
			o.actions = []action{c.put(c.key())}
			if row := now.keys[o.actions[0].key]; rng.IntN(2) == 0 {
				o.guard, o.guardMod = o.actions[0].key, row.mod
			}
		}
		happen(o)
		h.ops = append(h.ops, o)
	}
	return h, map[string][]event{"m1": told, "m2": slices.Clone(told)}
}

// Goal: the judge finds what is wrong. Method: a history without a mistake, which it must pass, and the same with one mistake each.
func TestJudgeFindsMistakes(t *testing.T) {
	read := func(h *history) *op { // the last read of a key that has changed
		for _, o := range slices.Backward(h.ops) {
			if len(o.actions) == 0 && o.reads.end == "" && len(o.got.rows) == 1 && o.got.rows[0].version > 1 {
				return o
			}
		}
		panic("no such read")
	}
	put := func(h *history) (int, *op) {
		for i, o := range slices.Backward(h.ops[:280]) {
			if len(o.actions) == 1 && !o.actions[0].deleted && o.guard == "" {
				return i, o
			}
		}
		panic("no such put")
	}
	withEvents := func(w *watch, atLeast int) int {
		for i := 50; i < len(w.messages); i++ {
			if len(w.messages[i].events) >= atLeast {
				return i
			}
		}
		panic("no such message")
	}
	withPrevious := func(h *history) *message {
		for i := range h.watches[0].messages {
			if m := &h.watches[0].messages[i]; len(m.before) > 0 && m.before[0] != (event{}) {
				return m
			}
		}
		panic("no such message")
	}
	for _, c := range []struct {
		name    string
		mistake func(h *history, told map[string][]event)
		want    string // empty: there is nothing wrong
	}{
		{"nothing", func(*history, map[string][]event) {}, ""},
		{"an answer is lost", func(h *history, _ map[string][]event) {
			_, o := put(h)
			o.answered, o.got = 0, outcome{}
		}, ""},
		{"a stale read", func(h *history, _ map[string][]event) {
			o := read(h)
			o.got.revision = 2
			o.got.rows = nil
		}, "not linearizable"},
		{"a read of a value that is no longer there", func(h *history, _ map[string][]event) {
			read(h).got.rows[0].value = "old"
		}, "not linearizable"},
		{"a wrong version", func(h *history, _ map[string][]event) { read(h).got.rows[0].version-- }, "not linearizable"},
		{"a write that is lost", func(h *history, told map[string][]event) {
			for who := range told {
				told[who] = told[who][:len(told[who])-40]
			}
			for _, w := range h.watches {
				w.messages = w.messages[:1]
			}
		}, "lost"},
		{"a write that happened twice", func(h *history, _ map[string][]event) {
			i, o := put(h)
			again := *o
			h.ops = slices.Insert(h.ops, i, &again)
		}, "given twice"},
		{"a write nobody asked for", func(h *history, _ map[string][]event) {
			i, _ := put(h)
			h.ops = slices.Delete(h.ops, i, i+1)
		}, "nobody asked for"},
		{"a guard that held and should not have", func(h *history, _ map[string][]event) {
			for _, o := range slices.Backward(h.ops) {
				if o.guard != "" {
					o.guardMod--
					return
				}
			}
		}, "does not do"},
		{"members that tell different histories", func(_ *history, told map[string][]event) { told["m2"][20].value = "other" }, "others say"},
		{"a member that skips a revision", func(h *history, told map[string][]event) {
			delete(told, "m1")
			told["m2"] = told["m2"][1:]
			h.watches = nil
		}, "nobody was told of revision 2"},
		{"a watch that misses an event", func(h *history, _ map[string][]event) {
			w := h.watches[1]
			i := withEvents(w, 1)
			w.messages = slices.Delete(w.messages, i, i+1)
		}, "was to be told"},
		{"a watch that is told twice", func(h *history, _ map[string][]event) {
			w := h.watches[1]
			i := withEvents(w, 1)
			w.messages = slices.Insert(w.messages, i, w.messages[i])
		}, "was to be told"},
		{"a watch that is told in the wrong order", func(h *history, _ map[string][]event) {
			w := h.watches[1]
			i := withEvents(w, 1)
			j := i + 1
			for len(w.messages[j].events) == 0 {
				j++
			}
			w.messages[i], w.messages[j] = w.messages[j], w.messages[i]
		}, "was to be told"},
		{"a revision in two pieces", func(h *history, _ map[string][]event) {
			w := h.watches[1]
			i := withEvents(w, 2)
			half := w.messages[i]
			half.events = half.events[:1]
			w.messages[i].events = w.messages[i].events[1:]
			w.messages = slices.Insert(w.messages, i, half)
		}, "was to be told"},
		{"progress ahead of events", func(h *history, _ map[string][]event) {
			w := h.watches[1]
			i := withEvents(w, 1)
			w.messages = slices.Insert(w.messages, i, message{at: w.messages[i].at, revision: w.messages[i].revision})
		}, "was to be told"},
		{"a wrong previous value", func(h *history, _ map[string][]event) {
			w := h.watches[0]
			w.messages[withEvents(w, 1)].before[0].version++
		}, "told that before"},
		{"a previous value that is missing", func(h *history, _ map[string][]event) {
			m := withPrevious(h)
			m.before[0], m.hidden = event{}, m.events[0].mod-1
		}, "told that before"},
		{"a previous value whose revision was compacted", func(h *history, _ map[string][]event) {
			m := withPrevious(h)
			m.before[0], m.hidden = event{}, m.events[0].mod
		}, ""},
		{"a wrong previous value whose revision was compacted", func(h *history, _ map[string][]event) {
			m := withPrevious(h)
			m.before[0].version++
			m.hidden = m.events[0].mod
		}, "told that before"},
		{"a lease that ends early", func(h *history, _ map[string][]event) { h.leases[7].renewals[0].sent += 1000 }, "had ended by"},
		{"a lease that is denied", func(h *history, _ map[string][]event) {
			h.leases[7].renewals = append(h.leases[7].renewals, renewal{sent: 100, answered: 101})
		}, "there is none"},
		{"a serializable read of what never was", func(h *history, _ map[string][]event) {
			h.stale = []*op{{reads: span{key: "k/none"}, got: outcome{revision: 20, rows: []event{{key: "k/none"}}}}}
		}, "serializable read got"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, told := invented(1)
			c.mistake(h, told)
			_, err := h.judge(told)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("found a mistake in a history without one: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("found %v, wanted something with %q", err, c.want)
			}
		})
	}
}

// liar answers some reads of a key as it was read before.
type liar struct {
	grpc.ClientConnInterface
	mu    *sync.Mutex // guards the fields below
	known map[string]*pb.RangeResponse
	told  *int
}

func (l liar) Invoke(ctx context.Context, method string, q, a any, options ...grpc.CallOption) error {
	if err := l.ClientConnInterface.Invoke(ctx, method, q, a, options...); err != nil {
		return err
	}
	asked, isRange := q.(*pb.RangeRequest)
	if !isRange || len(asked.GetRangeEnd()) > 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := a.(*pb.RangeResponse)
	key := string(asked.GetKey())
	if old := l.known[key]; old != nil && *l.told == 0 && old.GetHeader().GetRevision() < answer.GetHeader().GetRevision()-50 {
		*l.told++
		proto.Reset(answer)
		proto.Merge(answer, old)
		return nil
	}
	if l.known[key] == nil {
		l.known[key] = proto.Clone(answer).(*pb.RangeResponse)
	}
	return nil
}

// Goal: one stale read among thousands of requests to a real cluster is found. Method: a round without faults, in which what stands
// between one client and the members tells it once what it was told before.
func TestOneStaleReadIsFound(t *testing.T) {
	t.Parallel()
	r := newRound(t, startCluster(t, chosen(t), 3, false), 1)
	ctx, stop := context.WithCancel(t.Context())
	var told int
	lie := liar{mu: new(sync.Mutex), known: map[string]*pb.RangeResponse{}, told: &told}
	workers := r.work(ctx)
	watchers := r.watch(ctx)
	workers.Go(func() {
		c := newClient(r.history, 99, r.cluster.present, 1)
		c.through = func(m *member) grpc.ClientConnInterface {
			lie.ClientConnInterface = m.conn
			return lie
		}
		c.run(ctx)
	})
	err := r.awaitAnswers()
	stop()
	workers.Wait()
	watchers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	last, err := r.cluster.settle(r.history)
	if err != nil {
		t.Fatal(err)
	}
	history, err := r.cluster.tell(r.compacted, last)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.judge(history)
	if told != 1 || err == nil || !strings.Contains(err.Error(), "not linearizable") {
		t.Fatalf("%d lies were told among %d requests; found: %v", told, r.count(), err)
	}
	t.Logf("%.600s", err)
}
