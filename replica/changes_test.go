package replica

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestConfChange checks the order of a change: the machine agrees, raft switches, the machine carries out, and entries
// behind it come after it. A refused one changes nothing but the applied index.
func TestConfChange(t *testing.T) {
	ctx := context.Background()
	log, m := &memLog{}, newMemMachine(1)
	r := openSole(t, log, m)
	settle(t, r)
	learner := &raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(2))}
	remove := &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(9))}
	for _, step := range []func() error{
		func() error { return r.Propose(ctx, []byte("before")) },
		func() error { return r.ProposeConfChange(ctx, learner) },
		func() error { return r.Propose(ctx, []byte("after")) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, r)
	if err := r.ProposeConfChange(ctx, remove); err != nil {
		t.Fatal(err)
	}
	settle(t, r)
	want := []string{"before", "ConfChangeAddLearnerNode 2", "after", "ConfChangeRemoveNode 9"}
	if !slices.Equal(m.data(), want) {
		t.Fatalf("applied %q, want %q", m.data(), want)
	}
	last := m.records[len(m.records)-1]
	if !last.refused || !slices.Equal(last.conf.GetLearners(), []uint64{2}) || !slices.Equal(last.conf.GetVoters(), []uint64{1}) {
		t.Fatalf("in the end: %+v", last)
	}
	if s := r.Status(); !s.Sole {
		t.Fatal("a learner has no vote, the member is sole still")
	}
	if n := len(r.loop.window.entries); n != 3 {
		t.Fatalf("%d entries are kept for the learner, want those from the change on that added it", n)
	}
}

// TestChangeStaysCommitted: a member that crashes right after it has carried out a change, and loses the machine's state, knows
// without asking anybody that the change is committed. The others may be the ones that it removed.
func TestChangeStaysCommitted(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	r := openSole(t, log, m)
	settle(t, r)
	learner := &raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(2))}
	if err := r.ProposeConfChange(t.Context(), learner); err != nil {
		t.Fatal(err)
	}
	settle(t, r)
	if got, want := log.hard.GetCommit(), log.last(); got < want || len(m.conf().GetLearners()) != 1 {
		t.Errorf("the log says that %d is committed, the change is entry %d, the configuration %v", got, want, m.conf())
	}
}

// TestChangesInARow proposes each change as soon as the one before it is settled: none may be lost, though raft drops what
// comes earlier. The leader knows of a new member at once.
func TestChangesInARow(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	cfg := testConfig(1, log, m)
	var r *Replica
	var settled []string
	change := func(kind raftpb.ConfChangeType, id uint64) {
		if err := r.ProposeConfChange(t.Context(), &raftpb.ConfChange{Type: kind.Enum(), NodeId: &id}); err != nil {
			t.Error(err)
		}
	}
	cfg.ChangeSettled = func(c *raftpb.ConfChange, refused error) {
		settled = append(settled, fmt.Sprintf("%v %d %v", c.GetType(), c.GetNodeId(), refused))
		switch len(settled) {
		case 1:
			if _, knows := r.loop.progressTable()[2]; !knows {
				t.Error("the leader does not know the member it added")
			}
			change(raftpb.ConfChangeRemoveNode, 9)
		case 2:
			change(raftpb.ConfChangeRemoveNode, 2)
		}
	}
	var err error
	if r, err = New(cfg, log.state(m)); err != nil {
		t.Fatal(err)
	}
	settle(t, r)
	change(raftpb.ConfChangeAddLearnerNode, 2)
	settle(t, r)
	want := []string{"ConfChangeAddLearnerNode 2 <nil>", "ConfChangeRemoveNode 9 cannot remove that member", "ConfChangeRemoveNode 2 <nil>"}
	if !slices.Equal(settled, want) {
		t.Fatalf("settled %q, want %q", settled, want)
	}
}

// TestChangesOfOthersWait: a leader to which another member sends a change while one is not settled keeps it until then, and
// what else is in the message goes on.
func TestChangesOfOthersWait(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	r := openSole(t, log, m)
	change := func(kind raftpb.ConfChangeType, id uint64) *raftpb.ConfChange {
		return &raftpb.ConfChange{Type: kind.Enum(), NodeId: &id}
	}
	send := func(c *raftpb.ConfChange, data string) {
		encoded, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Entries: []*raftpb.Entry{
			{Type: raftpb.EntryConfChange.Enum(), Data: encoded}, {Data: []byte(data)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	send(change(raftpb.ConfChangeAddLearnerNode, 2), "a") // before there is a leader: not even "a" has a place to go
	settle(t, r)
	if err := r.ProposeConfChange(t.Context(), change(raftpb.ConfChangeAddLearnerNode, 3)); err != nil {
		t.Fatal(err)
	}
	r.Advance()
	send(change(raftpb.ConfChangeAddLearnerNode, 4), "b")
	gone, cancel := context.WithCancel(t.Context())
	if err := r.ProposeConfChange(gone, change(raftpb.ConfChangeAddLearnerNode, 5)); err != nil {
		t.Fatal(err)
	}
	r.Advance()
	cancel() // while it waits for its turn
	settle(t, r)
	want := []string{"ConfChangeAddLearnerNode 2", "ConfChangeAddLearnerNode 3", "b", "ConfChangeAddLearnerNode 4"}
	if !slices.Equal(m.data(), want) {
		t.Fatalf("applied %q, want %q", m.data(), want)
	}
}

// TestNoSnapshotDuringChange checks that a snapshot that overtakes a configuration change being made is not taken: raft would
// make the change on top of the snapshot's configuration.
func TestNoSnapshotDuringChange(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1, 2, 3)
	cfg := testConfig(2, log, m)
	cfg.Snapshots = m
	r, err := New(cfg, log.state(m))
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(3))})
	if err != nil {
		t.Fatal(err)
	}
	one := uint64(1)
	change := &raftpb.Entry{Term: &one, Index: &one, Type: raftpb.EntryConfChange.Enum(), Data: data}
	snapshot := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(9)), Term: &one, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}, AutoLeave: new(false)},
	}}
	step := func(message *raftpb.Message) {
		t.Helper()
		message.From, message.To, message.Term = &one, new(uint64(2)), &one
		if err := r.Step(message); err != nil {
			t.Fatal(err)
		}
		for range 3 { // everything but the applier runs
			r.Advance()
			if err := r.WriteLog(); err != nil {
				t.Fatal(err)
			}
		}
	}
	step(&raftpb.Message{Type: raftpb.MsgApp.Enum(), Entries: []*raftpb.Entry{change}, Commit: &one})
	step(&raftpb.Message{Type: raftpb.MsgSnap.Enum(), Snapshot: snapshot})
	if s := r.Status(); s.Commit != 1 {
		t.Fatalf("the snapshot was taken: %+v", s)
	}
	settle(t, r)
	step(&raftpb.Message{Type: raftpb.MsgSnap.Enum(), Snapshot: snapshot})
	if s := r.Status(); s.Commit != 9 || s.Last != 9 {
		t.Fatalf("the snapshot was not taken after the change: %+v", s)
	}
}
