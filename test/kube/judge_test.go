package kube

import (
	"reflect"
	"slices"
	"testing"
)

// TestScripts holds the scripts to what the rest relies on: equal seeds give equal scripts, each state is new, and
// together they use every verb on a few hundred objects.
func TestScripts(t *testing.T) {
	const objects = 300
	scripts := writeScripts(1, objects)
	if !reflect.DeepEqual(scripts, writeScripts(1, objects)) {
		t.Error("the same seed gives two scripts")
	}
	used := map[verb]bool{}
	for _, s := range scripts {
		for _, st := range s.steps {
			used[st.verb] = true
		}
		last := 0
		for _, e := range s.events() {
			if e.typ != "DELETED" && !e.deleting && e.state != last+1 {
				t.Errorf("%s: state %d after %d in %v", s.id, e.state, last, s.events())
			}
			last = e.state
		}
	}
	for v := create; v <= race; v++ {
		if !used[v] {
			t.Errorf("no script uses %s", v)
		}
	}
}

// TestJudge lets the judge look at observations made up by hand, right ones and wrong ones.
func TestJudge(t *testing.T) {
	id := identity{kinds[0], namespaces[0], "a"}
	s := script{id: id, steps: []step{{create, 1}, {update, 2}, {remove, 2}, {create, 3}, {update, 4}, {update, 5}}}
	added := func(n int) expected { return expected{typ: "ADDED", state: n} }
	modified := func(n int) expected { return expected{typ: "MODIFIED", state: n} }
	deleted := func(n int) expected { return expected{typ: "DELETED", state: n} }
	whole := []expected{added(1), modified(2), deleted(2), added(3), modified(4), modified(5)}
	if !slices.Equal(whole, s.events()) {
		t.Fatalf("the script's events are %v", s.events())
	}
	const absent, nolist = 0, -1
	type part struct {
		listed int // the state in the list that began it
		events []expected
	}
	for _, c := range []struct {
		name     string
		short    bool // the script ends with the first deletion
		parts    []part
		informer bool
		lists    int
		ok       bool
	}{
		{name: "everything", parts: []part{{nolist, whole}}, ok: true},
		{name: "nothing", parts: []part{{nolist, nil}}},
		{name: "first missing", parts: []part{{nolist, whole[1:]}}},
		{name: "last missing", parts: []part{{nolist, whole[:5]}}},
		{name: "one missing", parts: []part{{nolist, slices.Concat(whole[:4], whole[5:])}}},
		{name: "one twice", parts: []part{{nolist, slices.Concat(whole[:2], whole[1:])}}},
		{name: "two exchanged", parts: []part{{nolist, []expected{added(1), modified(2), added(3), deleted(2), modified(4), modified(5)}}}},
		{name: "list at the place", parts: []part{{nolist, whole[:4]}, {3, whole[4:]}}, ok: true},
		{name: "list ahead", parts: []part{{nolist, whole[:1]}, {4, whole[5:]}}, ok: true},
		{name: "list ahead, then a repetition", parts: []part{{nolist, whole[:1]}, {4, whole[4:]}}},
		{name: "list ahead, then a gap", parts: []part{{nolist, whole[:1]}, {3, whole[5:]}}},
		{name: "list behind", parts: []part{{nolist, whole[:5]}, {3, whole[4:]}}},
		{name: "list without it, between its lives", parts: []part{{nolist, whole[:1]}, {absent, whole[3:]}}, ok: true},
		{name: "list without it, while alive for good", parts: []part{{nolist, whole[:4]}, {absent, whole[4:]}}},
		{name: "list with the final state", parts: []part{{nolist, nil}, {5, nil}}, ok: true},
		{name: "informer, complete", parts: []part{{nolist, whole}}, informer: true, lists: 1, ok: true},
		{name: "informer, gap without a list", parts: []part{{nolist, []expected{added(1), modified(5)}}}, informer: true, lists: 1},
		{name: "informer, gap with a list", parts: []part{{nolist, []expected{added(1), modified(5)}}}, informer: true, lists: 2, ok: true},
		{name: "informer, back", parts: []part{{nolist, slices.Concat(whole[:5], whole[3:])}}, informer: true, lists: 2},
		{name: "informer, ended between two lives", parts: []part{{nolist, whole[:3]}}, informer: true, lists: 2},
		{name: "informer, short life without a list", short: true, parts: []part{{nolist, nil}}, informer: true, lists: 1},
		{name: "informer, short life with a list", short: true, parts: []part{{nolist, nil}}, informer: true, lists: 2, ok: true},
		{name: "informer, deletion missing", short: true, parts: []part{{nolist, whole[:2]}}, informer: true, lists: 2},
		{name: "watch, short life", short: true, parts: []part{{nolist, nil}}},
	} {
		o := &observer{name: "o", kind: id.kind, informer: c.informer, lists: c.lists}
		for _, p := range c.parts {
			e := &epoch{listed: map[string]seen{}, events: map[string][]seen{}}
			if p.listed > absent {
				e.listed[id.key()] = seen{expected: expected{typ: "LISTED", state: p.listed}}
			}
			for _, event := range p.events {
				e.events[id.key()] = append(e.events[id.key()], seen{expected: event})
			}
			o.epochs = append(o.epochs, e)
		}
		judged := s
		if c.short {
			judged.steps = s.steps[:3]
		}
		if failures := judge(o, []script{judged}); (len(failures) == 0) != c.ok {
			t.Errorf("%s: judged %v", c.name, failures)
		}
	}
}

// TestFingerprint changes an object in ways that must and must not count.
func TestFingerprint(t *testing.T) {
	id := identity{kinds[0], namespaces[0], "a"}
	base := fingerprint(id, id.content(1))
	same := id.content(1)
	if fingerprint(id, same) != base {
		t.Error("equal objects differ")
	}
	same.SetResourceVersion("7")
	withVersion := fingerprint(id, same)
	same.SetResourceVersion("8")
	if fingerprint(id, same) != withVersion {
		t.Error("the resource version counts")
	}
	other := id.content(1)
	id.setPayload(other, "pad", "x")
	if fingerprint(id, other) == base {
		t.Error("the data does not count")
	}
	raced, swapped := id.content(1), id.content(1)
	id.setPayload(raced, racerFields[0], "2")
	id.setPayload(raced, racerFields[1], "1")
	id.setPayload(swapped, racerFields[0], "1")
	id.setPayload(swapped, racerFields[1], "2")
	if fingerprint(id, raced) != fingerprint(id, swapped) || stepOf(id, raced) != 4 {
		t.Error("it counts which racer was ahead")
	}
	id.setPayload(swapped, racerFields[0], "2")
	if fingerprint(id, raced) == fingerprint(id, swapped) {
		t.Error("it does not count how far the racers are")
	}
}
