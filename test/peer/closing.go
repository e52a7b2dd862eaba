package peer

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// closing returns the parts every episode ends with.
func (w *world) closing(ctx context.Context, seed uint64) []part {
	parts := []part{
		{name: "all watches have what they are owed", run: w.barrier},
		{name: "hashes of every kept revision", run: w.everyHash},
		{name: "the whole store", run: w.everything},
		{name: "a lease expires", run: func() error {
			return expire{id: 500, ttl: w.settings.minTTL, keys: []string{"x/b", "x/a", "x/c"}}.run(w)
		}},
		{name: "snapshots", run: w.snapshots},
		{name: "kill", run: func() error { return w.survive(true) }},
		{name: "restart", run: func() error { return w.survive(false) }},
		{name: "authentication on", needs: authService, run: w.guarded},
		{name: "users with permissions drawn at random", needs: authService, run: func() error { return w.users(seed) }},
		{name: "several clients at once", run: func() error { return w.crowd(seed) }},
	}
	if w.cluster != nil {
		parts = append(parts, part{name: "the members agree", run: func() error { return w.cluster.Check(ctx) }})
	}
	return parts
}

// A part is a named piece of an episode that is not drawn. It is left out while what it needs is not built.
type part struct {
	name  string
	needs protoreflect.FullName // "" when it needs nothing more than the rest
	run   func() error
}

// hashesMax bounds the revisions whose hashes are compared at the end; more are sampled evenly.
const hashesMax = 100

// everyHash compares the hashes of the revisions still kept.
func (w *world) everyHash() error {
	if err := w.waitCompacted(); err != nil {
		return err
	}
	step := max(1, (w.current-w.compacted)/hashesMax)
	for rev := max(1, w.compacted); rev <= w.current; rev += step {
		c := &call{path: hashKV, conn: int(rev) % clients}
		c.requests = append(c.requests, &pb.HashKVRequest{Revision: rev})
		if err := c.run(w); err != nil {
			return err
		}
	}
	return nil
}

// everything compares the keys, leases, members and alarms.
func (w *world) everything() error {
	g := &gen{rng: newRand(0)}
	for _, c := range []*call{
		g.call(kvRange, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}),
		g.call(leaseLeases, &pb.LeaseLeasesRequest{}),
		g.call(memberList, &pb.MemberListRequest{Linearizable: true}),
		g.call(alarm, &pb.AlarmRequest{}),
		g.status(),
	} {
		if err := c.run(w); err != nil {
			return err
		}
	}
	for _, id := range leaseIDs {
		if err := g.call(leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}).run(w); err != nil {
			return err
		}
	}
	return nil
}

// survive restarts both servers and compares all over again.
func (w *world) survive(kill bool) error {
	if err := (restart{kill: kill}).run(w); err != nil {
		return err
	}
	if err := w.everyHash(); err != nil {
		return err
	}
	if err := w.everything(); err != nil {
		return err
	}
	if kill {
		w.tally.hit("a kill keeps everything")
	} else {
		w.tally.hit("a restart keeps everything")
	}
	return nil
}
