package server

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/membership"
)

// member is a running server with its data in dir.
type member struct {
	*Server
	t    *testing.T
	stop func()
	// wantRunError is set where the test made the member fail.
	wantRunError bool
}

func testConfig(dir string) Config {
	urls := []string{"http://localhost:2380"}
	return Config{
		DataDir: dir, Name: "default", ClientURLs: []string{"http://localhost:2379"},
		Founders:  []membership.Member{{ID: membership.MemberID(urls, "etcd-cluster", 0), Name: "default", PeerURLs: urls}},
		Heartbeat: 100 * time.Millisecond, ElectionTicks: 10, PreVote: true,
		SnapshotEvery: 10000, CatchUpEntries: 5000, SegmentBytes: 1 << 20, RequestBytesMax: 1572864, LearnersMax: 1, StrictReconfigCheck: true,
		Log: slog.New(slog.DiscardHandler),
	}
}

// memoryConfig is testConfig with the data in a memory that can crash. A member on it runs in a bubble of testing/synctest,
// under a time that passes only when everybody waits.
func memoryConfig() (Config, *vfs.MemFS) {
	cfg, fs := testConfig("data"), vfs.NewCrashableMem()
	cfg.FS = fs
	return cfg, fs
}

// start runs a member until the test ends or stop is called.
func start(t *testing.T, cfg Config) *member {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	m := &member{Server: s, t: t}
	stopped := false
	m.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; (err != nil) != m.wantRunError {
			t.Errorf("run: %v", err)
		}
		if err := s.Close(); err != nil && !m.wantRunError {
			t.Errorf("close: %v", err)
		}
	}
	t.Cleanup(m.stop)
	select {
	case <-s.Ready():
	case <-s.Stopped():
		t.Fatal("stopped before it was ready")
	}
	return m
}

// draft puts a request of the generated code where it would enter the log, and decodes it there.
func draft[T any](t *testing.T, kind kv.Kind, message proto.Message, decode func([]byte, *T) error) (*T, kv.Draft) {
	t.Helper()
	body, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	d, q := kv.DraftOf(kind, body), new(T)
	if err := kv.Decode(&d, kind, decode, q); err != nil {
		t.Fatal(err)
	}
	return q, d
}

// tryPut puts a key that hangs on a lease, or on none.
func (m *member) tryPut(ctx context.Context, key, value string, id kv.LeaseID) (kv.Revision, error) {
	m.t.Helper()
	q, d := draft(m.t, kv.KindPut, &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: int64(id)}, kv.DecodePut)
	r, err := m.Put(ctx, q, d)
	if err != nil {
		return 0, err
	}
	return r.Revision, nil
}

func (m *member) put(key, value string) kv.Revision {
	m.t.Helper()
	rev, err := m.tryPut(m.t.Context(), key, value, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	return rev
}

func (m *member) get(key string) string {
	m.t.Helper()
	r, err := m.Range(m.t.Context(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte(key)}})
	if err != nil {
		m.t.Fatal(err)
	}
	for row := range r.Rows.All() {
		v, err := kv.DecodeKeyValue(row)
		if err != nil {
			m.t.Fatal(err)
		}
		return string(v.Value)
	}
	return ""
}

func TestMemberKeepsWhatItAcknowledged(t *testing.T) {
	cfg := testConfig(t.TempDir())
	m := start(t, cfg)
	for i := range 50 {
		if rev := m.put(fmt.Sprint("key", i%10), fmt.Sprint(i)); rev != kv.Revision(i+2) {
			t.Fatalf("put %d made revision %d", i, rev)
		}
	}
	id, cluster := m.ID(), m.ClusterID()
	m.stop()

	m = start(t, cfg)
	if m.ID() != id || m.ClusterID() != cluster {
		t.Fatalf("came back as %v of %x, was %v of %x", m.ID(), m.ClusterID(), id, cluster)
	}
	for i := 40; i < 50; i++ {
		if got := m.get(fmt.Sprint("key", i%10)); got != fmt.Sprint(i) {
			t.Errorf("key%d is %q after the restart", i%10, got)
		}
	}
	if rev := m.put("after", "x"); rev != 52 {
		t.Errorf("the first put after the restart made revision %d", rev)
	}
}

// stopping ends a member from another goroutine and tells when it has.
func (m *member) stopping() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.stop()
	}()
	return done
}

// pause lets the upkeep of a member have a look.
func pause(cfg Config) { time.Sleep(max(cfg.UpkeepInterval, UpkeepIntervalDefault) + time.Millisecond) }
