package proxy

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"google.golang.org/protobuf/proto"
)

// cluster is a store of keys a to h that remembers all its revisions: what a range should say.
type cluster struct {
	revision int64
	at       []map[string]string // by revision
}

func newCluster() *cluster {
	return &cluster{revision: 1, at: []map[string]string{nil, {}}}
}

func (c *cluster) change(do func(map[string]string)) int64 {
	next := map[string]string{}
	for k, v := range c.at[c.revision] {
		next[k] = v
	}
	do(next)
	c.at = append(c.at, next)
	c.revision++
	return c.revision
}

// read answers a range as a member does that is at a revision.
func (c *cluster) read(k keys, member int64) *pb.RangeResponse {
	r := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: member}}
	for _, key := range "abcdefgh" {
		if v, there := c.at[member][string(key)]; there && k.overlaps(keys{key: string(key)}) {
			r.Kvs = append(r.Kvs, &mvccpb.KeyValue{Key: []byte(string(key)), Value: []byte(v)})
		}
	}
	return r
}

// TestCacheModel: whatever writes and reads pass through, in whatever order their answers come and however far behind the member is
// that answers, the cache never answers with less than the last write of these keys that has passed through. The operations are
// drawn from a seed, which is printed.
func TestCacheModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	now := time.Unix(0, 0)
	c, db := newRangeCache(func() time.Time { return now }), newCluster()
	span := func() keys {
		from := string(rune('a' + rng.IntN(8)))
		switch rng.IntN(4) {
		case 0:
			return keys{from, "\x00"}
		case 1:
			return keys{from, string(rune('a' + rng.IntN(9)))}
		}
		return keys{key: from}
	}
	type answer struct {
		q *pb.RangeRequest
		a *pb.RangeResponse
	}
	var late []answer // on their way
	passed := map[string]int64{}
	hits := 0
	for step := range 100_000 {
		switch rng.IntN(5) {
		case 0: // a write of a key, or the deletion of a range, passes through
			k := span()
			if k.end == "" || rng.IntN(10) > 0 {
				k.end = ""
			}
			rev := db.change(func(all map[string]string) {
				for _, key := range "abcdefgh" {
					if !k.overlaps(keys{key: string(key)}) {
						continue
					}
					if delete(all, string(key)); k.end == "" {
						all[string(key)] = fmt.Sprint(step)
					}
					passed[string(key)] = db.revision + 1
				}
			})
			c.wrote(k, rev)
		case 1: // a member, perhaps one that lags, answers a range; the answer takes its time
			k := span()
			member := max(1, db.revision-int64(rng.IntN(4)))
			q := &pb.RangeRequest{Key: []byte(k.key), RangeEnd: []byte(k.end)}
			late = append(late, answer{q, db.read(k, member)})
		case 2:
			if len(late) > 0 {
				i := rng.IntN(len(late))
				c.add(late[i].q, late[i].a)
				late = append(late[:i], late[i+1:]...)
			}
		case 3:
			now = now.Add(time.Duration(rng.IntN(100)) * time.Millisecond)
		case 4:
			k := span()
			got, err := c.get(&pb.RangeRequest{Key: []byte(k.key), RangeEnd: []byte(k.end), Serializable: true})
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				continue
			}
			hits++
			if want := db.read(k, got.Header.Revision); !proto.Equal(got, want) {
				t.Fatalf("step %d: %q: %v, at that revision it was %v", step, k, got, want)
			}
			for key, rev := range passed {
				if rev > got.Header.Revision && k.overlaps(keys{key: key}) {
					t.Fatalf("step %d: %q is answered from revision %d, and %s was written at %d", step, k, got.Header.Revision, key, rev)
				}
			}
		}
	}
	if hits < 100 {
		t.Errorf("only %d answers from the cache: the test shows little", hits)
	}
}

// TestCacheBounds: entries beyond the bounds go, the least used first; so do old ones.
func TestCacheBounds(t *testing.T) {
	now := time.Unix(0, 0)
	c := newRangeCache(func() time.Time { return now })
	at := func(i int) *pb.RangeRequest { return &pb.RangeRequest{Key: fmt.Appendf(nil, "%06d", i)} }
	value := func(size int) *pb.RangeResponse {
		return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 1}, Kvs: []*mvccpb.KeyValue{{Value: make([]byte, size)}}}
	}
	has := func(i int) bool {
		a, _ := c.get(at(i))
		return a != nil
	}
	for i := range cacheEntries + 1 {
		c.add(at(i), value(10))
		has(0) // is used
	}
	if s := c.stats(); s.entries != cacheEntries || !has(0) || has(1) {
		t.Errorf("%d entries, the first there: %v, the second: %v", s.entries, has(0), has(1))
	}
	for i := range 100 {
		c.add(at(i), value(cacheEntryBytes-100))
	}
	if s := c.stats(); s.bytes > cacheBytes || s.entries > cacheBytes/(cacheEntryBytes-100)+1 {
		t.Errorf("%d entries of %d bytes", s.entries, s.bytes)
	}
	c.add(at(1000), value(cacheEntryBytes))
	if has(1000) {
		t.Error("an answer beyond the bound is kept")
	}
	now = now.Add(cacheAge)
	if has(99) {
		t.Error("an old answer is kept")
	}
	c.add(&pb.RangeRequest{Key: []byte("past"), Revision: 5}, value(1))
	c.compact(6)
	if _, err := c.get(&pb.RangeRequest{Key: []byte("past"), Revision: 5}); err == nil {
		t.Error("what was compacted is answered")
	}
}
