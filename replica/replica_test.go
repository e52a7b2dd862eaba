package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func testConfig(id uint64, log Log, machine Machine) Config {
	return Config{
		ID: id, ElectionTicks: 10, PreVote: true, ReadRetryTicks: 5, ReadTimeoutTicks: 70,
		Log: log, Machine: machine, Logger: slog.New(slog.DiscardHandler),
	}
}

// settle makes all calls until nothing moves any more. It is the simplest driver.
func settle(t testing.TB, r *Replica) {
	t.Helper()
	for range 100 {
		r.Advance()
		if err := errors.Join(r.WriteLog(), r.ApplyCommitted(), r.ReadLog()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-r.wake:
			continue
		default:
			return
		}
	}
	t.Fatal("does not settle")
}

func openSole(t testing.TB, log *memLog, m *memMachine) *Replica {
	t.Helper()
	r, err := New(testConfig(1, log, m), log.state(m))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (m *memMachine) data() (all []string) {
	for _, r := range m.records[1:] {
		if r.data != "" {
			all = append(all, r.data)
		}
	}
	return all
}

// TestSole walks one member through its life: it leads at once, commits what it is given in order, answers reads, and
// after a crash that took back its store and its unsynced writes, it has everything it had acknowledged.
func TestSole(t *testing.T) {
	ctx := context.Background()
	log, m := &memLog{}, newMemMachine(1)
	r := openSole(t, log, m)
	settle(t, r)
	if s := r.Status(); s.Role != Leader || s.Leader != 1 || !s.Settled || !s.Sole || s.Applied != 1 {
		t.Fatalf("not leading at once: %+v", s)
	}
	want := []string{"a", "b", "c"}
	for _, d := range want {
		if err := r.Propose(ctx, []byte(d)); err != nil {
			t.Fatal(err)
		}
	}
	syncs := log.syncs.Load()
	settle(t, r)
	if !slices.Equal(m.data(), want) {
		t.Fatalf("applied %q, want %q", m.data(), want)
	}
	if n := log.syncs.Load() - syncs; n != 1 {
		t.Fatalf("three proposals took %d syncs, want 1", n)
	}
	if i, err := r.ReadIndex(ctx); err != nil || i != 4 {
		t.Fatalf("read index %d, %v; want 4", i, err)
	}
	if err := r.WaitApplied(ctx, 4); err != nil {
		t.Fatal(err)
	}

	if n := len(r.loop.window.entries); n > 0 {
		t.Fatalf("%d applied entries are kept for nobody", n)
	}

	log.crash()
	m.crash(2, nil)
	r = openSole(t, log, m)
	if q := r.AskReadIndex(); isDone(q) {
		t.Fatal("a read was answered before an entry of the new term was applied")
	}
	settle(t, r)
	if !slices.Equal(m.data(), want) {
		t.Fatalf("after the crash applied %q, want %q", m.data(), want)
	}
	if s := r.Status(); s.Term != 2 || s.Applied != 5 {
		t.Fatalf("after the crash: %+v", s)
	}
}

func isDone(q *Read) bool {
	select {
	case <-q.Done():
		return true
	default:
		return false
	}
}

// TestReadWaitsForOwnTerm holds the first entry of a term back and checks that a read waits for it: the commit index
// found at start may be older than what was acknowledged before the crash.
func TestReadWaitsForOwnTerm(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	entry := func(i uint64) *raftpb.Entry {
		return &raftpb.Entry{Index: new(i), Term: new(uint64(1)), Data: []byte("x")}
	}
	log.entries = []*raftpb.Entry{entry(1), entry(2)} // both acknowledged before the crash, the commit index lost
	log.hard = &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)), Commit: new(uint64(1))}
	r := openSole(t, log, m)
	q := r.AskReadIndex()
	for range 10 { // everything but the log writer runs
		r.Advance()
		if err := r.ApplyCommitted(); err != nil {
			t.Fatal(err)
		}
	}
	if isDone(q) {
		t.Fatal("the read was answered while the first entry of the term was not durable")
	}
	settle(t, r)
	if i, err := q.Index(); !isDone(q) || err != nil || i < 3 {
		t.Fatalf("read index %d, %v; want 3 or more", i, err)
	}
}

// sentMessages is a transport that keeps everything.
type sentMessages []*raftpb.Message

func (s *sentMessages) Send(messages []*raftpb.Message) { *s = append(*s, messages...) }

