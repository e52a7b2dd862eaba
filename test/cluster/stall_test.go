package cluster

import (
	"context"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Goal (E4): a leader whose disk stands still for a moment leads on; for longer, another takes over while it stands; nothing
// acknowledged is lost, nothing stale is read, and no lease ends early. Method: the leader's disk is frozen, each time for longer,
// while clients and leases work and are judged. Elections and the longest wait for a write are recorded.
func TestE4FrozenDisk(t *testing.T) {
	t.Parallel()
	longs := []time.Duration{500 * time.Millisecond, time.Second, 3 * time.Second}
	if long() {
		longs = append(longs, 10*time.Second)
	}
	r := newRound(t, startCluster(t, chosen(t), 3, true), 4)
	if err := r.judged(func() error {
		for _, long := range longs {
			if err := r.freezeLeader(long); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		r.fail(err, "go test ./test/cluster -run TestE4FrozenDisk")
	}
}

// freezeLeader freezes the disk of the leader and records what became of leadership and writes.
func (r *round) freezeLeader(long time.Duration) error {
	leader, err := r.cluster.leader()
	if err != nil {
		return err
	}
	before, err := leader.term()
	if err != nil {
		return err
	}
	began, since := time.Now(), r.now()
	frozen := make(chan error, 1)
	go func() { frozen <- leader.disk.freeze(long) }() // ends after that time
	var tookOver time.Duration
	for time.Since(began) < long && tookOver == 0 {
		for _, m := range r.cluster.others(leader) {
			if m.leads() {
				tookOver = time.Since(began)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := <-frozen; err != nil {
		return err
	}
	if err := r.cluster.awaitAll(); err != nil {
		return err
	}
	now, err := leader.term()
	if err != nil {
		return err
	}
	r.note("the disk of %s was frozen for %v: %d terms later; another leader after %v; longest time without a write %v",
		leader, long, now-before, tookOver.Round(time.Millisecond), r.longestGap(since).Round(time.Millisecond))
	return nil
}

// longestGap is the longest time since a moment in which no write was acknowledged.
func (r *round) longestGap(since time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	acks := []time.Duration{since, r.now()}
	for _, o := range r.ops {
		if o.answered > since && o.got.succeeded {
			acks = append(acks, o.answered)
		}
	}
	slices.Sort(acks)
	var longest time.Duration
	for i := range len(acks) - 1 {
		longest = max(longest, acks[i+1]-acks[i])
	}
	return longest
}

func (m *member) term() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	r, err := m.maintenance().Status(ctx, &pb.StatusRequest{})
	return r.GetRaftTerm(), err
}
