package sim

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/mvcc"
)

// judge knows what is right. It runs a plain model over the log as it is first applied anywhere, and holds against it what
// every member applies and answers; the order in which clients saw things is judged at the end.
type judge struct {
	w       *world
	log     []apply.Entry         // [i] has index i+1
	now     *state                // after log
	states  []*state              // by revision
	changes [][]change            // by revision
	results map[uint64]result     // of requests, by the model
	moments map[uint64]int64      // at which they were first applied
	places  map[uint64]int        // index of their entries
	begins  []int                 // index of the entry that made a revision
	sent    map[uint64]*vfs.MemFS // snapshots on their way, by index
	roster  roster                // after log
	rosters map[uint64]verdict    // of the configuration changes, by index
	permits []*users              // by index of the entry that they are after
	known   int                   // index of the last entry of which a client knows

	ops  []*op // of clients and of lease clocks
	byID map[uint64]*op

	leases   []kv.LeaseID // those ever granted
	nextID   kv.LeaseID
	ending   map[uint64]kv.LeaseID // requests to end a lease because it is over
	lives    map[kv.LeaseID]promise
	gone     map[kv.LeaseID]int64 // moment of the end of those that ended
	forwards []jump               // of clocks
	hashes   map[hashOf]uint32
}

type jump struct{ at, by time.Duration }

// hashOf is what a hash is of. What a compaction remembers and what is computed afterwards differ, in etcd too, when a key was
// deleted at the revision itself: the compaction counts the tombstone.
type hashOf struct {
	revision, compacted kv.Revision
	remembered          bool
}

func newJudge(w *world) *judge {
	s := emptyState()
	return &judge{
		w: w, now: s, states: []*state{s, s}, changes: [][]change{nil, nil}, results: map[uint64]result{}, moments: map[uint64]int64{}, places: map[uint64]int{}, begins: []int{0, 0},
		permits: []*users{s.users}, roster: roster{}, rosters: map[uint64]verdict{}, sent: map[uint64]*vfs.MemFS{}, byID: map[uint64]*op{}, ending: map[uint64]kv.LeaseID{},
		lives: map[kv.LeaseID]promise{}, gone: map[kv.LeaseID]int64{}, hashes: map[hashOf]uint32{},
	}
}

// began notes that a command is on its way.
func (j *judge) began(o *op) {
	o.payload = bytes.Clone(o.payload)
	j.ops = append(j.ops, o)
	j.byID[o.id] = o
}

// refused notes that a command was turned away and must never take effect.
func (j *judge) refused(o *op) { o.got.err = errRefused }

// applied hears of an entry before a member applies it.
func (j *judge) applied(m *member, e apply.Entry) {
	if n := uint64(len(j.log)); uint64(e.Index) <= n {
		if before := j.log[e.Index-1]; before.Term != e.Term || !bytes.Equal(before.Payload, e.Payload) {
			j.w.fail("%s applies at index %d an entry of term %d with %x, elsewhere it was term %d with %x", m, e.Index, e.Term, e.Payload, before.Term, before.Payload)
		}
		return
	} else if uint64(e.Index) != n+1 {
		j.w.fail("%s applies entry %d, nobody has applied entry %d", m, e.Index, n+1)
	}
	e.Payload = bytes.Clone(e.Payload)
	j.log = append(j.log, e)
	if len(e.Payload) > 0 {
		j.command(e)
	}
	j.permits = append(j.permits, j.now.users)
}

