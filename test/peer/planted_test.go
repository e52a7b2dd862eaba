package peer

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/test/etcd"
)

// TestPlantedDifferences runs etcd against itself with one answer of the second changed on its way, and expects each
// change to be found.
func TestPlantedDifferences(t *testing.T) {
	if testing.Short() || os.Getenv("HOLDFAST_PEER_SELF") == "" {
		t.Skip("HOLDFAST_PEER_SELF is not set")
	}
	binary := etcd.Binary(t, "etcd")
	for name, p := range planted {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Etcd: binary, Ours: binary, Dir: t.TempDir(), Tamper: p.tamper()}
			_, err := Run(t.Context(), cfg, Episode{Seed: 5, Ops: 400}, NewTally(cfg))
			var f *Failure
			if !errors.As(err, &f) {
				t.Fatalf("not found: %v", err)
			}
			if !strings.Contains(f.Found, p.word) {
				t.Errorf("found something else, nothing about %q", p.word)
			}
			t.Logf("found at operation %d: %s", f.At, f.Found)
		})
	}
}

// planted are the changes: most are made once, some way into the episode, and each shows in a finding that has a word in it.
var planted = map[string]struct {
	word   string
	tamper func() Tamper
}{
	"a revision in a header": {"header.revision", func() Tamper {
		return once(20, func(m *pb.RangeResponse) { m.Header.Revision++ })
	}},
	"a value": {"value", func() Tamper {
		return once(1, func(m *pb.RangeResponse) { m.Kvs[len(m.Kvs)-1].Value = append(m.Kvs[len(m.Kvs)-1].Value, 'x') },
			func(m *pb.RangeResponse) bool { return len(m.Kvs) > 0 })
	}},
	"a count": {"count", func() Tamper {
		return once(10, func(m *pb.RangeResponse) { m.Count++ })
	}},
	"a branch": {"succeeded", func() Tamper {
		return once(30, func(m *pb.TxnResponse) { m.Succeeded = !m.Succeeded })
	}},
	"a hash": {"hash", func() Tamper {
		return func(_ string, m proto.Message, text string) string { // every one, as some only tell that a compaction is over
			if r, ok := m.(*pb.HashKVResponse); ok {
				r.Hash++
			}
			return text
		}
	}},
	"an event less": {"event", func() Tamper {
		return once(5, func(m *pb.WatchResponse) { m.Events = m.Events[1:] }, hasEvents)
	}},
	"an event in another revision": {"mod_revision", func() Tamper {
		return once(5, func(m *pb.WatchResponse) { m.Events[0].Kv.ModRevision-- }, hasEvents)
	}},
	"a cancellation without its revision": {"compact_revision", func() Tamper {
		return once(1, func(m *pb.WatchResponse) { m.CompactRevision-- }, func(m *pb.WatchResponse) bool { return m.CompactRevision > 0 })
	}},
	"a lease's time": {"TTL", func() Tamper {
		return once(1, func(m *pb.LeaseTimeToLiveResponse) { m.TTL -= 2 }, func(m *pb.LeaseTimeToLiveResponse) bool { return m.TTL > 2 })
	}},
	"an error's text": {"text", func() Tamper {
		errors := 0
		return func(_ string, m proto.Message, text string) string {
			if m == nil && strings.HasPrefix(text, "etcdserver: ") {
				if errors++; errors == 10 {
					return text + "."
				}
			}
			return text
		}
	}},
}

func hasEvents(m *pb.WatchResponse) bool { return len(m.Events) > 0 }

// once changes the nth message of a type that satisfies the conditions.
func once[M proto.Message](nth int, change func(M), conditions ...func(M) bool) Tamper {
	var mu sync.Mutex // guards seen; streams and calls are read by different goroutines
	seen := 0
	return func(_ string, m proto.Message, text string) string {
		mine, ok := m.(M)
		if !ok {
			return text
		}
		for _, c := range conditions {
			if !c(mine) {
				return text
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen == nth {
			change(mine)
		}
		return text
	}
}
