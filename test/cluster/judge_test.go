package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// porcupineTimeout is far more than a history needs whose revisions are known.
const porcupineTimeout = 60 * time.Second

// verdict is a history with what certainly happened: the events of every revision, and the store they make of each.
type verdict struct {
	*history
	events map[int64][]event // by revision
	stores []*store          // by revision; the first is empty
	seen   map[int64]time.Duration
	owner  map[int64]*op // what made a revision
}

// judge asks that there is one order of all requests which explains every answer, that every watch was told the truth, and that
// leases lived as long as was promised. told is the history as members tell it at the end.
func (h *history) judge(told map[string][]event) (*verdict, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := &verdict{history: h, events: map[int64][]event{}, seen: map[int64]time.Duration{}, owner: map[int64]*op{}}
	if err := v.gather(told); err != nil {
		return v, err
	}
	if err := v.attribute(); err != nil {
		return v, err
	}
	return v, errors.Join(v.linearizable(), v.checkStale(), v.checkWatches(), v.checkLeases())
}

// gather finds the events of all revisions, from what members tell at the end and from watches on everything, and asks that they
// agree.
func (v *verdict) gather(told map[string][]event) error {
	learn := func(who string, events []event) error {
		for revision, some := range byRevision(events) {
			if known, found := v.events[revision]; found && !slices.Equal(known, some) {
				return fmt.Errorf("%s says that revision %d is\n%v\nothers say\n%v", who, revision, some, known)
			}
			v.events[revision] = some
		}
		return nil
	}
	for who, events := range told {
		if err := learn(who, events); err != nil {
			return err
		}
	}
	for _, w := range v.watches {
		for _, m := range w.messages {
			for revision := range byRevision(m.events) {
				if at, found := v.seen[revision]; !found || m.at < at {
					v.seen[revision] = m.at
				}
			}
			if w.span == everything {
				if err := learn("a watch at "+w.member, m.events); err != nil {
					return err
				}
			}
		}
	}
	now := &store{1, map[string]event{}}
	v.stores = []*store{now, now}
	for range len(v.events) {
		events := v.events[now.revision+1]
		if len(events) == 0 {
			return fmt.Errorf("nobody was told of revision %d, but of others up to %d", now.revision+1, len(v.events)+1)
		}
		now = now.after(events)
		v.stores = append(v.stores, now)
	}
	return nil
}

func byRevision(events []event) map[int64][]event {
	some := map[int64][]event{}
	for _, e := range events {
		some[e.mod] = append(some[e.mod], e)
	}
	return some
}

// last is the last revision.
func (v *verdict) last() int64 { return int64(len(v.stores) - 1) }

// attribute finds what made each revision: a request that was told so, a request without an answer, or the end of a lease.
func (v *verdict) attribute() error {
	var open []*op
	for _, o := range v.ops {
		switch {
		case len(o.actions) == 0:
		case o.answered == 0:
			open = append(open, o)
		case o.got.revision < 1 || o.got.revision > v.last():
			return fmt.Errorf("lost: %v; the last revision is %d", o, v.last())
		case o.got.succeeded && v.changes(o):
			if other := v.owner[o.got.revision]; other != nil {
				return fmt.Errorf("one revision was given twice: to %v and to %v", other, o)
			}
			v.owner[o.got.revision] = o
		}
	}
	for revision := int64(2); revision <= v.last(); revision++ {
		if o := v.owner[revision]; o != nil {
			if !v.does(o, revision) {
				return fmt.Errorf("revision %d is\n%v\nwhich this does not do: %v", revision, show(v.events[revision]), o)
			}
			continue
		}
		o := v.explain(revision, open)
		if o == nil {
			return fmt.Errorf("nobody asked for revision %d: %v", revision, v.events[revision])
		}
		open = slices.DeleteFunc(open, func(other *op) bool { return other == o })
		v.owner[revision] = o
	}
	return nil
}

// changes tells whether an answered write made the revision that it was told. One that deletes nothing is told the present one.
func (v *verdict) changes(o *op) bool {
	return o.got.deleted > 0 || slices.ContainsFunc(o.actions, func(a action) bool { return !a.deleted })
}