func (j *judge) command(e apply.Entry) {
	c, err := kv.DecodeCommand(e.Payload)
	if err != nil {
		j.w.fail("entry %d: %v", e.Index, err)
	}
	switch o := j.byID[c.ID]; {
	case o == nil:
		j.w.fail("entry %d has request %x, which nobody made", e.Index, c.ID)
	case o.got.err == errRefused:
		j.w.fail("entry %d has %v, which was refused", e.Index, o)
	}
	if r, twice := j.results[c.ID]; twice {
		j.w.fail("entry %d has request %x for the second time; the first gave %v", e.Index, c.ID, r)
	}
	after, r, changes := j.now.apply(&c)
	j.results[c.ID], j.moments[c.ID], j.places[c.ID] = r, j.w.moment(), int(e.Index)
	j.w.note("entry %d, request %x: %v", e.Index, c.ID, r)
	if len(changes) > 0 {
		j.states = append(j.states, after)
		j.changes = append(j.changes, changes)
		j.begins = append(j.begins, int(e.Index))
	}
	j.now = after
	if r.err == nil {
		j.lease(&c)
	}
}

// lease follows the lives of leases.
func (j *judge) lease(c *kv.Command) {
	switch {
	case c.LeaseGrant != nil:
		delete(j.gone, c.LeaseGrant.ID)
		j.leases = append(j.leases, c.LeaseGrant.ID)
		j.lives[c.LeaseGrant.ID] = promise{j.w.now, time.Duration(max(c.LeaseGrant.TTL, leaseTTLMin)) * time.Second}
	case c.LeaseRevoke != nil:
		j.gone[c.LeaseRevoke.ID] = j.w.moment()
		if id, over := j.ending[c.ID]; over {
			j.w.counts["leases that ended"]++
			j.ended(id)
		}
	}
}

// ended asks that a lease lived as long as was promised when it was granted or last renewed. A clock that jumps ahead takes
// that from every life.
func (j *judge) ended(id kv.LeaseID) {
	life := j.lives[id]
	lived := j.w.now - life.since
	for _, f := range j.forwards {
		if f.at >= life.since {
			lived += f.by
		}
	}
	if lived < life.ttl {
		j.w.fail("lease %d was promised %v at %v and was ended %v later", int64(id), life.ttl, life.since, lived)
	}
}

// promise is the life that a lease has from a moment on.
type promise struct{ since, ttl time.Duration }

// renewed hears that a lease has its whole life again, at least from when it was asked for. A lease that had ended by then
// has none.
func (j *judge) renewed(id kv.LeaseID, called time.Duration, call int64) {
	if at, gone := j.gone[id]; gone && at < call {
		j.w.fail("lease %d was renewed, but had ended before that was asked for", int64(id))
	}
	life := j.lives[id]
	life.since = max(life.since, called)
	j.lives[id] = life
}

// ends makes a request to end a lease that is over.
func (j *judge) ends(l *life, id kv.LeaseID) (payload []byte, request uint64) {
	request = uint64(j.w.moment())<<1 | 1
	j.ending[request] = id
	payload = kv.DraftLeaseRevoke(&kv.LeaseRevokeRequest{ID: id}).Seal(l.asRoot(request))
	return j.ofLeader(payload, request), request
}

// agrees makes a request to agree on what is left of leases.
func (j *judge) agrees(q *pb.LeaseCheckpointRequest) (payload []byte, request uint64) {
	request = uint64(j.w.moment())<<1 | 1
	payload, err := kv.EncodeCold(kv.CommandHeader{ID: request}, &pb.InternalRaftRequest{LeaseCheckpoint: q})
	if err != nil {
		panic(err)
	}
	return j.ofLeader(payload, request), request
}

// ofLeader notes that a member makes a request by itself.
func (j *judge) ofLeader(payload []byte, request uint64) []byte {
	j.began(&op{id: request, client: -1, call: j.w.moment(), payload: payload})
	return payload
}

// newLease draws an id for a lease; rarely one that was given before.
func (j *judge) newLease() kv.LeaseID {
	if j.w.chance(5) {
		return j.someLease()
	}
	j.nextID++
	return j.nextID
}

// someLease is one of the last that were granted, alive or not.
func (j *judge) someLease() kv.LeaseID {
	if len(j.leases) == 0 {
		return 1
	}
	last := j.leases[max(0, len(j.leases)-8):]
	return last[j.w.rnd.IntN(len(last))]
}

