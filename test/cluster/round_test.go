package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"
)

// A round has at least so many answered requests and faults; the tests with names, which know what they look for, fewer requests.
const (
	answersMin       = 2000
	answersMinNamed  = 600
	processFaultsMin = 2
	networkFaultsMin = 2
)

// Who works on a round's cluster at the same time.
const (
	clientCount  = 7
	lesseeCount  = 3
	watcherCount = 5
)

// answersWait bounds a round that does not get its answers: a cluster that works gives that many in five seconds.
const answersWait = time.Minute

// Goal: real clusters keep one history through everything that machines and networks do. Method: each round draws, from its seed, a
// cluster of three or five and some faults of processes, disks, membership and network, while clients, leases and watches work;
// porcupine and checkers judge what they were told, and in the end all members must be equal and be who they were.
func TestRounds(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1_000_000)
	}
	p := restless(t)
	t.Run("rounds", func(t *testing.T) {
		for n := range *roundsFlag {
			t.Run(fmt.Sprint(seed+uint64(n)), func(t *testing.T) {
				t.Parallel()
				r := drawRound(t, p, seed+uint64(n))
				if err := r.judged(r.strike); err != nil {
					r.fail(err, fmt.Sprintf("SEED=%d ROUNDS=1 make cluster", r.seed))
				}
			})
		}
	})
	names := []string{"states sent"}
	for _, f := range slices.Concat(processFaults, networkFaults) {
		names = append(names, f.name)
	}
	counts := []string{}
	for _, name := range names {
		counts = append(counts, fmt.Sprintf("%s: %d", name, counted.by[name]))
		if *roundsFlag >= 100 && counted.by[name] == 0 {
			t.Errorf("%s: never", name)
		}
	}
	t.Logf("seeds from %d, %d rounds; %s", seed, *roundsFlag, strings.Join(counts, ", "))
}

// round is one cluster, what befalls it and what its clients see.
type round struct {
	*history
	t       *testing.T
	seed    uint64
	cluster *cluster
	enough  int      // requests that are to be answered
	lines   []string // of the script, as it happened; guarded by history.mu
}

// drawRound starts the cluster that a seed says.
func drawRound(t *testing.T, p program, seed uint64) *round {
	size := 3
	if rand.New(rand.NewPCG(seed, 0)).IntN(3) == 0 {
		size = 5
	}
	r := newRound(t, startCluster(t, p, size, true), seed)
	r.enough = answersMin
	return r
}

func newRound(t *testing.T, c *cluster, seed uint64) *round {
	return &round{t: t, seed: seed, cluster: c, enough: answersMinNamed, history: newHistory()}
}

// fail ends the test with all there is to say.
func (r *round) fail(err error, repeat string) {
	r.t.Helper()
	r.t.Fatalf("seed %d: %v\nthe script was\n%s\nto repeat: %s\n%s", r.seed, err, r.script(), repeat, r.cluster.logs(12))
}

func (r *round) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf("%8.3f s  %s", r.now().Seconds(), fmt.Sprintf(format, args...)))
}

func (r *round) script() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// judged lets clients work while something happens, and until they have enough answers; then it judges.
func (r *round) judged(during func() error) error {
	working, stop := context.WithCancel(context.Background())
	workers := r.work(working)
	watching, look := context.WithCancel(context.Background())
	watchers := r.watch(watching)
	defer func() {
		stop()
		look()
		workers.Wait()
		watchers.Wait()
	}()

	err := during()
	if err == nil {
		err = r.recover()
	}
	if err == nil {
		err = r.awaitAnswers()
	}
	r.note("the clients stop")
	stop()
	workers.Wait()
	if err := errors.Join(err, r.cluster.breached()); err != nil {
		return err
	}
	last, err := r.cluster.settle(r.history)
	if err != nil {
		return err
	}
	r.note("all members are equal at revision %d", last)
	if err := r.awaitWatches(last); err != nil {
		return err
	}
	look()
	watchers.Wait()
	told, err := r.cluster.tell(r.compacted, last)
	if err != nil {
		return err
	}
	began := time.Now()
	v, err := r.judge(told)
	if err := errors.Join(err, r.cluster.breached()); err != nil {
		return err
	}
	states := r.cluster.logged("received and saved database snapshot")
	count("states sent", states)
	r.t.Logf("%d members, %d requests, %d answered, %d revisions up to %d compacted, %d watches, %d leases, %d states sent in %v; judged in %v\n%s",
		len(r.cluster.present()), len(r.ops), r.answers, v.last(), r.compacted, len(r.watches), len(r.history.leases), states,
		r.now().Round(100*time.Millisecond), time.Since(began).Round(time.Millisecond), r.script())
	return nil
}

