package apply

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/kv"
)

var seedFlag = flag.Uint64("apply.seed", 0, "seed of the random test; 0 draws one")

// model is the state machine, naively: the keys of now in a map, a lease is a number in a set, and every command looks at
// everything.
type model struct {
	rev    kv.Revision
	keys   map[string]kv.KeyValue
	leases map[kv.LeaseID]bool
}

// randomOp is one operation. A transaction asks whether its key exists.
type randomOp struct {
	verb        string // put, del, txn
	key, end    string
	value       string
	lease       kv.LeaseID
	keep        string // "", ignore-value, ignore-lease
	then, other []randomOp
}

func (o randomOp) String() string {
	switch o.verb {
	case "put":
		text := fmt.Sprintf("put %s %s %s prev", o.key, o.value, o.keep)
		if o.lease != 0 {
			text += fmt.Sprintf(" lease=%d", int64(o.lease))
		}
		return text
	case "del":
		return fmt.Sprintf("del %s %s prev", o.key, o.end)
	}
	return fmt.Sprintf("txn [%s version > 0] [%s] [%s]", o.key, join(o.then), join(o.other))
}

func join(ops []randomOp) string {
	texts := make([]string, len(ops))
	for i, o := range ops {
		texts[i] = o.String()
	}
	return strings.Join(texts, "; ")
}

const modelKeys, modelLeases = 6, 4

func randomKey(r *rand.Rand) string { return string(rune('a' + r.IntN(modelKeys))) }

func makeOp(r *rand.Rand, depth int) randomOp {
	switch n := r.IntN(10); {
	case n < 5 || (depth == 0 && n > 7):
		o := randomOp{verb: "put", key: randomKey(r), value: fmt.Sprint("v", r.IntN(100))}
		switch r.IntN(6) {
		case 0:
			o.value, o.keep = "", "ignore-value"
		case 1:
			o.keep = "ignore-lease"
		}
		if o.keep != "ignore-lease" {
			o.lease = kv.LeaseID(r.IntN(modelLeases))
		}
		return o
	case n < 8:
		o := randomOp{verb: "del", key: randomKey(r)}
		if r.IntN(3) == 0 {
			o.end = randomKey(r)
		}
		return o
	}
	o := randomOp{verb: "txn", key: randomKey(r)}
	for range r.IntN(3) {
		o.then = append(o.then, makeOp(r, depth-1))
	}
	for range r.IntN(3) {
		o.other = append(o.other, makeOp(r, depth-1))
	}
	return o
}

// path are the operations of a transaction that run, decided before any of them does. Nested transactions keep their place.
func (m *model) path(o randomOp) randomOp {
	if o.verb != "txn" {
		return o
	}
	taken := o.other
	if _, there := m.keys[o.key]; there {
		taken = o.then
	}
	o.then, o.other = nil, nil
	for _, next := range taken {
		o.then = append(o.then, m.path(next))
	}
	return o
}

func (m *model) refuse(o randomOp) string {
	if _, there := m.keys[o.key]; o.verb == "put" {
		switch {
		case o.lease != 0 && !m.leases[o.lease]:
			return "lease not found"
		case o.keep != "" && !there:
			return "key not found"
		}
	}
	for _, next := range o.then {
		if why := m.refuse(next); why != "" {
			return why
		}
	}
	return ""
}

// run carries out one operation at revision rev and returns what it did in the words of showResult; changed is set if
// it did anything.
func (m *model) run(o randomOp, rev kv.Revision, changed *bool) string {
	switch o.verb {
	case "put":
		old, there := m.keys[o.key]
		v := kv.KeyValue{Key: []byte(o.key), Value: []byte(o.value), Create: rev, Mod: rev, Version: old.Version + 1, Lease: o.lease}
		if there {
			v.Create = old.Create
		}
		switch o.keep {
		case "ignore-value":
			v.Value = old.Value
		case "ignore-lease":
			v.Lease = old.Lease
		}
		m.keys[o.key], *changed = v, true
		if there {
			return " prev " + showRow(old.Append(nil))
		}
		return ""
	case "del":
		n, text := 0, ""
		for _, key := range m.sorted() {
			if key == o.key || (o.end != "" && key >= o.key && key < o.end) {
				if o.end != "" && o.key >= o.end {
					continue
				}
				old := m.keys[key]
				text += " prev " + showRow(old.Append(nil))
				delete(m.keys, key)
				n, *changed = n+1, true
			}
		}
		return fmt.Sprintf("deleted %d%s", n, text)
	}
	var text string
	for _, next := range o.then {
		text += m.run(next, rev, changed)
	}
	return text
}