// does tells whether o, carried out on what was before a revision, makes that revision.
func (v *verdict) does(o *op, revision int64) bool {
	before := v.stores[revision-1]
	after, _ := o.do(before)
	return after != before && maps.Equal(after.keys, v.stores[revision].keys)
}

// explain finds what made a revision that no answer tells of.
func (v *verdict) explain(revision int64, open []*op) *op {
	for _, o := range open {
		if seen, found := v.seen[revision]; (!found || o.called <= seen) && v.does(o, revision) {
			return o
		}
	}
	first := v.events[revision][0]
	if id := v.stores[revision-1].keys[first.key].lease; first.deleted && id != 0 {
		if o := (&op{client: -1, ends: id}); v.does(o, revision) {
			return o
		}
	}
	return nil
}

// linearizable asks porcupine. Where answers tell of no revision, it is known from attribute; and that something happened is known
// from the moment at which anybody was told.
func (v *verdict) linearizable() error {
	at := map[*op]int64{}
	for revision, o := range v.owner {
		at[o] = revision
	}
	var operations []porcupine.Operation
	add := func(o *op) {
		operation := porcupine.Operation{ClientId: max(o.client, 0), Input: o, Call: int64(o.called), Return: int64(o.answered), Output: o.got}
		if o.answered == 0 {
			revision, happened := at[o]
			if !happened {
				return
			}
			seen, found := v.seen[revision]
			if !found {
				seen = v.now()
			}
			operation.Output, operation.Return = outcome{revision: revision}, int64(seen)
		}
		operations = append(operations, operation)
	}
	for _, o := range v.ops {
		add(o)
	}
	for _, o := range v.owner {
		if o.client < 0 {
			add(o)
		}
	}
	model := porcupine.Model{
		Init: func() any { return v.stores[1] },
		Step: func(s, input, output any) (bool, any) {
			before, o, got := s.(*store), input.(*op), output.(outcome)
			if got.revision < before.revision || got.revision > before.revision+1 {
				return false, before
			}
			after, want := o.do(before)
			if o.answered == 0 {
				return after != before && after.revision == got.revision, after
			}
			return got.equal(want), after
		},
		Equal: func(a, b any) bool { return a.(*store).revision == b.(*store).revision },
	}
	if result := porcupine.CheckOperationsTimeout(model, operations, porcupineTimeout); result != porcupine.Ok {
		return fmt.Errorf("the history of %d requests is not linearizable: porcupine says %s; %w", len(operations), result, v.reason())
	}
	return nil
}

// reason looks for something to show where porcupine only says no.
func (v *verdict) reason() error {
	var answered []*op
	for _, o := range v.ops {
		if o.answered == 0 {
			continue
		}
		answered = append(answered, o)
		if o.got.revision > v.last() || o.got.revision < 1 {
			return fmt.Errorf("there is no such revision: %v", o)
		}
		before := v.stores[o.got.revision]
		if v.owner[o.got.revision] == o {
			before = v.stores[o.got.revision-1]
		}
		if _, want := o.do(before); !want.equal(o.got) {
			return fmt.Errorf("%v, but it should have got %+v", o, want)
		}
	}
	slices.SortFunc(answered, func(a, b *op) int { return cmp.Compare(a.answered, b.answered) })
	for _, later := range answered {
		for _, earlier := range answered {
			if earlier.answered >= later.called {
				break
			}
			if earlier.got.revision > later.got.revision {
				return fmt.Errorf("stale: after %v came %v", earlier, later)
			}
		}
	}
	return errors.New("no single answer is wrong")
}

// checkStale asks that serializable reads saw what the store once held.
func (v *verdict) checkStale() error {
	for _, o := range v.stale {
		if o.got.revision < 1 || o.got.revision > v.last() {
			return fmt.Errorf("a serializable read tells of revision %d, the last is %d", o.got.revision, v.last())
		}
		if _, want := o.do(v.stores[o.got.revision]); !want.equal(o.got) {
			return fmt.Errorf("a serializable read got %+v, but the store held %+v", o.got, want)
		}
	}
	return nil
}

func (v *verdict) checkWatches() error {
	var errs []error
	for _, w := range v.watches {
		if err := v.checkWatch(w); err != nil {
			errs = append(errs, fmt.Errorf("watch of %+v at %s from revision %d (previous: %v): %w", w.span, w.member, w.from, w.prev, err))
		}
	}
	return errors.Join(errs...)
}