// work starts the clients.
func (r *round) work(ctx context.Context) *sync.WaitGroup {
	var workers sync.WaitGroup
	for n := range clientCount {
		workers.Go(func() { newClient(r.history, n+1, r.cluster.present, r.seed).run(ctx) })
	}
	for n := range lesseeCount {
		workers.Go(func() { newLessee(r.history, clientCount+n+1, r.cluster.present, r.seed).run(ctx) })
	}
	workers.Go(func() { r.compact(ctx) })
	return &workers
}

// Compactions leave some history to watchers that go back.
const (
	compactEvery = 700 * time.Millisecond
	compactBelow = 150
)

// compact drops history that all watchers have been told of, until ctx ends.
func (r *round) compact(ctx context.Context) {
	rng := rand.New(rand.NewPCG(r.seed, 3000))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(compactEvery):
		}
		to := r.told() - compactBelow
		if to <= max(r.compacted, 1) {
			continue
		}
		r.mu.Lock()
		r.compacted = to // it may happen, whatever the answer is
		r.mu.Unlock()
		members := r.cluster.present()
		attempt, cancel := context.WithTimeout(context.Background(), requestTimeout)
		// Who does not answer has compacted or not; the members must agree on which.
		_, _ = members[rng.IntN(len(members))].kv().Compact(attempt, &pb.CompactionRequest{Revision: to, Physical: rng.IntN(3) == 0})
		cancel()
	}
}

// watch starts the watchers: the first follows everything, the others less, and move about.
func (r *round) watch(ctx context.Context) *sync.WaitGroup {
	var watchers sync.WaitGroup
	for n := range watcherCount {
		w := &watcher{history: r.history, members: r.cluster.present, rng: rand.New(rand.NewPCG(r.seed, uint64(1000+n))), span: everything, next: 1}
		if n > 0 {
			w.restless = true
			w.next = int64(w.rng.IntN(2))
			w.span = []span{everything, {key: keyName(3)}, {keyName(4), keyName(9)}, {"l/", "l0"}}[w.rng.IntN(4)]
		}
		r.watchers = append(r.watchers, w)
		watchers.Go(func() { w.run(ctx) })
	}
	return &watchers
}

// strike lets the faults of the round happen.
func (r *round) strike() error {
	var g errgroup.Group
	for lane, faults := range [][]fault{processFaults, networkFaults} {
		rng := rand.New(rand.NewPCG(r.seed, uint64(2000+lane)))
		times := []int{processFaultsMin, networkFaultsMin}[lane] + rng.IntN(2)
		g.Go(func() error {
			for range times {
				f := faults[rng.IntN(len(faults))]
				s := &striker{cluster: r.cluster, rng: rng, note: func(format string, args ...any) { r.note(f.name+": "+format, args...) }}
				time.Sleep(s.between(200, 900))
				count(f.name, 1)
				if err := f.strike(s); err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
				s.note("over")
			}
			return nil
		})
	}
	return g.Wait()
}

// recover ends everything that a fault may have left, and waits until all members answer.
func (r *round) recover() error {
	if err := r.cluster.net.heal(true); err != nil {
		return err
	}
	for {
		if err := r.cluster.raise(r.note); err != nil {
			return err
		}
		err := r.cluster.awaitAll()
		if err == nil {
			break
		}
		ended := slices.ContainsFunc(r.cluster.present(), func(m *member) bool { return !m.running() })
		if !ended || r.cluster.breached() != nil {
			return err
		}
	}
	if err := r.cluster.disarm(); err != nil {
		return err
	}
	r.note("all members answer")
	return nil
}

// awaitAnswers waits until the clients have enough.
func (r *round) awaitAnswers() error {
	for deadline := time.Now().Add(answersWait); r.count() < r.enough; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d requests were answered", r.count())
		}
	}
	return nil
}

// awaitWatches waits until every watcher knows that it has been told everything.
func (r *round) awaitWatches(last int64) error {
	behind := func() (names []string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, w := range r.watchers {
			if w.next <= last {
				names = append(names, fmt.Sprintf("%+v before %d", w.span, w.next))
			}
		}
		return names
	}
	for deadline := time.Now().Add(readyTimeout); len(behind()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("watches do not come to revision %d: %v", last, behind())
		}
	}
	return nil
}
