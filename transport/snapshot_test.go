package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"

	"go.etcd.io/raft/v3/raftpb"
)

func snapshotMessage(from, to *member, term, index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: new(from.id), To: new(to.id), Term: new(term),
		Snapshot: &raftpb.Snapshot{Data: []byte("{}"), Metadata: &raftpb.SnapshotMetadata{
			Index: new(index), Term: new(term), ConfState: &raftpb.ConfState{Voters: []uint64{from.id, to.id}},
		}},
	}
}

// TestSnapshot sends a database beside a stream of messages and checks that it is kept before raft hears of it.
func TestSnapshot(t *testing.T) {
	ms := cluster(t, &loopback{}, 2, nil)
	database := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	ms[0].snapshots.body, ms[0].snapshots.size = bytes.NewReader(database), int64(len(database))
	ms[0].Send([]*raftpb.Message{snapshotMessage(ms[0], ms[1], 1, 10), message(raftpb.MsgHeartbeat, ms[0], ms[1], 1)})
	eventually(t, "the outcome is reported", func() bool { return len(ms[0].raft.reports()) == 1 })
	if !ms[0].raft.reports()[0] {
		t.Fatal("the snapshot is said to have failed")
	}
	kept, failed := ms[1].snapshots.received()
	if failed != 0 || len(kept) != 1 || !bytes.Equal(kept[0], database) {
		t.Fatalf("%d databases arrived, %d broke off; want the one that was sent", len(kept), failed)
	}
	is := func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgSnap }
	compare(t, filter(ms[1].raft.messages(), is), []*raftpb.Message{snapshotMessage(ms[0], ms[1], 1, 10)})
	sent, got := ms[0].Stats().Peers[2].SnapshotsSent, ms[1].Stats().Peers[1].SnapshotsReceived
	if sent.Succeeded != 1 || sent.Failed != 0 || got.Succeeded != 1 || got.Inflight != 0 {
		t.Errorf("counted %+v sent and %+v received", sent, got)
	}
}

// TestSnapshotForms: a state travels as a checkpoint where both ends name the same one, else as a database. A member in whose
// place another kind has come gets none of what it does not know.
func TestSnapshotForms(t *testing.T) {
	for _, c := range []struct {
		name, ours, theirs string
		want               Form
	}{
		{"both the same", "1", "1", Checkpoint},
		{"another version", "1", "2", Database},
		{"the receiver reads none", "1", "", Database},
		{"the sender has none", "", "1", Database},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ms := cluster(t, &pipes{}, 2, func(cfg *Config) {
					cfg.Checkpoints = c.ours
					if cfg.ID == 2 {
						cfg.Checkpoints = c.theirs
					}
				})
				ms[0].snapshots.body, ms[0].snapshots.size = bytes.NewReader(make([]byte, 1000)), 1000
				ms[0].Send([]*raftpb.Message{snapshotMessage(ms[0], ms[1], 1, 10)})
				eventually(t, "the outcome is reported", func() bool { return len(ms[0].raft.reports()) == 1 })
				at := ms[1].snapshots
				if !slices.Equal(at.forms, []Form{c.want}) || !slices.Equal(at.sizes, []int64{1000}) {
					t.Errorf("arrived as %v of %v bytes, want one %v", at.forms, at.sizes, c.want)
				}
			})
		})
	}
}

// TestSnapshotFormForgotten: what a member said of itself does not outlive it. A checkpoint that finds nobody who knows its
// path is followed by a database.
func TestSnapshotFormForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := cluster(t, &pipes{}, 2, func(cfg *Config) {
			if cfg.ID == 1 {
				cfg.Checkpoints = "1"
			}
		})
		said := "1" // by the one that was in its place
		ms[0].peer(2).takes.Store(&said)
		for i, want := range []Form{Checkpoint, Database} {
			ms[0].snapshots.body, ms[0].snapshots.size = bytes.NewReader(make([]byte, 1000)), 1000
			ms[0].Send([]*raftpb.Message{snapshotMessage(ms[0], ms[1], 1, 10)})
			eventually(t, "the outcome is reported", func() bool { return len(ms[0].raft.reports()) == i+1 })
			if got := ms[0].snapshots.asked[i]; got != want {
				t.Errorf("snapshot %d goes as a %v, want a %v", i, got, want)
			}
			if arrived := ms[0].raft.reports()[i]; arrived != (want == Database) {
				t.Errorf("snapshot %d: arrived %t", i, arrived)
			}
		}
		// A request of the new one says that it reads none.
		ms[0].peer(2).takes.Store(&said)
		ms[0].noteForm(http.Header{headerFrom: {hex(2)}})
		if ms[0].peer(2).form() != Database {
			t.Error("a request without the header is not heard")
		}
	})
}

