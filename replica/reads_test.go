package replica

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

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
