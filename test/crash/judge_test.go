package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// judge knows the history of a member up to the last verdict, and what the journal holds since.
type judge struct {
	*journal
	truth

	cluster, member uint64 // who answered first
}

// truth is a history that was found to be right: the states from the compacted revision on, and the events above it.
type truth struct {
	compacted int64 // 0: never
	last      int64
	states    map[int64]state
	events    map[int64][]event
}

func newJudge() *judge {
	return &judge{
		journal: newJournal(),
		truth:   truth{last: 1, states: map[int64]state{1: {}}, events: map[int64][]event{}},
	}
}

// verdict is what one examination has found.
type verdict struct {
	truth
	leases map[int64]bool // those that exist
	hash   hashFact       // at truth.last
}

// examine asks the member that conn leads to and compares all it says with the journal. If no crash has come meanwhile, what was
// found is known from then on, and the journal starts anew.
func (j *judge) examine(ctx context.Context, conn *grpc.ClientConn) error {
	e := examination{
		judge: j, kv: pb.NewKVClient(conn), watch: pb.NewWatchClient(conn),
		lease: pb.NewLeaseClient(conn), maintenance: pb.NewMaintenanceClient(conn),
	}
	v, err := e.run(ctx)
	if err != nil {
		return err
	}
	j.note(func() { j.settle(v) })
	return j.breached()
}

// settle takes a verdict in. Called with the journal's lock held.
func (j *judge) settle(v *verdict) {
	j.truth = v.truth
	j.ops, j.compactionAsked, j.reads = nil, nil, nil
	j.top, j.journal.compacted = max(j.top, v.last), v.compacted
	maps.DeleteFunc(j.seen, func(rev int64, _ []event) bool { return rev <= v.compacted })
	maps.DeleteFunc(j.hashes, func(rev int64, h hashFact) bool { return h.compacted != v.compacted })
	j.hashes[v.last] = v.hash
	for id, l := range j.leases {
		if !v.leases[id] {
			delete(j.leases, id)
			continue
		}
		l.granted, l.ending = true, false
	}
}

// examination is one look at a member after its start.
type examination struct {
	*judge
	kv          pb.KVClient
	watch       pb.WatchClient
	lease       pb.LeaseClient
	maintenance pb.MaintenanceClient
}

func (e examination) run(ctx context.Context) (*verdict, error) {
	now, err := e.rangeAt(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("read all keys: %w", err)
	}
	if err := e.checkHeader(now.GetHeader()); err != nil {
		return nil, err
	}
	found, compacted, err := e.history(ctx, now.GetHeader().GetRevision())
	if err != nil {
		return nil, err
	}
	v := &verdict{leases: map[int64]bool{}}
	if v.truth, err = e.replay(found, compacted, now.GetHeader().GetRevision()); err != nil {
		return nil, err
	}
	if rows := rowsOf(now.GetKvs()); !slices.Equal(rows, v.states[v.last].rows()) {
		return nil, fmt.Errorf("at revision %d the keys are\n%v\nbut its events make\n%v", v.last, rows, v.states[v.last].rows())
	}
	for _, check := range []func(context.Context, *verdict) error{
		e.checkOperations, e.checkReads, e.checkPast, e.checkLeases, e.checkHashes,
	} {
		if err := check(ctx, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (e examination) rangeAt(ctx context.Context, rev int64) (*pb.RangeResponse, error) {
	return e.kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev})
}

func rowsOf(kvs []*mvccpb.KeyValue) []event {
	rows := make([]event, len(kvs))
	for i, kv := range kvs {
		rows[i] = rowOf(kv)
	}
	return rows
}

// checkHeader asks that the member is who it was and that no revision was lost that anybody knew.
func (e examination) checkHeader(h *pb.ResponseHeader) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cluster == 0 {
		e.cluster, e.member = h.GetClusterId(), h.GetMemberId()
	}
	if h.GetClusterId() != e.cluster || h.GetMemberId() != e.member {
		return fmt.Errorf("member %x of cluster %x came back as %x of %x", e.member, e.cluster, h.GetMemberId(), h.GetClusterId())
	}
	if h.GetRevision() < e.top {
		return fmt.Errorf("acknowledged writes are lost: revision %d was known, the store is at %d", e.top, h.GetRevision())
	}
	return nil
}