// someLeaseToRenew is at times a long one that lives: renewals of short ones alone would come before anything was agreed on.
func (j *judge) someLeaseToRenew() kv.LeaseID {
	var long []kv.LeaseID
	for _, id := range j.leases {
		if _, lives := j.now.leases[id]; lives && j.lives[id].ttl >= longLife {
			long = append(long, id)
		}
	}
	if len(long) == 0 || j.w.chance(80) {
		return j.someLease()
	}
	return long[j.w.rnd.IntN(len(long))]
}

// result holds a member's result against the model's.
func (j *judge) result(m *member, r *apply.Result, wanted bool) {
	got, want := showResult(r), j.results[r.ID]
	if !wanted {
		got.text = want.text // members make no answer that nobody waits for
	}
	if !got.equal(want) {
		j.w.fail("%s applied request %x with %v, the model has %v", m, r.ID, got, want)
	}
}

// read judges an answer to a question by the state at its revision; whether that was new enough is seen at the end.
func (j *judge) read(l *life, o *op) {
	if o.got.err != nil {
		if o.query.Revision == 0 || o.got.err != mvcc.ErrCompacted || o.query.Revision >= j.now.compacted {
			j.w.fail("%v: %v at revision %d, compacted is %d", o, o.got.err, o.query.Revision, j.now.compacted)
		}
		return
	}
	if o.got.revision >= kv.Revision(len(j.states)) {
		j.w.fail("%v tells of revision %d, the newest is %d", o, o.got.revision, len(j.states)-1)
	}
	at := o.got.revision
	if o.query != nil && o.query.Revision > 0 {
		at = o.query.Revision
	}
	if want := j.states[at].ask(o); o.got.text != want {
		j.w.fail("%v at %s got, at revision %d,\n%s\nthe model has\n%s", o, l.member, at, o.got.text, want)
	}
	if o.sees {
		j.ops = append(j.ops, o)
	} else {
		j.w.counts["serializable reads"]++
	}
}

// ask answers a question.
func (s *state) ask(o *op) string {
	if o.query != nil {
		return s.answer(o.query)
	}
	n := &next{state: s}
	text, err := n.txn(o.txn)
	if err != nil {
		panic(err)
	}
	return text
}

// compareHashes asks that members which hold the same hold the same.
func (j *judge) compareHashes() bool {
	for _, m := range j.w.members {
		if m.life == nil {
			continue
		}
		for _, other := range j.w.members {
			if other.life != nil {
				j.hash(m.life, min(m.life.keys.Revision(), other.life.keys.Revision()))
			}
		}
	}
	return true
}

func (j *judge) hash(l *life, at kv.Revision) {
	if at < l.keys.Compacted() {
		return
	}
	h, err := l.keys.HashKV(context.Background(), at)
	if err != nil {
		j.w.fail("%s: hash at revision %d: %v", l.member, at, err)
	}
	key := hashOf{h.Revision, h.Compact, slices.Contains(l.keys.Hashes(), h)}
	if sum, known := j.hashes[key]; known && sum != h.Sum {
		j.w.fail("%s has hash %08x at revision %d compacted at %d, another has %08x", l.member, h.Sum, h.Revision, h.Compact, sum)
	}
	j.hashes[key] = h.Sum
	j.w.counts["hashes"]++
}

// finish judges the whole run, when everything has had time to come level.
func (j *judge) finish() {
	for _, id := range j.roster.all() {
		j.level(j.w.members[memberIndex(id)])
	}
	j.compareHashes()
	for _, wt := range j.w.watchers {
		wt.finish()
	}
	if n := len(j.now.leases); n > 0 {
		j.w.fail("%d leases live on, %v after the last could have been renewed", n, calmTime*2/3)
	}
	j.ordered()
	j.linearizable()
}