// TestLearnerReadWaitsForOwnTerm is TestReadWaitsForOwnTerm for a question from a learner: it comes at the worst moment, in
// the step in which the only voter becomes leader.
func TestLearnerReadWaitsForOwnTerm(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	m.conf().Learners = []uint64{2}
	one := uint64(1)
	log.entries = []*raftpb.Entry{{Index: &one, Term: &one}, {Index: new(uint64(2)), Term: &one}}
	log.hard = &raftpb.HardState{Term: &one, Vote: &one, Commit: &one}
	var sent sentMessages
	cfg := testConfig(1, log, m)
	cfg.Transport = &sent
	r, err := New(cfg, log.state(m))
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		t.Helper()
		question := &raftpb.Message{
			Type: raftpb.MsgReadIndex.Enum(), From: new(uint64(2)), To: &one, Entries: []*raftpb.Entry{{Data: []byte("12345678")}},
		}
		if err := r.Step(question); err != nil {
			t.Fatal(err)
		}
	}
	for !r.Status().Settled {
		ask()
		r.Advance()
		if err := errors.Join(r.WriteLog(), r.ApplyCommitted()); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	settle(t, r)
	answers := 0
	for _, message := range sent {
		if message.GetType() == raftpb.MsgReadIndexResp {
			if answers++; message.GetIndex() < 3 {
				t.Fatalf("answered %d before an entry of the new term was applied", message.GetIndex())
			}
		}
	}
	if answers == 0 {
		t.Fatal("never answered")
	}
}

// TestStartRefuses checks that a log and a store that do not fit together are not continued from.
func TestStartRefuses(t *testing.T) {
	entries := func(from, n, term uint64) (all []*raftpb.Entry) {
		for i := range n {
			all = append(all, &raftpb.Entry{Index: new(from + i), Term: new(term)})
		}
		return all
	}
	conf := &raftpb.ConfState{Voters: []uint64{1}}
	for _, c := range []struct {
		name  string
		state State
		want  string
	}{
		{"store ahead of the log", State{Entries: entries(1, 3, 1), Applied: 4}, "the store has applied entry 4, but the raft log ends at 3"},
		{"store behind the log", State{Entries: entries(6, 3, 1), Before: Position{5, 1}, Applied: 4}, "the store has applied entry 4, but the raft log begins only at 6"},
		{"committed entries lost", State{Entries: entries(1, 3, 1), HardState: &raftpb.HardState{Term: new(uint64(1)), Commit: new(uint64(4))}}, "the raft log ends at 3, but entry 4 was committed"},
		{"a gap", State{Entries: append(entries(1, 2, 1), entries(4, 1, 1)...)}, "entry 4 stands where entry 3 should"},
		{"terms fall", State{Entries: append(entries(1, 2, 2), entries(3, 1, 1)...)}, "entry 3 is of term 1, the one before it of term 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.state.ConfState = conf
			_, err := New(testConfig(1, &memLog{}, newMemMachine(1)), c.state)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestTermWithoutHardState checks that a crash that kept entries of a new term and lost the hard state behind them leaves
// a member that has not voted in that term and takes no part in older ones.
func TestTermWithoutHardState(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1, 2, 3)
	log.entries = []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(7))}}
	log.hard = &raftpb.HardState{Term: new(uint64(6)), Vote: new(uint64(3)), Commit: new(uint64(0))}
	r := openSole(t, log, m)
	if hs := r.loop.node.BasicStatus().HardState; hs.GetTerm() != 7 || hs.GetVote() != 0 {
		t.Fatalf("went on with %v", hs)
	}
}

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

// TestBootstrapFromLog starts a member whose configuration stands only in its log, as etcd writes a new cluster's.
func TestBootstrapFromLog(t *testing.T) {
	log, m := &memLog{}, newMemMachine()
	add := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(1))}
	data, err := proto.Marshal(add)
	if err != nil {
		t.Fatal(err)
	}
	log.entries = []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(1)), Type: raftpb.EntryConfChange.Enum(), Data: data}}
	log.hard = &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))}
	r := openSole(t, log, m)
	settle(t, r)
	if s := r.Status(); s.Role != Leader || !s.Settled {
		t.Fatalf("not leading at once: %+v", s)
	}
}