// history watches all keys from the first revision that was not compacted up to revision to.
func (e examination) history(ctx context.Context, to int64) (found map[int64][]event, compacted int64, err error) {
	for from := int64(1); ; from = compacted + 1 {
		var again bool
		if found, compacted, again, err = e.watchFrom(ctx, from, to, compacted); !again {
			return found, compacted, err
		}
	}
}

// watchFrom collects events. It reports again with the compacted revision if from is too old.
func (e examination) watchFrom(ctx context.Context, from, to, was int64) (found map[int64][]event, compacted int64, again bool, err error) {
	found, compacted = map[int64][]event{}, was
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := e.watch.Watch(ctx)
	if err != nil {
		return nil, 0, false, fmt.Errorf("watch: %w", err)
	}
	create := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, false, fmt.Errorf("watch: %w", err)
	}
	for next := from; next <= to; {
		r, err := stream.Recv()
		if err != nil {
			return nil, 0, false, fmt.Errorf("watch from revision %d, %d of %d came: %w", from, next-1, to, err)
		}
		if r.GetCanceled() {
			if r.GetCompactRevision() <= was {
				return nil, 0, false, fmt.Errorf("a watch from revision %d was canceled with compacted revision %d", from, r.GetCompactRevision())
			}
			return nil, r.GetCompactRevision(), true, nil
		}
		for _, one := range r.GetEvents() {
			ev := eventOf(one)
			if next == 1 { // the empty store has revision 1 and no events
				next = 2
			}
			if ev.mod != next && (ev.mod != next-1 || len(found[ev.mod]) == 0) {
				return nil, 0, false, fmt.Errorf("a watch from revision %d delivered revision %d after %d", from, ev.mod, next-1)
			}
			next = ev.mod + 1
			found[ev.mod] = append(found[ev.mod], ev)
		}
		if to == 1 {
			break // created, and there is nothing to deliver
		}
	}
	return found, compacted, false, nil
}

// replay goes from the last verdict over what the member delivers, and what the watcher had seen and is compacted since.
// It explains each new revision by one operation.
func (e examination) replay(found map[int64][]event, compacted, last int64) (truth, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.checkCompacted(compacted); err != nil {
		return truth{}, err
	}
	x := newExplanations(e.ops, e.journal.leases)
	t := truth{compacted: compacted, last: last, states: map[int64]state{}, events: found}
	for rev := e.truth.compacted + 1; rev <= last; rev++ {
		events, err := e.agree(rev, compacted, found)
		if err != nil {
			return truth{}, err
		}
		after, known := e.states[rev]
		if !known {
			before, ok := t.states[rev-1]
			if !ok {
				before = e.states[rev-1]
			}
			if err := x.explain(rev, before, events); err != nil {
				return truth{}, err
			}
			after = before.after(events)
		}
		t.states[rev] = after
	}
	if s, ok := e.states[compacted]; ok {
		t.states[compacted] = s
	}
	if compacted == 0 {
		t.states[1] = state{}
	}
	maps.DeleteFunc(t.states, func(rev int64, _ state) bool { return rev < compacted })
	return t, nil
}

// checkCompacted asks that the compacted revision is the last one acknowledged, or one that was asked for since.
func (e examination) checkCompacted(compacted int64) error {
	if compacted < e.journal.compacted {
		return fmt.Errorf("the compacted revision went back: %d was acknowledged, it is %d", e.journal.compacted, compacted)
	}
	if compacted != e.journal.compacted && !slices.Contains(e.compactionAsked, compacted) {
		return fmt.Errorf("revision %d is compacted; nobody asked for that: %d is acknowledged, of %v nothing is known", compacted, e.journal.compacted, e.compactionAsked)
	}
	return nil
}

