package crash

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// event is one change of one key as a watch tells it. In a state it is the present version of a key.
type event struct {
	deleted              bool
	key, value           string
	create, mod, version int64
	lease                int64
}

func (e event) String() string {
	if e.deleted {
		return fmt.Sprintf("delete %s", e.key)
	}
	value := e.value
	if len(value) > 16 {
		value = fmt.Sprintf("%s...(%d bytes)", value[:16], len(value))
	}
	return fmt.Sprintf("put %s %q create %d mod %d version %d lease %x", e.key, value, e.create, e.mod, e.version, e.lease)
}

func rowOf(kv *mvccpb.KeyValue) event {
	return event{
		key: string(kv.GetKey()), value: string(kv.GetValue()),
		create: kv.GetCreateRevision(), mod: kv.GetModRevision(), version: kv.GetVersion(), lease: kv.GetLease(),
	}
}

func eventOf(e *mvccpb.Event) event {
	row := rowOf(e.GetKv())
	row.deleted = e.GetType() == mvccpb.Event_DELETE
	return row
}

// state is what a store holds at one revision.
type state map[string]event

// after returns the state that events make of s, which stays as it is.
func (s state) after(events []event) state {
	next := maps.Clone(s)
	for _, e := range events {
		if e.deleted {
			delete(next, e.key)
		} else {
			next[e.key] = e
		}
	}
	return next
}

// rows are the keys of s in order, as a range answers.
func (s state) rows() []event {
	rows := make([]event, 0, len(s))
	for _, key := range slices.Sorted(maps.Keys(s)) {
		rows = append(rows, s[key])
	}
	return rows
}

// leased are the keys that hang on a lease, in order.
func (s state) leased(id int64) []string {
	var keys []string
	for key, row := range s {
		if row.lease == id {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// action is one put or one deletion of a key, or of all keys from key to before end.
type action struct {
	deleted         bool
	key, end, value string
	lease           int64
}

func (a action) effect(s state, rev int64) []event {
	if !a.deleted {
		e := event{key: a.key, value: a.value, create: rev, mod: rev, version: 1, lease: a.lease}
		if old, found := s[a.key]; found {
			e.create, e.version = old.create, old.version+1
		}
		return []event{e}
	}
	var events []event
	for _, row := range s.rows() {
		if row.key == a.key && a.end == "" || row.key >= a.key && row.key < a.end {
			events = append(events, event{deleted: true, key: row.key, mod: rev})
		}
	}
	return events
}

// effect is what o does at revision rev to a store that holds s. The keys of its actions differ.
func (o *op) effect(s state, rev int64) []event {
	if o.guard != "" && s[o.guard].mod != o.guardMod {
		return nil
	}
	var events []event
	for _, a := range o.actions {
		events = append(events, a.effect(s, rev)...)
	}
	return events
}

// revocation is what the end of a lease does.
func revocation(s state, id, rev int64) []event {
	var events []event
	for _, key := range s.leased(id) {
		events = append(events, event{deleted: true, key: key, mod: rev})
	}
	return events
}
