package replica

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// running starts r and returns how to stop it and learn what Run said.
func running(t *testing.T, r *Replica) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ticker := time.NewTicker(100 * time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, ticker.C) }()
	return func() error {
		cancel()
		ticker.Stop()
		return <-ended
	}
}

// TestRun puts many callers on a running replica at once: each proposes, waits until it is applied, and reads.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, m := &memLog{}, newMemMachine(1)
		r := openSole(t, log, m)
		var mu sync.Mutex
		done := map[string]bool{}
		m.onApply = func(e record) {
			mu.Lock()
			done[e.data] = true
			mu.Unlock()
		}
		stop := running(t, r)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				for j := range 20 {
					if err := r.Propose(t.Context(), fmt.Appendf(nil, "%d/%d", i, j)); err != nil {
						t.Error(err)
					}
					synctestSleep(i)
					index, err := r.ReadIndex(t.Context())
					if err == nil {
						err = r.WaitApplied(t.Context(), index)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if len(done) != 2000+1 {
			t.Fatalf("%d different entries applied, want 2000 and an empty one", len(done))
		}
	})
}

// synctestSleep spreads callers over simulated time.
func synctestSleep(i int) { time.Sleep(time.Duration(i) * time.Microsecond) }

// TestStopAnswersEveryone checks that a replica without a leader keeps callers waiting, and that stopping ends all waits.
func TestStopAnswersEveryone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, m := &memLog{}, newMemMachine(1, 2, 3)
		r := openSole(t, log, m)
		stop := running(t, r)
		results := make(chan error, 10)
		waits := []func(context.Context) error{
			func(ctx context.Context) error { _, err := r.ReadIndex(ctx); return err },
			func(ctx context.Context) error { return r.WaitApplied(ctx, 5) },
			func(ctx context.Context) error { return r.WaitApplied(ctx, 3) },
		}
		for _, wait := range waits {
			go func() { results <- wait(t.Context()) }()
			brief, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := wait(brief); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("a wait that cannot end: %v", err)
			}
		}
		if err := r.Propose(t.Context(), nil); err != nil { // held for a leader that never comes
			t.Fatal(err)
		}
		if err := r.TransferLeader(t.Context(), 2); !errors.Is(err, ErrNotLeader) {
			t.Fatal(err)
		}
		if _, err := r.Progress(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatalf("Run: %v, want nil after its context ended", err)
		}
		for range waits {
			if err := <-results; !errors.Is(err, ErrStopped) {
				t.Fatalf("a waiting caller got %v, want ErrStopped", err)
			}
		}
		later := []error{r.Propose(t.Context(), nil), r.TransferLeader(t.Context(), 2), r.WaitApplied(t.Context(), 9)}
		_, err := r.ReadIndex(t.Context())
		for i, err := range append(later, err) {
			if !errors.Is(err, ErrStopped) {
				t.Fatalf("call %d after the end got %v, want ErrStopped", i, err)
			}
		}
	})
}

// TestFailuresEndRun checks that a failing log or machine ends Run with its error, and everyone's waits with ErrStopped.
func TestFailuresEndRun(t *testing.T) {
	broken := errors.New("broken")
	for name, breakIt := range map[string]func(*memLog, *memMachine){
		"log":     func(l *memLog, _ *memMachine) { l.fail = broken },
		"machine": func(_ *memLog, m *memMachine) { m.fail = broken },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, m := &memLog{}, newMemMachine(1)
				r := openSole(t, log, m)
				breakIt(log, m)
				waiting := make(chan error)
				go func() { waiting <- r.WaitApplied(t.Context(), 1) }()
				if err := r.Run(t.Context(), nil); !errors.Is(err, broken) {
					t.Fatalf("Run: %v", err)
				}
				if err := <-waiting; !errors.Is(err, ErrStopped) {
					t.Fatalf("a waiting caller got %v", err)
				}
				if n := m.applied(); n != 0 {
					t.Fatalf("%d entries applied", n)
				}
			})
		})
	}
}