// checkWatch asks that a watch was told everything once, in order, each revision whole; and that what it was told of its progress
// is true.
func (v *verdict) checkWatch(w *watch) error {
	next := w.from
	for i := range w.messages {
		m := &w.messages[i]
		switch {
		case m.canceled:
			if m.compacted == 0 || next > v.compacted {
				return fmt.Errorf("at %v it was canceled: %q, compacted %d; %d was compacted", m.at, m.reason, m.compacted, v.compacted)
			}
		case m.created != (i == 0):
			return fmt.Errorf("message %d: created is %v", i, m.created)
		case m.revision > v.last():
			return fmt.Errorf("message %d at %v tells of revision %d, the last is %d", i, m.at, m.revision, v.last())
		case !m.created:
			to := m.revision
			if n := len(m.events); n > 0 {
				if to = m.events[n-1].mod; to > m.revision {
					return fmt.Errorf("at %v events of revision %d came with a header of %d", m.at, to, m.revision)
				}
			}
			if err := v.checkEvents(w, m, next, to); err != nil {
				return err
			}
		}
		next = m.tell(next)
	}
	return nil
}

// checkEvents asks that a message has all events of the watch's span in the revisions from next to the one given.
func (v *verdict) checkEvents(w *watch, m *message, next, to int64) error {
	var want, before []event
	for revision := max(next, 2); revision <= to; revision++ {
		for _, e := range v.events[revision] {
			if w.span.contains(e.key) {
				want = append(want, e)
				before = append(before, v.stores[revision-1].keys[e.key])
			}
		}
	}
	switch {
	case !slices.Equal(want, m.events):
		return fmt.Errorf("at %v, with a header of revision %d, it was to be told of revisions %d to %d\n%v\nand was told\n%v", m.at, m.revision, next, to, show(want), show(m.events))
	case w.prev && !m.tellsBefore(before):
		return fmt.Errorf("at %v it was told that before revisions %d to %d there was\n%v\nbut that was\n%v", m.at, next, to, show(m.before), show(before))
	}
	return nil
}

// tellsBefore asks that m says what was before each of its events. It belongs to the revision before the event's, and is not told
// where that has been compacted by the time the event is sent.
func (m *message) tellsBefore(want []event) bool {
	if len(m.before) != len(want) {
		return false
	}
	for i, got := range m.before {
		compacted := got == (event{}) && m.events[i].mod <= m.hidden
		if got != want[i] && !compacted {
			return false
		}
	}
	return true
}

func show(events []event) string {
	var lines []string
	for _, e := range events {
		lines = append(lines, "\t"+e.String())
	}
	if len(lines) > 12 {
		lines = append(lines[:6], append([]string{fmt.Sprintf("\t(%d more)", len(lines)-12)}, lines[len(lines)-6:]...)...)
	}
	return strings.Join(lines, "\n")
}

// checkLeases asks that no lease ended before its time, that none was renewed after its end, and that nobody was told of an end
// that had not come.
func (v *verdict) checkLeases() error {
	for _, life := range v.leases {
		for _, r := range life.renewals {
			if early := life.promisedBefore(r); r.ttl == 0 && life.revoking == 0 && early > r.answered {
				return fmt.Errorf("lease %x of %d s was promised until %v; a renewal from %v to %v was told that there is none", life.id, life.ttl, early, r.sent, r.answered)
			}
		}
	}
	for revision := int64(2); revision <= v.last(); revision++ {
		o := v.owner[revision]
		if o.ends == 0 {
			continue
		}
		seen, found := v.seen[revision]
		life := v.leases[o.ends]
		switch {
		case !found || life == nil:
			continue
		case life.revoking > 0 && life.revoking <= seen:
			continue
		case life.ttl == leaseLong:
			return fmt.Errorf("lease %x of %d s ended at %v, at revision %d", life.id, life.ttl, seen, revision)
		}
		for _, r := range life.renewals {
			// A renewal that was not answered before the end was seen may have come after it, and then it failed.
			if until := r.until(); r.ttl > 0 && until > seen {
				return fmt.Errorf("lease %x of %d s had ended by %v, at revision %d; it was renewed from %v to %v to last until %v",
					life.id, life.ttl, seen, revision, r.sent, r.answered, until)
			}
		}
	}
	return nil
}