func (m *model) sorted() []string {
	var keys []string
	for key := range m.keys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// do runs a whole command.
func (m *model) do(o randomOp) string {
	o = m.path(o)
	if why := m.refuse(o); why != "" {
		return fmt.Sprintf("rev=%s error: %s", m.rev, why)
	}
	changed := false
	text := m.run(o, m.rev+1, &changed)
	if changed {
		m.rev++
	}
	if o.verb == "del" {
		text = " " + text
	}
	return fmt.Sprintf("rev=%s%s", m.rev, text)
}

func (m *model) revoke(id kv.LeaseID) string {
	if !m.leases[id] {
		return fmt.Sprintf("rev=%s error: lease not found", m.rev)
	}
	delete(m.leases, id)
	changed := false
	for key, v := range m.keys {
		if v.Lease == id {
			delete(m.keys, key)
			changed = true
		}
	}
	if changed {
		m.rev++
	}
	return fmt.Sprintf("rev=%s", m.rev)
}

func (m *model) grant(id kv.LeaseID) string {
	if m.leases[id] {
		return fmt.Sprintf("rev=%s error: lease already exists", m.rev)
	}
	m.leases[id] = true
	return fmt.Sprintf("rev=%s lease=%d ttl=60", m.rev, int64(id))
}

// state is the model in the words of dump.
func (m *model) state() string {
	text := fmt.Sprintf("revision %s\n", m.rev)
	for _, key := range m.sorted() {
		v := m.keys[key]
		text += showRow(v.Append(nil)) + "\n"
	}
	for id := range kv.LeaseID(modelLeases) {
		if !m.leases[id] {
			continue
		}
		text += fmt.Sprintf("lease %d:", int64(id))
		for _, key := range m.sorted() {
			if m.keys[key].Lease == id {
				text += " " + key
			}
		}
		text += "\n"
	}
	return text
}

func (b *bench) dump() string {
	text := fmt.Sprintf("revision %s\n", b.keys.Revision())
	r, err := b.keys.Range(b.t.Context(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte{0}, End: []byte{0}}})
	if err != nil {
		b.t.Fatal(err)
	}
	for row := range r.Rows.All() {
		text += showRow(row) + "\n"
	}
	for _, l := range b.leases.All() {
		text += fmt.Sprintf("lease %d:", int64(l.ID))
		for _, key := range b.leases.Keys(l.ID) {
			text += " " + string(key)
		}
		text += "\n"
	}
	return text
}

// TestRandomCommands holds the machine against a model that is small enough to be right by reading: random commands in
// runs of random length, with restarts that keep everything and crashes after which the lost entries are applied again,
// as the raft log does. Every answer and the whole state must be the same.
func TestRandomCommands(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("go test ./apply -run TestRandomCommands -apply.seed=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t)
	defer func() { b.close() }()
	m := &model{rev: 1, keys: map[string]kv.KeyValue{}, leases: map[kv.LeaseID]bool{}}
	var log [][]string // the runs since the store was made durable
	for range 400 {
		var lines, want []string
		for range 1 + r.IntN(5) {
			line, answer := m.random(r)
			lines, want = append(lines, line), append(want, answer)
		}
		for i, got := range b.apply(lines...) {
			if text := flatten(got); text != want[i] {
				t.Fatalf("%s\ngave %q\nwant %q", lines[i], text, want[i])
			}
		}
		log = append(log, lines)
		switch r.IntN(30) {
		case 0:
			b.restart(true)
			log = nil
		case 1:
			b.restart(false)
			for _, lines := range log {
				b.apply(lines...)
			}
		default:
			continue
		}
		if got, want := b.dump(), m.state(); got != want {
			t.Fatalf("the state is\n%swant\n%s", got, want)
		}
	}
	if got, want := b.dump(), m.state(); got != want {
		t.Fatalf("in the end the state is\n%swant\n%s", got, want)
	}
}

// random draws a command, runs it in the model and returns it with its answer.
func (m *model) random(r *rand.Rand) (line, answer string) {
	id := kv.LeaseID(1 + r.IntN(modelLeases-1))
	switch n := r.IntN(12); n {
	case 0, 1:
		return fmt.Sprintf("grant %d 60", int64(id)), m.grant(id)
	case 2:
		return fmt.Sprintf("revoke %d", int64(id)), m.revoke(id)
	}
	o := makeOp(r, 2)
	return o.String(), m.do(o)
}

// flatten is showResult with a transaction reduced to what its puts and deletes say.
func flatten(r Result) string {
	if r.Err != nil || r.Txn == nil {
		return showResult(r)
	}
	return "rev=" + r.Revision.String() + flattenTxn(r.Txn)
}

func flattenTxn(r *kv.TxnResult) (text string) {
	for _, one := range r.Responses {
		switch {
		case one.Put != nil:
			text += showPut(one.Put)
		case one.DeleteRange != nil:
			text += showDelete(one.DeleteRange)
		case one.Txn != nil:
			text += flattenTxn(one.Txn)
		}
	}
	return text
}
