package replica

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
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
