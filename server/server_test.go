package server

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"holdfast/kv"
	"holdfast/membership"
)

// member is a running server with its data in dir.
type member struct {
	*Server
	t    *testing.T
	stop func()
}

func testConfig(dir string) Config {
	urls := []string{"http://localhost:2380"}
	return Config{
		DataDir: dir, Name: "default", ClientURLs: []string{"http://localhost:2379"},
		Founders:  []membership.Member{{ID: membership.MemberID(urls, "etcd-cluster", 0), Name: "default", PeerURLs: urls}},
		Heartbeat: 100 * time.Millisecond, ElectionTicks: 10, PreVote: true,
		SnapshotEvery: 10000, CatchUpEntries: 5000, SegmentBytes: 1 << 20, RequestBytesMax: 1572864, LearnersMax: 1,
		Log: slog.New(slog.DiscardHandler),
	}
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
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := s.Close(); err != nil {
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

func (m *member) put(key, value string) kv.Revision {
	m.t.Helper()
	body := (&kv.KeyValue{Key: []byte(key)}).Append(nil) // a put request with a key alone looks the same
	if value != "" {
		body = append(body, 0x12, byte(len(value)))
		body = append(body, value...)
	}
	d := kv.DraftOf(kv.KindPut, body)
	var q kv.PutRequest
	if err := kv.Decode(&d, kv.KindPut, kv.DecodePut, &q); err != nil {
		m.t.Fatal(err)
	}
	r, err := m.Put(m.t.Context(), &q, d)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.Revision
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
