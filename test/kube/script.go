package kube

import (
	"fmt"
	"math/rand/v2"
)

// verb is one kind of request to the API server.
type verb int

const (
	create  verb = iota
	update       // a put with the current resource version
	stale        // a put with an older resource version, which must be refused as a conflict
	same         // a put of what is there already, which must change nothing
	patch        // a merge patch
	apply        // a server-side apply
	status       // a put on the status path
	remove       // a delete; with a finalizer it only marks the object
	release      // takes the finalizer away, which completes the delete
	race         // two clients change the object at once, each retrying on conflicts
)

var verbNames = [...]string{"create", "update", "stale", "same", "patch", "apply", "status", "remove", "release", "race"}

func (v verb) String() string { return verbNames[v] }

// step is one request and the state the object is in when it is done.
type step struct {
	verb  verb
	state int // for race: the number of writes both clients have made together in the end
}

// script is what happens to one object, in order. Objects do not depend on one another.
type script struct {
	id        identity
	finalized bool // created with a finalizer
	raced     bool // created with the fields in which two clients will count
	steps     []step
}

// expected is an event that must be seen, or would be by a watcher that never lost its place.
type expected struct {
	typ      string // as in watch.EventType
	state    int
	deleting bool // the object carries a deletion timestamp
}

// racersWrites is how often each of two racing clients writes.
const racersWrites = 4

// writeScripts draws what happens to count objects, a third of each kind. Equal seeds give equal scripts.
func writeScripts(seed uint64, count int) []script {
	var scripts []script
	for i := range count {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		id := identity{
			kind:      kinds[i%len(kinds)],
			namespace: namespaces[rng.IntN(len(namespaces))],
			name:      fmt.Sprintf("obj-%05d", i),
		}
		scripts = append(scripts, writeScript(rng, id))
	}
	return scripts
}

func writeScript(rng *rand.Rand, id identity) script {
	s := script{id: id, finalized: rng.IntN(4) == 0}
	state := 0
	add := func(v verb) {
		switch v {
		case stale, same, remove, release:
		default:
			state++
		}
		s.steps = append(s.steps, step{v, state})
	}
	add(create)
	if rng.IntN(25) == 0 {
		state += 2 * racersWrites
		s.steps = append(s.steps, step{race, state})
		s.raced = true
		return s
	}
	s.addChanges(rng, add)
	if rng.IntN(2) == 0 {
		return s
	}
	add(remove)
	if s.finalized {
		add(release)
	}
	if rng.IntN(4) == 0 {
		add(create)
		s.addChanges(rng, add)
	}
	return s
}

// addChanges adds up to four requests that leave the object alive.
func (s *script) addChanges(rng *rand.Rand, add func(verb)) {
	for range rng.IntN(4) {
		v := []verb{update, update, patch, apply}[rng.IntN(4)]
		if s.id.kind.custom && rng.IntN(3) == 0 {
			v = status
		}
		add(v)
		if rng.IntN(5) == 0 {
			add(stale)
		}
		if rng.IntN(8) == 0 {
			add(same)
		}
	}
}

// events returns what a watcher sees of the object over its whole life.
func (s script) events() []expected {
	var seen []expected
	for _, st := range s.steps {
		switch st.verb {
		case create:
			seen = append(seen, expected{typ: "ADDED", state: st.state})
		case update, patch, apply, status:
			seen = append(seen, expected{typ: "MODIFIED", state: st.state})
		case race:
			for n := st.state - 2*racersWrites + 1; n <= st.state; n++ {
				seen = append(seen, expected{typ: "MODIFIED", state: n})
			}
		case remove:
			if s.finalized {
				seen = append(seen, expected{typ: "MODIFIED", state: st.state, deleting: true})
			} else {
				seen = append(seen, expected{typ: "DELETED", state: st.state})
			}
		case release:
			seen = append(seen, expected{typ: "DELETED", state: st.state, deleting: true})
		case stale, same:
		}
	}
	return seen
}

// final returns the state the object ends in, or false when it is gone.
func (s script) final() (state int, alive bool) {
	events := s.events()
	last := events[len(events)-1]
	return last.state, last.typ != "DELETED"
}

// countSteps counts the requests of all scripts.
func countSteps(scripts []script) int {
	n := 0
	for _, s := range scripts {
		n += len(s.steps)
	}
	return n
}