// TestSnapshotFails lets a transfer end early in several ways: raft at the sender hears of it, raft at the receiver of nothing.
func TestSnapshotFails(t *testing.T) {
	database := make([]byte, 1<<20)
	broken := func() io.Reader { // longer than what is buffered on the way
		return io.MultiReader(bytes.NewReader(database), failing{})
	}
	cases := []struct {
		name string
		body io.Reader
		size int64
		prep func(ms []*member)
	}{
		{"nothing to send", nil, 0, nil},
		{"reading it fails", broken(), 2 << 20, nil},
		{"shorter than it said", bytes.NewReader(database), 2 << 20, nil},
		{"the receiver's raft refuses", bytes.NewReader(database), 1 << 20, func(ms []*member) { ms[1].raft.stepErr = errors.New("no") }},
		{"the receiver is away", bytes.NewReader(database), 1 << 20, func(ms []*member) { ms[1].stop() }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ms := cluster(t, &pipes{}, 2, nil)
				ms[0].snapshots.body, ms[0].snapshots.size = c.body, c.size
				if c.prep != nil {
					c.prep(ms)
				}
				ms[0].Send([]*raftpb.Message{snapshotMessage(ms[0], ms[1], 1, 10)})
				eventually(t, "the outcome is reported", func() bool { return len(ms[0].raft.reports()) == 1 })
				if ms[0].raft.reports()[0] || ms[0].raft.lost(2) == 0 {
					t.Error("the snapshot is said to have arrived")
				}
				if len(ms[1].raft.messages()) != 0 {
					t.Error("the receiver's raft got the message")
				}
				if s := ms[0].Stats().Peers[2].SnapshotsSent; s.Failed != 1 || s.Inflight != 0 {
					t.Errorf("counted %+v", s)
				}
			})
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk broke") }

// TestSnapshotToStrangers checks that raft is answered for snapshots that cannot even be tried.
func TestSnapshotToStrangers(t *testing.T) {
	on := &loopback{}
	a := newMember(t, on, 1, nil)
	b := newMember(t, on, 2, func(c *Config) { c.Snapshots = nil })
	a.AddRemote(9, []string{"http://127.0.0.1:1"})
	a.Send([]*raftpb.Message{snapshotMessage(a, &member{id: 9}, 1, 1)})
	b.AddPeer(1, []string{a.url()})
	b.Send([]*raftpb.Message{snapshotMessage(b, a, 1, 1)})
	if got := append(a.raft.reports(), b.raft.reports()...); !slices.Equal(got, []bool{false, false}) {
		t.Errorf("reports are %v, want two of failure", got)
	}
}

// post begins a snapshot to m by hand; the body is written by the caller.
func post(t *testing.T, to *member, m *raftpb.Message) (body *io.PipeWriter, status chan int) {
	t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, to.url()+pathSnapshot, r)
	if err != nil {
		t.Fatal(err)
	}
	(&Transport{cfg: Config{ID: m.GetFrom(), ClusterID: testCluster}}).setHeader(req.Header)
	status = make(chan int, 1)
	go func() {
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			status <- 0
			return
		}
		_ = resp.Body.Close()
		status <- resp.StatusCode
	}()
	head, err := messageEncoder{}.encode(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	return w, status
}

// TestOneSnapshotAtATime begins a snapshot, and while it is on its way one of an older and one of a newer leader: the
// older is refused, the newer takes its place.
func TestOneSnapshotAtATime(t *testing.T) {
	a := newMember(t, &loopback{}, 1, nil)
	b := &member{id: 2}
	first, firstStatus := post(t, a, snapshotMessage(b, a, 5, 10))
	inflight := func() bool { return a.Stats().Peers[0].SnapshotsReceived.Inflight == 1 }
	eventually(t, "the first is being received", inflight)
	older, olderStatus := post(t, a, snapshotMessage(b, a, 4, 9))
	if got := <-olderStatus; got == http.StatusNoContent {
		t.Errorf("a snapshot of an older leader was taken")
	}
	newer, newerStatus := post(t, a, snapshotMessage(b, a, 6, 11))
	if got := <-firstStatus; got == http.StatusNoContent {
		t.Errorf("the first was taken before it ended")
	}
	if _, err := newer.Write([]byte("database")); err != nil {
		t.Fatal(err)
	}
	if err := newer.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-newerStatus; got != http.StatusNoContent {
		t.Errorf("the newer got %d, want 204", got)
	}
	for _, w := range []*io.PipeWriter{first, older} {
		_ = w.Close() // net/http has closed the other end
	}
	kept, _ := a.snapshots.received()
	if len(kept) != 1 || string(kept[0]) != "database" || len(a.raft.messages()) != 1 {
		t.Errorf("%d databases and %d messages arrived, want the last", len(kept), len(a.raft.messages()))
	}
}

// TestSnapshotBreaksOff cuts the connection in the middle of a database.
func TestSnapshotBreaksOff(t *testing.T) {
	a := newMember(t, &loopback{}, 1, nil)
	w, status := post(t, a, snapshotMessage(&member{id: 2}, a, 5, 10))
	if _, err := w.Write([]byte("half a data")); err != nil {
		t.Fatal(err)
	}
	_ = w.CloseWithError(errors.New("the sender was killed")) // never fails
	<-status
	eventually(t, "the receiver has noticed", func() bool { _, failed := a.snapshots.received(); return failed == 1 })
	if len(a.raft.messages()) != 0 {
		t.Error("raft got the message")
	}
}
