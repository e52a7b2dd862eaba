package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/replica"
	"holdfast/transport"
)

// sentState is a state as it goes over the network.
type sentState struct {
	form     transport.Form
	message  *raftpb.Message
	body     []byte
	revision kv.Revision
}

// makeState has a member make a state with some history.
func makeState(t *testing.T, form transport.Form) (state sentState) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		m.grant(7, 1000)
		for i := range 50 {
			m.put(fmt.Sprint("key", i%20), strings.Repeat("v", 50*i))
		}
		m.putLeased("leased", 7)
		state = m.takeState(form)
	})
	return state
}

// takeState has the member make a state to send.
func (m *member) takeState(form transport.Form) sentState {
	m.t.Helper()
	at := m.Status().Applied
	s, err := m.catchUp.Open(m.t.Context(), &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: new(uint64(m.id)), To: new(uint64(99)), Term: new(uint64(m.Status().Term)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(at)), Term: new(uint64(1))}},
	}, form)
	if err != nil {
		m.t.Fatal(err)
	}
	b, err := io.ReadAll(s.Body)
	if err := errors.Join(err, s.Body.Close()); err != nil || int64(len(b)) != s.Size {
		m.t.Fatalf("%d bytes of %d (%v)", len(b), s.Size, err)
	}
	return sentState{form: form, message: s.Message, body: b, revision: m.keys.Revision()}
}

// incoming is the state as it arrives.
func (s *sentState) incoming() transport.Incoming {
	return transport.Incoming{Form: s.form, Size: int64(len(s.body)), Body: bytes.NewReader(s.body)}
}

// record is what the raft log writes between Prepare and Commit.
func (s *sentState) record(m *Server) error {
	meta := s.message.GetSnapshot().GetMetadata()
	return logOf{m.raftLog}.Append([]replica.Save{{
		Snapshot:  meta,
		HardState: &raftpb.HardState{Term: meta.Term, Vote: new(uint64), Commit: meta.Index},
	}}, true)
}

// crashes takes pictures of a disk as crashes would leave it, at operations on it.
type crashes struct {
	t    *testing.T
	rng  *rand.Rand
	disk *vfs.MemFS

	mu       sync.Mutex // guards the fields below
	on       bool
	phase    string
	pictures []picture
}

type picture struct {
	phase string
	op    string
	lost  int // percent of what was not synced that is there
	disk  *vfs.MemFS
}

// MaybeError implements errorfs.Injector.
func (c *crashes) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on {
		c.take(fmt.Sprintf("operation %d on %s", op.Kind, op.Path))
	}
	return nil
}

func (c *crashes) String() string { return "crashes" }

func (c *crashes) take(op string) {
	lost := []int{0, 50, 100}[c.rng.IntN(3)]
	clone := c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: lost, RNG: c.rng})
	c.pictures = append(c.pictures, picture{c.phase, op, lost, clone})
}

// enter begins a phase with a crash right there.
func (c *crashes) enter(phase string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase, c.on = phase, phase != ""
	if c.on {
		c.take("the beginning")
	}
}

// TestCatchUpCrash crashes a member at operations on its disk all through the taking of a state. It opens again on the old state
// as long as the raft log has no record, on the new one from then on, and nothing else is left on its disk.
func TestCatchUpCrash(t *testing.T) {
	for _, form := range []transport.Form{transport.Database, transport.Checkpoint} {
		t.Run(form.String(), func(t *testing.T) { testCatchUpCrash(t, makeState(t, form)) })
	}
}

func testCatchUpCrash(t *testing.T, state sentState) {
	c := &crashes{t: t, rng: rand.New(rand.NewPCG(drawSeed(t), 1)), disk: vfs.NewCrashableMem()}
	cfg := testConfig("data")
	cfg.FS = errorfs.Wrap(c.disk, c)
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		phase string
		do    func() error
	}{
		{"receive", func() error { return m.catchUp.Receive(context.Background(), state.message, state.incoming()) }},
		{"prepare", func() error { return m.catchUp.Prepare(state.message.GetSnapshot()) }},
		{"record", func() error { return state.record(m) }},
		{"commit", func() error { return m.catchUp.Commit(state.message.GetSnapshot()) }},
		{"", func() error { return nil }},
	} {
		c.enter(step.phase)
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.phase, err)
		}
	}
	state.check(t, m)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, p := range c.pictures {
		seen[p.phase]++
		p.judge(t, cfg, state)
	}
	t.Logf("crashes: %v", seen)
}

// judge opens the member on what the crash has left, twice.
func (p *picture) judge(t *testing.T, cfg Config, state sentState) {
	t.Helper()
	cfg.FS = p.disk
	name := fmt.Sprintf("crash in %s at %s, %d %% of the unsynced kept", p.phase, p.op, p.lost)
	var first kv.Revision
	for round := range 2 {
		m, err := Open(cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rev := m.keys.Revision()
		switch {
		case rev == state.revision && p.phase != "receive" && p.phase != "prepare":
			state.check(t, m)
		case rev == 1 && p.phase != "commit":
		default:
			t.Errorf("%s: opened at revision %d", name, rev)
		}
		if round == 0 {
			first = rev
		} else if rev != first {
			t.Errorf("%s: opened at revision %d first, then at %d", name, first, rev)
		}
		stores, err := m.dir.otherStores("")
		if err != nil {
			t.Fatal(err)
		}
		temp, err := p.disk.List(m.dir.path("tmp"))
		if err != nil || len(stores) != 1 || len(temp) != 0 {
			t.Errorf("%s: there are %q and %q (%v)", name, stores, temp, err)
		}
		if err := m.Close(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// check asks that m holds the state.
func (s *sentState) check(t *testing.T, m *Server) {
	t.Helper()
	if m.keys.Revision() != s.revision || m.keys.Keys() != 21 || m.leases.Len() != 1 || len(m.leases.Keys(7)) != 1 || len(m.cluster.Members()) != 1 {
		t.Errorf("revision %d, keys %d, leases %d with %q, members %d", m.keys.Revision(), m.keys.Keys(), m.leases.Len(), m.leases.Keys(7), len(m.cluster.Members()))
	}
	applied, meta := m.store.Applied(), s.message.GetSnapshot().GetMetadata()
	if uint64(applied.Index) != meta.GetIndex() || uint64(applied.Term) != meta.GetTerm() || !slices.Equal(applied.ConfState, confStateBytes(t, meta)) {
		t.Errorf("applied %+v, sent %v", applied, meta)
	}
	got, err := m.keys.Range(context.Background(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("key9")}})
	if err != nil || got.Count != 1 {
		t.Errorf("key9: %+v (%v)", got, err)
	}
}

func confStateBytes(t *testing.T, meta *raftpb.SnapshotMetadata) []byte {
	t.Helper()
	b, err := proto.Marshal(meta.GetConfState())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