// TestSlowDiskHoldsProposals checks that while the disk is busy the queue fills, and is refused when full; and that the disk
// then gets everything that waited as one append.
func TestSlowDiskHoldsProposals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, m := &memLog{}, newMemMachine(1)
		cfg := testConfig(1, log, m)
		cfg.Limits.QueuedEntries = 10
		r, err := New(cfg, log.state(m))
		if err != nil {
			t.Fatal(err)
		}
		stop := running(t, r)
		synctest.Wait()
		log.hold = func() { time.Sleep(time.Second) }
		propose := func() error {
			err := r.Propose(t.Context(), []byte("x"))
			synctest.Wait()
			return err
		}
		for i := range unsyncedSaves + 10 { // some are with the disk, ten wait
			if err := propose(); err != nil {
				t.Fatalf("proposal %d: %v", i, err)
			}
		}
		if err := propose(); !errors.Is(err, ErrTooManyRequests) {
			t.Fatalf("the queue took more than it has room for: %v", err)
		}
		syncs := log.syncs.Load()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := len(m.data()); got != unsyncedSaves+10 {
			t.Fatalf("%d applied", got)
		}
		if n := log.syncs.Load() - syncs; n != unsyncedSaves+1 {
			t.Fatalf("%d syncs, want %d", n, unsyncedSaves+1)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLeadershipInOrder checks that changes of leadership are told in order and none is left out.
func TestLeadershipInOrder(t *testing.T) {
	var told []Leadership
	log, m := &memLog{}, newMemMachine(1)
	cfg := testConfig(1, log, m)
	cfg.LeadershipChanged = func(l Leadership) { told = append(told, l) }
	r, err := New(cfg, log.state(m))
	if err != nil {
		t.Fatal(err)
	}
	changed := r.LeadershipChange()
	settle(t, r)
	want := []Leadership{
		{Term: 0, Role: PreCandidate},
		{Term: 1, Role: Candidate},
		{Term: 1, Leader: 1, Role: Leader},
		{Term: 1, Leader: 1, Role: Leader, Settled: true},
	}
	if !slices.Equal(told, want) {
		t.Fatalf("told %v\nwant %v", told, want)
	}
	select {
	case <-changed:
	default:
		t.Fatal("the channel is open after a change")
	}
}

// directNet hands messages from one running replica to another, losing those to members that have stopped.
type directNet struct{ members [4]*Replica }

func (n *directNet) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		to := n.members[m.GetTo()]
		if err := to.Step(proto.Clone(m).(*raftpb.Message)); err != nil && !errors.Is(err, ErrStopped) {
			panic(err)
		}
	}
}

// TestRunThree runs three members with callers on each, stops the leader in the middle, and checks that the other two go on,
// that they applied the same, and that every proposal the callers saw applied is there. Each proposal is made until it is
// seen, as a client would, so some may be there twice.
func TestRunThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(directNet)
		machines := [4]*memMachine{}
		stops := [4]func() error{}
		var mu sync.Mutex
		seen := map[string]bool{} // at the member that proposed it
		for id := uint64(1); id <= 3; id++ {
			machines[id] = newMemMachine(1, 2, 3)
			machines[id].onApply = func(e record) {
				mu.Lock()
				defer mu.Unlock()
				seen[fmt.Sprint(id, "/", e.data)] = true
			}
			cfg := testConfig(id, &memLog{}, machines[id])
			cfg.Transport = net
			r, err := New(cfg, State{ConfState: machines[id].conf()})
			if err != nil {
				t.Fatal(err)
			}
			net.members[id] = r
		}
		for id := 1; id <= 3; id++ {
			stops[id] = running(t, net.members[id])
		}
		time.Sleep(5 * time.Second) // of simulated time: an election
		leader := net.members[1].Status().Leader
		if leader == 0 {
			t.Fatal("no leader")
		}
		var wg sync.WaitGroup
		var want []string
		for id := uint64(1); id <= 3; id++ {
			for i := range 30 {
				data := fmt.Sprint(id, ".", i)
				if id != leader {
					want = append(want, data)
				}
				wg.Go(func() {
					proposeUntilSeen(t, net.members[id], data, func() bool {
						mu.Lock()
						defer mu.Unlock()
						return seen[fmt.Sprint(id, "/", data)]
					})
				})
				if id == 2 && i == 15 {
					if err := stops[leader](); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		var left []*memMachine
		for id := uint64(1); id <= 3; id++ {
			if id == leader {
				continue
			}
			if err := stops[id](); err != nil {
				t.Fatal(err)
			}
			left = append(left, machines[id])
		}
		if !slices.Equal(left[0].data(), left[1].data()) {
			t.Fatalf("two members applied different things:\n%v\n%v", left[0].data(), left[1].data())
		}
		for _, data := range want {
			if !slices.Contains(left[0].data(), data) {
				t.Fatalf("%q was seen and is gone", data)
			}
		}
	})
}

// proposeUntilSeen gives up when the replica has stopped.
func proposeUntilSeen(t *testing.T, r *Replica, data string, seen func() bool) {
	for !seen() {
		if err := r.Propose(t.Context(), []byte(data)); errors.Is(err, ErrStopped) {
			return
		} else if err != nil {
			t.Error(err)
			return
		}
		index, err := r.ReadIndex(t.Context())
		if err == nil {
			err = r.WaitApplied(t.Context(), index)
		}
		if errors.Is(err, ErrStopped) {
			return
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// TestFollowerGathers lets forty callers propose to a running follower on one processor, and counts the messages to the leader: those who
// can run share them.
func TestFollowerGathers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(2, &memLog{}, newMemMachine(1, 2))
		sent := &sentProposals{}
		cfg.Transport = sent
		r, err := New(cfg, State{ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}}})
		if err != nil {
			t.Fatal(err)
		}
		stop := running(t, r)
		heartbeat := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(1))}
		if err := r.Step(heartbeat); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 40 {
			go func() {
				if err := r.Propose(t.Context(), []byte("x")); err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if sent.entries != 40 || sent.messages > 10 {
			t.Fatalf("%d proposals went in %d messages", sent.entries, sent.messages)
		}
	})
}

// sentProposals counts what a follower sends on.
type sentProposals struct{ messages, entries int }

// Send implements Transport.
func (s *sentProposals) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		if m.GetType() == raftpb.MsgProp {
			s.messages++
			s.entries += len(m.GetEntries())
		}
	}
}
