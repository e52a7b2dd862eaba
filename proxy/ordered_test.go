package proxy

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/ordering"
)

// members is a cluster whose members answer in turns, each at a revision of its own.
type members struct {
	clientv3.KV
	at    []int64
	asked int
}

// Do implements clientv3.KV.
func (m *members) Do(context.Context, clientv3.Op) (clientv3.OpResponse, error) {
	at := m.at[m.asked%len(m.at)]
	m.asked++
	return (&clientv3.GetResponse{Header: &pb.ResponseHeader{Revision: at}}).OpResponse(), nil
}

// TestOrderedReads: an answer that is older than the one before it is asked for again, of each member some times, and then is an error that
// says so.
func TestOrderedReads(t *testing.T) {
	m := &members{at: []int64{7, 5, 6}}
	o := &orderedKV{KV: m, members: func() []string { return make([]string, len(m.at)) }}
	for range 10 {
		r, err := o.Do(t.Context(), clientv3.OpGet("k"))
		if err != nil || r.Get().Header.Revision != 7 {
			t.Fatalf("%v, %v", r.Get(), err)
		}
	}
	m.at, m.asked = []int64{5, 6}, 0
	if _, err := o.Do(t.Context(), clientv3.OpGet("k")); !errors.Is(err, ordering.ErrNoGreaterRev) || m.asked != triesPerMember*2 {
		t.Errorf("after %d attempts: %v", m.asked, err)
	}
	m.at = []int64{8}
	if r, err := o.Do(t.Context(), clientv3.OpGet("k")); err != nil || r.Get().Header.Revision != 8 {
		t.Errorf("%v, %v", r.Get(), err)
	}
}

// TestOrderedCache: with Ordering the cache gives no answer that is older than one that was given; without, it does.
func TestOrderedCache(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		f := newFront(t, func(c *Config) { c.Ordering = ordered })
		c, past := f.dial(), dial(t, f.server.Client)
		put(t, past, "cached", "v")
		q := &pb.RangeRequest{Key: []byte("cached"), Serializable: true}
		first := get(t, c, q).Header.Revision
		put(t, past, "other", "v")
		seen := get(t, c, &pb.RangeRequest{Key: []byte("other"), Serializable: true}).Header.Revision
		if again := get(t, c, q).Header.Revision; ordered && again < seen || !ordered && again != first {
			t.Errorf("ordered %v: at revision %d, after %d and %d", ordered, again, first, seen)
		}
	}
}
