package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// event is one change of one key as a watch tells it. In a store it is the present version of a key.
type event struct {
	deleted              bool
	key, value           string
	create, mod, version int64
	lease                int64
}

func (e event) String() string {
	if e.deleted {
		return fmt.Sprintf("delete %s at %d", e.key, e.mod)
	}
	return fmt.Sprintf("%s=%.16s(%d bytes) create %d mod %d version %d lease %x", e.key, e.value, len(e.value), e.create, e.mod, e.version, e.lease)
}

func rowOf(kv *mvccpb.KeyValue) event {
	return event{
		key: string(kv.GetKey()), value: string(kv.GetValue()),
		create: kv.GetCreateRevision(), mod: kv.GetModRevision(), version: kv.GetVersion(), lease: kv.GetLease(),
	}
}

func rowsOf(kvs []*mvccpb.KeyValue) []event {
	var rows []event
	for _, kv := range kvs {
		rows = append(rows, rowOf(kv))
	}
	return rows
}

func eventOf(e *mvccpb.Event) event {
	if e.GetType() == mvccpb.Event_DELETE {
		return event{deleted: true, key: string(e.GetKv().GetKey()), mod: e.GetKv().GetModRevision()}
	}
	return rowOf(e.GetKv())
}

// span is a key, or, with an end, all keys from key to before end.
type span struct{ key, end string }

func (s span) contains(key string) bool {
	if s.end == "" {
		return key == s.key
	}
	return key >= s.key && key < s.end
}

func (s span) rangeEnd() []byte {
	if s.end == "" {
		return nil
	}
	return []byte(s.end)
}

// everything is all keys that tests use.
var everything = span{"a", "z"}

// store is what the cluster holds at one revision: the model that everything is judged by. It is never changed; what happens makes
// a new one.
type store struct {
	revision int64
	keys     map[string]event
}

// after returns the store that events at the next revision make of s.
func (s *store) after(events []event) *store {
	if len(events) == 0 {
		return s
	}
	next := &store{s.revision + 1, maps.Clone(s.keys)}
	for _, e := range events {
		if e.deleted {
			delete(next.keys, e.key)
		} else {
			next.keys[e.key] = e
		}
	}
	return next
}

// rows are the keys of a span, in order.
func (s *store) rows(where span) []event {
	var rows []event
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		if where.contains(key) {
			rows = append(rows, s.keys[key])
		}
	}
	return rows
}

// leased are the keys that hang on a lease, in order.
func (s *store) leased(id int64) []string {
	var keys []string
	for _, row := range s.rows(everything) {
		if row.lease == id {
			keys = append(keys, row.key)
		}
	}
	return keys
}

// action is one put, or one deletion of a key or a span.
type action struct {
	span
	deleted bool
	value   string
	lease   int64
}

func (a action) effect(s *store) []event {
	mod := s.revision + 1
	if !a.deleted {
		e := event{key: a.key, value: a.value, create: mod, mod: mod, version: 1, lease: a.lease}
		if old, found := s.keys[a.key]; found {
			e.create, e.version = old.create, old.version+1
		}
		return []event{e}
	}
	var events []event
	for _, row := range s.rows(a.span) {
		events = append(events, event{deleted: true, key: row.key, mod: mod})
	}
	return events
}

// op is one request of a client: a read; or writes that happen together, if the guard holds; or the end of a lease, by request or
// because it is over.
type op struct {
	client  int
	reads   span
	actions []action
	ends    int64 // a lease
	// guard is a key that must have guardMod as its mod revision; empty for none. If it has not, the guard is read.
	guard    string
	guardMod int64

	called, answered time.Duration // since the beginning; answered is 0 without an answer
	got              outcome
}

// outcome is what a request is answered.
type outcome struct {
	revision  int64
	succeeded bool // the guard held
	deleted   int64
	rows      []event // that were read
}

func (o outcome) equal(other outcome) bool {
	return o.revision == other.revision && o.succeeded == other.succeeded && o.deleted == other.deleted && slices.Equal(o.rows, other.rows)
}

func (o *op) String() string {
	what := fmt.Sprintf("%+v", o.actions)
	switch {
	case o.ends != 0:
		what = fmt.Sprintf("end of lease %x", o.ends)
	case len(o.actions) == 0:
		what = fmt.Sprintf("read of %+v", o.reads)
	case o.guard != "":
		what += fmt.Sprintf(" if %s is at %d", o.guard, o.guardMod)
	}
	if o.answered == 0 {
		return fmt.Sprintf("client %d from %v without an answer: %s", o.client, o.called, what)
	}
	return fmt.Sprintf("client %d from %v to %v: %s; got %+v", o.client, o.called, o.answered, what, o.got)
}

// do carries out o on s, and tells what it is answered.
func (o *op) do(s *store) (*store, outcome) {
	switch {
	case o.ends != 0:
		var events []event
		for _, key := range s.leased(o.ends) {
			events = append(events, event{deleted: true, key: key, mod: s.revision + 1})
		}
		next := s.after(events)
		return next, outcome{revision: next.revision}
	case len(o.actions) == 0:
		return s, outcome{revision: s.revision, rows: s.rows(o.reads)}
	case o.guard != "" && s.keys[o.guard].mod != o.guardMod:
		return s, outcome{revision: s.revision, rows: s.rows(span{key: o.guard})}
	}
	var events []event
	var deleted int64
	for _, a := range o.actions {
		done := a.effect(s)
		events = append(events, done...)
		if a.deleted {
			deleted += int64(len(done))
		}
	}
	next := s.after(events)
	return next, outcome{revision: next.revision, succeeded: true, deleted: deleted}
}