// agree returns the events of a revision and asks that all who know them say the same: the verdict before, the watcher of
// before the crash, and the member now.
func (e examination) agree(rev, compacted int64, found map[int64][]event) ([]event, error) {
	versions := [][]event{e.events[rev], e.seen[rev], found[rev]}
	var events []event
	for _, v := range versions {
		if v == nil {
			continue
		}
		if events != nil && !slices.Equal(events, v) {
			return nil, fmt.Errorf("revision %d has changed: it was\n%v\nand is now\n%v", rev, events, v)
		}
		events = v
	}
	if rev > compacted && found[rev] == nil && rev > 1 {
		return nil, fmt.Errorf("revision %d has no events", rev)
	}
	if events == nil && rev > 1 {
		return nil, fmt.Errorf("revision %d is compacted (up to %d), but nobody has seen it before", rev, compacted)
	}
	return events, nil
}

// explanations are the operations that may stand behind revisions.
type explanations struct {
	answered map[int64][]*op // that changed something, by their revision
	open     []*op           // without an answer
	leases   map[int64]*leaseFact
}

func newExplanations(ops []*op, leases map[int64]*leaseFact) *explanations {
	x := &explanations{answered: map[int64][]*op{}, leases: leases}
	for _, o := range ops {
		switch {
		case !o.answered:
			x.open = append(x.open, o)
		case o.changed:
			x.answered[o.revision] = append(x.answered[o.revision], o)
		}
	}
	return x
}

// explain finds the operation that made events of the state before.
func (x *explanations) explain(rev int64, before state, events []event) error {
	if rev == 1 {
		return nil
	}
	if told := x.answered[rev]; len(told) > 0 {
		if len(told) > 1 {
			return fmt.Errorf("revision %d was given to %v and to %v", rev, told[0], told[1])
		}
		if want := told[0].effect(before, rev); !slices.Equal(want, events) {
			return fmt.Errorf("%v should have done\n%v\nbut revision %d holds\n%v", told[0], want, rev, events)
		}
		return nil
	}
	for i, o := range x.open {
		if o.floor < rev && slices.Equal(o.effect(before, rev), events) {
			x.open = slices.Delete(x.open, i, i+1)
			return nil
		}
	}
	if id := before[events[0].key].lease; id != 0 && slices.Equal(revocation(before, id, rev), events) {
		if l := x.leases[id]; l != nil && (l.ending || !time.Now().Before(l.until)) {
			return nil
		}
		return fmt.Errorf("revision %d ends lease %x, which nobody asked for", rev, id)
	}
	return fmt.Errorf("revision %d holds\n%v\nwhich none of %d unanswered operations does: %v", rev, events, len(x.open), x.open)
}

// checkOperations looks at the answers that no revision stands for: operations that did nothing, at a revision that is known.
func (e examination) checkOperations(_ context.Context, v *verdict) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.ops {
		if !o.answered {
			continue
		}
		if o.revision > v.last {
			return fmt.Errorf("lost: %v; the store is at %d", o, v.last)
		}
		at, known := v.states[o.revision]
		if o.changed || !known {
			continue
		}
		if done := o.effect(at, o.revision+1); len(done) > 0 {
			return fmt.Errorf("%v was told that it did nothing, but should have done\n%v", o, done)
		}
	}
	return nil
}

// checkReads compares what was read before the crash with the history.
func (e examination) checkReads(_ context.Context, v *verdict) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.reads {
		if at, known := v.states[r.revision]; known && !slices.Equal(r.rows, at.rows()) {
			return fmt.Errorf("before the crash a read at revision %d saw\n%v\nbut its events make\n%v", r.revision, r.rows, at.rows())
		}
	}
	return nil
}

