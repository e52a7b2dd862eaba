package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The lives of leases, in seconds: one that ends within a round, and one that must outlast it.
const (
	leaseShort = 3
	leaseLong  = 3600
)

// lessee takes out leases, hangs keys on them, keeps some alive and leaves or revokes them in the end.
type lessee struct {
	*client
	taken int64
}

func newLessee(h *history, number int, members func() []*member, seed uint64) *lessee {
	return &lessee{client: newClient(h, number, members, seed)}
}

// run goes on until ctx ends.
func (l *lessee) run(ctx context.Context) {
	for ctx.Err() == nil {
		members := l.members()
		l.at = members[l.rng.IntN(len(members))]
		l.one(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(l.rng.IntN(200)) * time.Millisecond):
		}
	}
}

// one is the life of one lease.
func (l *lessee) one(ctx context.Context) {
	life := l.grant()
	if life == nil {
		return
	}
	for n := range 1 + l.rng.IntN(2) {
		l.hang(life, fmt.Sprintf("l/%x/%d", life.id, n))
	}
	for range l.rng.IntN(5) {
		select {
		case <-ctx.Done():
		case <-time.After(leaseShort * time.Second / 4):
		}
		l.keepAlive(life)
	}
	if life.ttl == leaseShort && l.rng.IntN(3) == 0 {
		l.revoke(life)
	}
}

func (l *lessee) grant() *leaseLife {
	l.taken++
	life := &leaseLife{id: int64(l.number)<<32 | l.taken, ttl: leaseShort}
	if l.rng.IntN(3) == 0 {
		life.ttl = leaseLong
	}
	l.mu.Lock()
	l.history.leases[life.id] = life
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	sent := l.now()
	r, err := l.at.leases().LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: life.id, TTL: life.ttl})
	if err != nil {
		return nil
	}
	l.mu.Lock()
	life.granted = true
	l.mu.Unlock()
	l.renewed(life, renewal{sent, l.now(), r.GetTTL()})
	return life
}

// hang puts a key on a lease.
func (l *lessee) hang(life *leaseLife, key string) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	a := l.put(key)
	a.lease = life.id
	if err := l.write(ctx, &op{client: l.number, actions: []action{a}}); err != nil {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
	}
}

func (l *lessee) keepAlive(life *leaseLife) {
	members := l.members()
	at := members[l.rng.IntN(len(members))]
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	stream, err := at.leases().LeaseKeepAlive(ctx)
	if err != nil {
		return
	}
	sent := l.now()
	if stream.Send(&pb.LeaseKeepAliveRequest{ID: life.id}) != nil {
		return
	}
	r, err := stream.Recv()
	if err != nil {
		return
	}
	l.renewed(life, renewal{sent, l.now(), r.GetTTL()})
}

// revoke ends a lease by request. What a revocation does is seen in the history, so it counts as answered or not only there.
func (l *lessee) revoke(life *leaseLife) {
	l.mu.Lock()
	life.revoking = l.now()
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	_, err := l.at.leases().LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: life.id})
	if err != nil {
		return
	}
	l.mu.Lock()
	life.revoked = l.now()
	l.mu.Unlock()
}
