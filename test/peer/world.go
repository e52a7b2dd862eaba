package peer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

// world is an episode under way: the two servers and all that operations need to know of their common state.
type world struct {
	differences
	targets   [2]*target // the reference first, ours second
	histories [2]*history
	others    []*history // of the second side's other members
	streams   [streamSlots]*[2]*stream
	tally     *Tally
	settings  settings
	known     *regexp.Regexp
	skip      *regexp.Regexp
	etcdutl   string // path of etcd's tool, "" when there is none

	current   int64 // revision of the store, from the reference's headers
	previous  int64 // what current was before the call under way
	compacted int64 // revision of the last compaction, 0 before the first
	hashReady bool  // the last compaction has left its hash in the cache of both servers
	restarted bool  // since the last compaction, which empties that cache
	patchy    bool  // since the last compaction some members of the second side have lost or never had that hash
	cluster   *Cluster
	began     time.Time

	selfID    [2]uint64
	learnerID [2]uint64
	// versionKnown is set once both servers report the version of their storage.
	versionKnown bool
	leases       [2]map[int64]int64 // slot -> id the server chose
	chosen       map[int64]int64    // id the reference chose -> id ours chose

	keys    map[string]keyState // live keys, replayed from the reference's history
	replays int                 // events of the history that keys contains
}

// skips says whether an operation is one to leave out.
func (w *world) skips(o op) bool { return w.skip != nil && w.skip.MatchString(o.String()) }

// keyState is what the tally wants to know of a live key.
type keyState struct{ created, lease int64 }

// A difference is the finding that the two servers do not agree.
type difference struct{ text string }

func (d *difference) Error() string { return d.text }

func (w *world) differ(format string, args ...any) error {
	return &difference{fmt.Sprintf(format, args...)}
}

// both runs send on the two servers at once.
func (w *world) both(send func(t int) answer) (want, got answer) {
	var ours sync.WaitGroup
	ours.Go(func() { got = send(1) })
	want = send(0)
	ours.Wait()
	return want, got
}

// exchange sends something to both servers, compares the answers and keeps account of the reference's. When the servers
// choose a number, pair learns the pair of them before the comparison.
func (w *world) exchange(request proto.Message, send func(t int) answer, pair func(want, got answer)) (want, got answer, err error) {
	want, got = w.both(send)
	if pair != nil && want.text == "" && got.text == "" {
		pair(want, got)
	}
	w.learn(want)
	if strings.Contains(want.text, "request timed out") {
		return want, got, fmt.Errorf("etcd cannot serve: %s", want.text) // nothing to compare with
	}
	if found := w.compare(request, want, got); len(found) > 0 {
		return want, got, w.differ("%s\n  etcd answered %s\n  ours answered %s", join(found), want, got)
	}
	w.tally.countError(want.code, want.text)
	return want, got, nil
}

// leftOut says whether differences.txt has the method at path as not built and ours says the same. Then the reference is
// not asked, so that the two do not drift apart. Otherwise send has ours' answer and the comparison goes its way.
func (w *world) leftOut(path string, send *func(t int) answer) bool {
	line := w.methodLine(w.unbuilt, path)
	if line == "" {
		return false
	}
	got := (*send)(1)
	if refusesUnbuilt(path, got) {
		w.tally.hit(lineRow(line))
		return true
	}
	ask := *send
	*send = func(t int) answer {
		if t == 1 {
			return got
		}
		return ask(t)
	}
	return false
}

// compare returns what differs between two answers and is not known.
func (w *world) compare(request proto.Message, want, got answer) []string {
	found := w.differences.compare(request, want, got, w.chosen)
	return slices.DeleteFunc(found, func(line string) bool { return w.known != nil && w.known.MatchString(line) })
}

// learn takes the revision from an answer's header.
func (w *world) learn(a answer) {
	for _, m := range a.messages {
		if r, ok := m.(interface{ GetHeader() *header }); ok {
			w.current = max(w.current, r.GetHeader().GetRevision())
		}
	}
}

// replay brings keys up to the current revision.
func (w *world) replay() error {
	if !eventually(func() bool { return w.histories[0].reached(w.current) }) {
		return w.differ("the watch on everything on etcd has not reached revision %d", w.current)
	}
	for _, e := range w.histories[0].events()[w.replays:] {
		w.replays++
		if e.Type == deleteEvent {
			delete(w.keys, string(e.Kv.Key))
		} else {
			w.keys[string(e.Kv.Key)] = keyState{created: e.Kv.CreateRevision, lease: e.Kv.Lease}
		}
	}
	return nil
}

// join writes up to three findings and counts the rest.
func join(found []string) string {
	const shown = 3
	text := ""
	for i, f := range found[:min(len(found), shown)] {
		if i > 0 {
			text += "\n"
		}
		text += f
	}
	if len(found) > shown {
		text += fmt.Sprintf("\n... and %d more", len(found)-shown)
	}
	return text
}