// checkPast reads at revisions of the past, at the edges and in the middle.
func (e examination) checkPast(ctx context.Context, v *verdict) error {
	middle := (max(v.compacted, 1) + v.last) / 2
	for _, rev := range []int64{max(v.compacted, 1), middle, v.last} {
		r, err := e.rangeAt(ctx, rev)
		if err != nil {
			return fmt.Errorf("read at revision %d (compacted %d, last %d): %w", rev, v.compacted, v.last, err)
		}
		if rows := rowsOf(r.GetKvs()); !slices.Equal(rows, v.states[rev].rows()) {
			return fmt.Errorf("a read at revision %d says\n%v\nbut its events make\n%v", rev, rows, v.states[rev].rows())
		}
	}
	for rev, want := range map[int64]string{
		v.compacted - 1: "etcdserver: mvcc: required revision has been compacted",
		v.last + 1:      "etcdserver: mvcc: required revision is a future revision",
	} {
		if rev < 1 {
			continue
		}
		_, err := e.rangeAt(ctx, rev)
		if status.Code(err) != codes.OutOfRange || status.Convert(err).Message() != want {
			return fmt.Errorf("a read at revision %d (compacted %d, last %d) answers %w, not %s", rev, v.compacted, v.last, err, want)
		}
	}
	return nil
}

// checkLeases asks that leases exist or not as they should, with the keys that hang on them.
func (e examination) checkLeases(ctx context.Context, v *verdict) error {
	list, err := e.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, l := range list.GetLeases() {
		v.leases[l.GetID()] = true
	}
	now := v.states[v.last]
	for _, row := range now.rows() {
		if row.lease != 0 && !v.leases[row.lease] {
			return fmt.Errorf("%v hangs on a lease that does not exist", row)
		}
	}
	for id := range v.leases {
		r, err := e.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		if err != nil {
			return fmt.Errorf("ask for lease %x: %w", id, err)
		}
		if err := e.checkLease(id, r, now); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, l := range e.journal.leases {
		switch {
		case l.granted && !l.ending && time.Now().Before(l.until) && !v.leases[id]:
			return fmt.Errorf("lease %x, granted for %d seconds, is lost", id, l.ttl)
		case l.ended && v.leases[id]:
			return fmt.Errorf("lease %x was revoked and is back", id)
		}
	}
	return nil
}

func (e examination) checkLease(id int64, r *pb.LeaseTimeToLiveResponse, now state) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.journal.leases[id]
	if l == nil {
		return fmt.Errorf("lease %x exists, but nobody asked for it", id)
	}
	keys := []string{}
	for _, key := range r.GetKeys() {
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	if r.GetGrantedTTL() != l.ttl || r.GetTTL() < 0 || !slices.Equal(keys, now.leased(id)) {
		return fmt.Errorf("lease %x, granted for %d seconds with keys %v, has %d of %d seconds left and keys %v", id, l.ttl, now.leased(id), r.GetTTL(), r.GetGrantedTTL(), keys)
	}
	return nil
}

// hashesAsked bounds the old hashes that are compared after one crash.
const hashesAsked = 3

// checkHashes compares hashes with those of before the crash, as long as the same is compacted, and notes the present one.
func (e examination) checkHashes(ctx context.Context, v *verdict) error {
	e.mu.Lock()
	known := maps.Clone(e.hashes)
	e.mu.Unlock()
	asked := 0
	for rev, before := range known {
		if before.compacted != v.compacted || rev < v.compacted || asked == hashesAsked {
			continue
		}
		asked++
		r, err := e.maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: rev})
		if err != nil {
			return fmt.Errorf("hash of revision %d: %w", rev, err)
		}
		if now := hashOf(r); now.compacted == before.compacted && now.sum != before.sum {
			return fmt.Errorf("the hash of revision %d, compacted at %d, was %x and is %x", rev, before.compacted, before.sum, r.GetHash())
		}
	}
	r, err := e.maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: v.last})
	if err != nil {
		return fmt.Errorf("hash of revision %d: %w", v.last, err)
	}
	v.hash = hashOf(r)
	return nil
}

func hashOf(r *pb.HashKVResponse) hashFact {
	return hashFact{max(r.GetCompactRevision(), 0), r.GetHash()} // -1 stands for never
}
