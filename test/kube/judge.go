package kube

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// judge compares what one observer saw with the scripts of its kind and returns a line for each object that differs.
//
// For one object the script gives one sequence of events. The judge keeps the set of places in that sequence at which
// the observer may stand. An event moves each place by one, and only if it is the event written there: nothing may be
// missing, repeated or out of order. Where the observer had lost its place and listed everything anew, the list moves
// it forward to the places where the object is as listed, or is gone. In the end it must stand behind the last event.
func judge(o *observer, scripts []script) []error {
	var failures []error
	if o.failure != nil {
		failures = append(failures, fmt.Errorf("%s: %w", o.name, o.failure))
	}
	known := map[string]bool{}
	for _, s := range scripts {
		if s.id.kind != o.kind {
			continue
		}
		known[s.id.key()] = true
		if err := o.follow(s); err != nil {
			failures = append(failures, fmt.Errorf("%s: %s: %w", o.name, s.id, err))
		}
	}
	for _, e := range o.epochs {
		for _, key := range slices.Sorted(maps.Keys(e.events)) {
			if !known[key] && strings.HasPrefix(key, "load-") && !automatic(key) {
				failures = append(failures, fmt.Errorf("%s: %s: events of an object in no script", o.name, key))
			}
		}
	}
	return failures
}

// automatic says whether an object is made by Kubernetes itself in every namespace.
func automatic(key string) bool { return strings.HasSuffix(key, "/kube-root-ca.crt") }

// follow walks the expected events of one object along what was seen.
func (o *observer) follow(s script) error {
	want := s.events()
	at := map[int]bool{0: true} // places: how many of want have been seen
	for i, e := range o.epochs {
		if i > 0 {
			at = listed(want, at, e, s.id.key())
			if len(at) == 0 {
				return fmt.Errorf("list %d holds it as %v, which is not what can follow in\n\t%v", i, e.listed[s.id.key()], want)
			}
		}
		for n, event := range e.events[s.id.key()] {
			next := map[int]bool{}
			for place := range at {
				for _, p := range o.accept(want, place, event.expected) {
					next[p] = true
				}
			}
			if len(next) == 0 {
				return fmt.Errorf("event %d after list %d is %v, at places %v of the expected\n\t%v\n\tall seen: %v",
					n, i, event.expected, slices.Sorted(maps.Keys(at)), want, e.events[s.id.key()])
			}
			at = next
		}
	}
	if !at[len(want)] && !o.overlooked(want, at) {
		return fmt.Errorf("seen up to %v of %d events\n\t%v", slices.Sorted(maps.Keys(at)), len(want), want)
	}
	return nil
}

// accept returns the places behind an event seen at place: the next one if it is that event. An informer that listed
// anew may have jumped, and then tells of a created object as of a changed one, and of a deletion without its state.
func (o *observer) accept(want []expected, place int, event expected) []int {
	if place < len(want) && want[place] == event {
		return []int{place + 1}
	}
	if !o.informer || o.lists < 2 {
		return nil
	}
	var places []int
	for p := place; p < len(want); p++ {
		gone := want[p].typ == "DELETED"
		if gone != (event.typ == "DELETED") {
			continue
		}
		if gone || want[p].state == event.state && want[p].deleting == event.deleting {
			places = append(places, p+1)
		}
	}
	return places
}

// overlooked says whether all that is missing is a life of the object from beginning to end: an informer that listed
// anew does not hear of what was created and deleted in between.
func (o *observer) overlooked(want []expected, at map[int]bool) bool {
	if !o.informer || o.lists < 2 || want[len(want)-1].typ != "DELETED" {
		return false
	}
	for place := range at {
		if place == 0 || want[place-1].typ == "DELETED" {
			return true
		}
	}
	return false
}

// listed returns the places at or after those in at where the object is as the list that began e holds it.
func listed(want []expected, at map[int]bool, e *epoch, key string) map[int]bool {
	entry, there := e.listed[key]
	next := map[int]bool{}
	for place := range at {
		for p := place; p <= len(want); p++ {
			alive := p > 0 && want[p-1].typ != "DELETED"
			if alive != there {
				continue
			}
			if !there || want[p-1].state == entry.state && want[p-1].deleting == entry.deleting {
				next[p] = true
			}
		}
	}
	return next
}

// contents collects the fingerprint of each object in each of its events, which must be the same for all observers.
type contents map[string]string

// collect adds what an observer saw and returns an error where it contradicts what is there.
func (c contents) collect(o *observer) error {
	var failures []error
	add := func(key string, event seen) {
		if event.typ == "LISTED" || o.informer || automatic(key) {
			return // an informer may tell a deletion with an older state
		}
		name := fmt.Sprintf("%s/%s %v", o.kind.resource.Resource, key, event.expected)
		if old, ok := c[name]; ok && old != event.fingerprint {
			failures = append(failures, fmt.Errorf("%s: %s: content %s, another observer saw %s", o.name, name, event.fingerprint, old))
		}
		c[name] = event.fingerprint
	}
	for _, e := range o.epochs {
		for key, events := range e.events {
			for _, event := range events {
				add(key, event)
			}
		}
	}
	return errors.Join(failures...)
}

// compare returns a line for each entry in which two maps differ; with common, only for keys that both have.
func compare[V comparable](what, nameA, nameB string, a, b map[string]V, common bool) []error {
	var failures []error
	for _, key := range slices.Sorted(maps.Keys(a)) {
		other, ok := b[key]
		switch {
		case !ok && !common:
			failures = append(failures, fmt.Errorf("%s: %s only on %s", what, key, nameA))
		case ok && a[key] != other:
			failures = append(failures, fmt.Errorf("%s: %s: %s has %v, %s has %v", what, key, nameA, a[key], nameB, other))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[key]; !ok && !common {
			failures = append(failures, fmt.Errorf("%s: %s only on %s", what, key, nameB))
		}
	}
	return failures
}