// level asks that a member has come to hold what the model holds.
func (j *judge) level(m *member) {
	l := m.life
	switch {
	case l == nil:
		j.w.fail("%s is down at the end", m)
	case l.appliedIndex != uint64(len(j.log)):
		j.w.fail("%s has applied %d entries at the end, others %d; status %+v", m, l.appliedIndex, len(j.log), *statusOf(l))
	}
	all := &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte{0}, End: []byte{0}}}
	r, err := l.rangeNow(all)
	if err != nil {
		j.w.fail("%s: %v", m, err)
	}
	got, want := showRange(r.Count, r.More, showRows(&r.Rows)), j.now.answer(all)
	if got != want || r.Revision != j.now.revision {
		j.w.fail("%s holds at the end, revision %d,\n%s\nthe model, revision %d,\n%s", m, r.Revision, got, j.now.revision, want)
	}
	if got, want := showUsers(l.auth.State()), j.now.users.String(); got != want {
		j.w.fail("%s holds users at the end: %s\nthe model: %s", m, got, want)
	}
	if got, want := rosterOf(l.cluster), j.roster.String(); got != want {
		j.w.fail("%s knows at the end %s, there are %s", m, got, want)
	}
	if l.keys.Compacted() != j.now.compacted || l.leases.Len() != len(j.now.leases) {
		j.w.fail("%s: compacted %d, %d leases; the model: %d, %d", m, l.keys.Compacted(), l.leases.Len(), j.now.compacted, len(j.now.leases))
	}
}

// linearizable asks that there is one order of all requests that explains every answer and in which each stands between its
// call and its answer. What a request without an answer would have been answered is known from the log, and that it happened
// from the moment at which a member applied it: who asks later must see it. One that never came into the log is left out.
//
// Porcupine is told in which order the commands stand in the log. Without that it loses its way where many that change
// no revision, such as the ends of leases without keys, are open at the same time.
func (j *judge) linearizable() {
	var history []porcupine.Operation
	turns := j.turns()
	for _, o := range j.ops {
		operation := porcupine.Operation{ClientId: o.client + 1, Input: o, Call: o.call, Return: o.answer, Output: o.got}
		if o.answer == 0 {
			r, happened := j.results[o.id]
			if !happened {
				continue
			}
			operation.Output, operation.Return = r, j.moments[o.id]
		} else {
			j.w.counts["answers"]++
		}
		history = append(history, operation)
	}
	model := porcupine.Model{
		Init: func() any { return step{emptyState(), 0} },
		Step: func(s, input, output any) (bool, any) {
			return s.(step).explain(input.(*op), output.(result), turns)
		},
		Equal: func(a, b any) bool { return a.(step).turn == b.(step).turn },
	}
	if got := porcupine.CheckOperationsTimeout(model, history, linearizableWait); got != porcupine.Ok {
		j.w.fail("the history of %d requests is not linearizable: porcupine says %s", len(history), got)
	}
}

// linearizableWait is far more than a history needs.
const linearizableWait = 30 * time.Second

// turns numbers the commands that came into the log, from 1.
func (j *judge) turns() map[uint64]int {
	ids := slices.SortedFunc(maps.Keys(j.places), func(a, b uint64) int { return cmp.Compare(j.places[a], j.places[b]) })
	turns := map[uint64]int{}
	for i, id := range ids {
		turns[id] = i + 1
	}
	return turns
}

// step is a state and how many commands led to it.
type step struct {
	*state
	turn int
}

// explain tells whether a request at this state is answered so, and what the state is then.
func (s step) explain(o *op, got result, turns map[uint64]int) (bool, step) {
	if o.payload == nil {
		return got.revision == s.revision && got.text == s.ask(o), s
	}
	if turns[o.id] != s.turn+1 {
		return false, s
	}
	c, err := kv.DecodeCommand(o.payload)
	if err != nil {
		panic(err)
	}
	after, want, _ := s.apply(&c)
	return got.equal(want), step{after, s.turn + 1}
}