// TestBounds checks that what does not fit is refused, and that it fits again later.
func TestBounds(t *testing.T) {
	ctx := context.Background()
	log, m := &memLog{}, newMemMachine(1)
	cfg := testConfig(1, log, m)
	cfg.Limits = Limits{QueuedEntries: 3, QueuedBytes: 10, ApplyGap: 2}
	r, err := New(cfg, log.state(m))
	if err != nil {
		t.Fatal(err)
	}
	propose := func(size int, want error) {
		t.Helper()
		if err := r.Propose(ctx, make([]byte, size)); !errors.Is(err, want) {
			t.Fatalf("propose %d bytes: %v, want %v", size, err, want)
		}
	}
	propose(8, nil)
	propose(3, ErrTooManyRequests) // bytes
	propose(1, nil)
	propose(1, nil)
	propose(0, ErrTooManyRequests) // entries
	if s := r.Stats(); s.Queued != 3 || s.QueuedBytes != 10 {
		t.Fatalf("counted %+v", s)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	settle(t, r)
	propose(11, nil) // alone, anything passes
	propose(0, ErrTooManyRequests)
	settle(t, r)
	if err := r.Propose(gone, []byte("gone")); err != nil {
		t.Fatal(err)
	}
	settle(t, r)
	if got := len(m.data()); got != 4 {
		t.Fatalf("%d proposals applied, want 4: the fifth caller had gone", got)
	}

	for range 3 { // everything but the applier runs
		propose(1, nil)
	}
	for range 5 {
		r.Advance()
		if err := r.WriteLog(); err != nil {
			t.Fatal(err)
		}
	}
	propose(1, ErrTooManyRequests) // three committed entries are not applied
	settle(t, r)
	propose(1, nil)
}

// TestQueueStaysSmall checks that a queue that is never quite empty does not grow with what has gone through it, and keeps
// its order.
func TestQueueStaysSmall(t *testing.T) {
	q := newProposals(make(chan struct{}, 1), Limits{}.withDefaults())
	next, taken := 0, 0
	for range 40 {
		for range proposalEntries {
			if err := q.add(proposal{ctx: t.Context(), data: fmt.Append(nil, next)}); err != nil {
				t.Fatal(err)
			}
			next++
		}
		if next == proposalEntries {
			continue // one batch always stays behind
		}
		for _, p := range q.take(nil) {
			if want := fmt.Sprint(taken); string(p.data) != want {
				t.Fatalf("took %s, want %s", p.data, want)
			}
			taken++
		}
	}
	if n, bytes := q.waiting(); n != proposalEntries || bytes == 0 || cap(q.items) > 6*proposalEntries {
		t.Fatalf("%d waiting, %d bytes, room for %d", n, bytes, cap(q.items))
	}
}

// TestPruneWhileHeld checks that callers who have gone make room in a queue that no leader empties.
func TestPruneWhileHeld(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1, 2, 3)
	cfg := testConfig(1, log, m)
	cfg.Limits.QueuedEntries = 1
	r, err := New(cfg, log.state(m))
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	if err := r.Propose(gone, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := r.Propose(context.Background(), nil); !errors.Is(err, ErrTooManyRequests) {
		t.Fatal(err)
	}
	r.Tick()
	r.Advance()
	if err := r.Propose(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
}

// TestReadTimeout checks that a read nobody can answer ends.
func TestReadTimeout(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1, 2, 3)
	r := openSole(t, log, m)
	q := r.AskReadIndex()
	for range 70 {
		if isDone(q) {
			t.Fatal("too early")
		}
		r.Tick()
		r.Advance()
	}
	if _, err := q.Index(); !isDone(q) || !errors.Is(err, ErrTimeout) {
		t.Fatalf("error %v, want ErrTimeout", err)
	}
	if s := r.Stats(); s.ReadsSlow != 1 || s.ReadsFailed != 0 {
		t.Fatalf("counted %+v", s)
	}
}

// TestLateReaderHasItsTime lets a reader come when another has waited nearly too long for a leader, and one when nobody has waited
// for a while: neither is given up before its own time is over.
func TestLateReaderHasItsTime(t *testing.T) {
	r := openSole(t, &memLog{}, newMemMachine(1, 2, 3))
	pass := func(ticks int) {
		for range ticks {
			r.Tick()
			r.Advance()
		}
	}
	pass(50)
	first := r.AskReadIndex()
	pass(60)
	second := r.AskReadIndex()
	pass(69)
	if !isDone(first) || isDone(second) {
		t.Fatalf("the first has ended: %v, the second: %v", isDone(first), isDone(second))
	}
	pass(15)
	if _, err := second.Index(); !isDone(second) || !errors.Is(err, ErrTimeout) {
		t.Fatalf("the second ended with %v", err)
	}
}

// TestCheckpoint checks that a checkpoint is durable, with a hard state that has it committed, when its caller hears, and
// that the log may be released up to it.
func TestCheckpoint(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	r := openSole(t, log, m)
	for range 5 {
		if err := r.Propose(context.Background(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, r)
	done := make(chan error)
	go func() {
		done <- r.Checkpoint(context.Background(), &raftpb.SnapshotMetadata{Index: new(uint64(4)), Term: new(uint64(1))})
	}()
	for ended := false; !ended; {
		settle(t, r)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		default:
		}
	}
	if log.snapshot.GetIndex() != 4 || log.hard.GetCommit() < 4 {
		t.Fatalf("recorded %v with %v", log.snapshot, log.hard)
	}
	log.release(4)
	r.Compact(4)
	settle(t, r)
	if first, _ := r.loop.window.FirstIndex(); first != 5 {
		t.Fatalf("the log begins at %d, want 5", first)
	}
	r = openSole(t, log, m)
	settle(t, r)
	if s := r.Status(); s.Role != Leader || s.Applied != 7 {
		t.Fatalf("after the restart: %+v", s)
	}
}

// TestCompactAheadOfTheLoop releases the log up to what the machine has applied before the loop has heard of it: the
// window follows when it has.
func TestCompactAheadOfTheLoop(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	r := openSole(t, log, m)
	settle(t, r)
	if err := r.Propose(context.Background(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	heard := r.loop.window.applied
	for m.applied() == heard {
		r.Advance()
		if err := errors.Join(r.WriteLog(), r.ApplyCommitted()); err != nil {
			t.Fatal(err)
		}
	}
	before := r.inbox.Take(nil)
	r.Compact(m.applied())
	for i := range before {
		r.inbox.Put(before[i])
	}
	settle(t, r)
	if first, _ := r.loop.window.FirstIndex(); first != m.applied()+1 {
		t.Fatalf("the log begins at %d, applied is %d", first, m.applied())
	}
}

// TestOlderEntries checks that a replica started with the newest entries only knows of those on disk.
func TestOlderEntries(t *testing.T) {
	log, m := &memLog{}, newMemMachine(1)
	state := State{
		Before: Position{Index: 9, Term: 3}, Older: []TermRun{{From: 4, Term: 2}, {From: 8, Term: 3}}, Applied: 9,
		HardState: &raftpb.HardState{Term: new(uint64(3)), Vote: new(uint64(1)), Commit: new(uint64(9))},
		ConfState: m.conf(),
		Entries:   []*raftpb.Entry{{Index: new(uint64(10)), Term: new(uint64(3))}},
	}
	r, err := New(testConfig(1, log, m), state)
	if err != nil {
		t.Fatal(err)
	}
	w := r.loop.window
	if first, _ := w.FirstIndex(); first != 4 {
		t.Fatalf("the log begins at %d, want 4", first)
	}
	for i, want := range map[uint64]uint64{4: 2, 7: 2, 8: 3, 10: 3} {
		if term, err := w.Term(i); err != nil || term != want {
			t.Fatalf("term of %d is %d, %v; want %d", i, term, err, want)
		}
	}
	if _, err := w.Term(3); !errors.Is(err, raft.ErrCompacted) {
		t.Fatalf("term of the entry before the first, which nobody knows: %v", err)
	}
	if got, err := w.Entries(4, 11, 1<<20); len(got) != 0 || err != nil || w.ahead.wanted != (span{4, 10}) {
		t.Fatalf("%d entries, %v, wanted %v", len(got), err, w.ahead.wanted)
	}
}

// TestMergeAcks checks which acknowledgements are sent: the highest to a leader, and everything that is not one.
func TestMergeAcks(t *testing.T) {
	ack := func(to, term, index uint64, reject bool) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), To: &to, Term: &term, Index: &index, Reject: &reject}
	}
	vote := &raftpb.Message{Type: raftpb.MsgVoteResp.Enum()}
	older, low, high, again := ack(1, 2, 9, false), ack(2, 3, 5, false), ack(2, 3, 7, false), ack(2, 3, 6, false)
	reject := ack(2, 3, 4, true)
	got := mergeAcks([]*raftpb.Message{older, low, vote, high, reject, again})
	if want := []*raftpb.Message{older, vote, high, reject}; !slices.Equal(got, want) {
		t.Fatalf("kept %v, want %v", got, want)
	}
	if got := mergeAcks(nil); len(got) != 0 {
		t.Fatal(got)
	}
}
