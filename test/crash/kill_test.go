package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// failpoints are the steps at which the binary can be ended. Those on the way of requests are reached by the clients; the
// others only by a start, some of them only by the first one in an empty directory.
var failpoints = []struct {
	name  string
	start bool
	empty bool
}{
	{name: "formatBeforeRename", start: true, empty: true},
	{name: "formatAfterRename", start: true, empty: true},
	{name: "walBeforeRename", start: true, empty: true},
	{name: "walAfterRename", start: true, empty: true},
	{name: "beforeApplyOneConfChange", start: true, empty: true},
	{name: "beforePublishing", start: true},
	{name: "raftBeforeSave"},
	{name: "raftAfterSave"},
	{name: "walBeforeSync"},
	{name: "walAfterSync"},
	{name: "beforeApplyOneEntryNormal"},
	{name: "commitBeforePreCommitHook"},
	{name: "commitAfterPreCommitHook"},
	{name: "beforeWritebackBuf"},
	{name: "afterWritebackBuf"},
	{name: "beforeSendWatchResponse"},
	{name: "compactBeforeCommitScheduledCompact"},
	{name: "compactAfterCommitScheduledCompact"},
	{name: "compactBeforeCommitBatch"},
	{name: "compactAfterCommitBatch"},
	{name: "compactBeforeSetFinishedCompact"},
	{name: "compactAfterSetFinishedCompact"},
	{name: "beforeCommit"},
	{name: "afterCommit"},
	{name: "raftBeforeSaveSnap"},
	{name: "raftAfterSaveSnap"},
	{name: "raftAfterWALRelease"},
}

// ofClusters are the failpoints that only a member with others reaches; test/cluster ends members there.
var ofClusters = map[string]bool{"snapDBRenameBeforeDirSync": true, "applyBeforeOpenSnapshot": true, "applyAfterOpenSnapshot": true}

// storeFlushDue is the failpoint that ends nothing: while it returns something, the store is flushed every second, and the
// raft log released.
const storeFlushDue = "storeFlushDue"

// Goal: the program, killed at any moment, comes back with all it acknowledged. Method: clients and a watcher outside; kill -9
// after a random time, during the start too, by turns with an end at each failpoint, by a panic there or by kill -9 while the
// program sleeps there.
func TestBinarySurvivesKill(t *testing.T) {
	kills, seed := number(t, "HOLDFAST_KILLS", 12), uint64(number(t, "HOLDFAST_SEED", int(time.Now().UnixNano())))
	r := &killRun{
		t: t, rng: rand.New(rand.NewPCG(seed, 3)), plain: run.Holdfast(t), stoppable: run.HoldfastWithFailpoints(t), hits: map[string]int{},
	}
	r.renew()
	r.namesAll()
	order := r.rng.Perm(len(failpoints))
	for n := range kills {
		what := "at a random moment"
		var err error
		began := time.Now()
		if n%2 == 0 {
			err = r.killAnywhere(n%lingerEvery == lingerEvery-2)
		} else {
			at := failpoints[order[n/2%len(order)]]
			what = "at " + at.name
			err = r.killAt(at.name, at.start, at.empty)
		}
		if err != nil {
			t.Fatalf("seed %d, kill %d, %s: %v\n%s", seed, n, what, err, r.logTail())
		}
		t.Logf("kill %d, %s: %v", n, what, time.Since(began).Round(time.Millisecond))
	}
	if err := r.examine(); err != nil {
		t.Fatalf("seed %d, after the last kill: %v\n%s", seed, err, r.logTail())
	}
	slowest := time.Duration(0)
	if len(r.starts) > 0 {
		slowest = slices.Max(r.starts)
	}
	t.Logf("seed %d: %d kills, %d starts (slowest %v), %d operations answered, %d open; failpoints hit: %v",
		seed, kills, len(r.starts), slowest.Round(time.Millisecond), r.answered, r.open, r.hits)
	for _, at := range failpoints {
		if kills >= 2*len(failpoints) && r.hits[at.name] == 0 {
			t.Errorf("failpoint %s was never hit", at.name)
		}
	}
}

// killRun is one process after the other on the same directory.
type killRun struct {
	t                *testing.T
	rng              *rand.Rand
	plain, stoppable string // paths of the binary, without and with failpoints

	dir    string
	logAt  int // where the last process began in the log
	judge  *judge
	hits   map[string]int // of failpoints
	starts []time.Duration

	answered, open int
}

// renew goes on with an empty directory.
func (r *killRun) renew() {
	if r.dir != "" {
		if err := os.RemoveAll(r.dir); err != nil { // a directory takes 128 MB
			r.t.Fatal(err)
		}
	}
	r.dir, r.judge = r.t.TempDir(), newJudge()
}

func (r *killRun) logTail() string {
	lines := strings.Split(strings.TrimRight(string(r.log(0)), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// panicked tells whether the last process said that it ends at a failpoint.
func (r *killRun) panicked() bool { return bytes.Contains(r.log(r.logAt), []byte("failpoint panic: ")) }

// log is what processes have said from some place in the log on.
func (r *killRun) log(from int) []byte {
	text, err := os.ReadFile(filepath.Join(r.dir, "server.log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	return text[min(from, len(text)):]
}

// start starts a process and returns when it answers.
func (r *killRun) start(ctx context.Context, binary string, env ...string) (*run.Server, error) {
	began := time.Now()
	r.logAt = len(r.log(0))
	s, err := run.Start(ctx, run.Config{
		Binary: binary, Dir: r.dir, Env: env, AdvertisePeer: "http://127.0.0.1:2380", // the same member each time
		Args: []string{"--snapshot-count=40", "--snapshot-catchup-entries=10", "--compaction-batch-limit=20"},
	})
	if err == nil {
		r.starts = append(r.starts, time.Since(began))
	}
	return s, err
}

// killAnywhere kills the shipped binary after a random time, now and then during its start; one that lingers gets time
// for leases to end by themselves.
func (r *killRun) killAnywhere(linger bool) error {
	if r.rng.IntN(4) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.rng.IntN(150))*time.Millisecond)
		defer cancel()
		s, err := r.start(ctx, r.plain)
		if err != nil {
			if ctx.Err() == nil {
				return err
			}
			return nil // killed before it answered
		}
		s.Kill()
	}
	s, err := r.start(context.Background(), r.plain)
	if err != nil {
		return err
	}
	defer s.Kill()
	return r.use(s, func(ctx context.Context) error {
		wait := time.Duration(r.rng.IntN(600)) * time.Millisecond
		if linger {
			wait = leaseShort*time.Second + 2*time.Second
		}
		select {
		case <-time.After(wait):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// killAt ends the binary at a failpoint.
func (r *killRun) killAt(name string, start, empty bool) error {
	if empty {
		r.renew()
	}
	terms := storeFlushDue + "=return(true)"
	if start {
		s, err := r.start(context.Background(), r.stoppable, "GOFAIL_FAILPOINTS="+terms+";"+name+"=panic")
		if err == nil {
			s.Kill()
			return fmt.Errorf("it answers although it should have ended at %s", name)
		}
		if !r.panicked() {
			return err
		}
		r.hits[name]++
		return nil
	}
	control := etcd.FreeAddress(r.t)
	s, err := r.start(context.Background(), r.stoppable, "GOFAIL_HTTP="+control, "GOFAIL_FAILPOINTS="+terms)
	if err != nil {
		return err
	}
	defer s.Kill()
	return r.use(s, func(ctx context.Context) error { return r.endAt(ctx, s, control, name) })
}

// reachTimeout is how long the clients may take to reach a failpoint: the rarest comes once a second.
const reachTimeout = 30 * time.Second

// endAt has the process panic at a failpoint, or sleep there until it is killed, after it has passed there a few times.
func (r *killRun) endAt(ctx context.Context, s *run.Server, control, name string) error {
	passes, act := r.rng.IntN(3), "panic"
	sleeps := r.rng.IntN(2) == 0
	if sleeps {
		act = "sleep(60000)"
	}
	terms := act
	if passes > 0 {
		terms = fmt.Sprintf("%d*off->%s", passes, act)
	}
	if err := setFailpoint(control, name, terms); err != nil {
		return err
	}
	for deadline := time.Now().Add(reachTimeout); ; {
		select {
		case <-s.Ended():
			if !r.panicked() {
				return errors.New("the process ended by itself")
			}
			r.hits[name]++
			return nil
		case <-time.After(5 * time.Millisecond):
		}
		if sleeps && passed(control, name) > passes {
			r.hits[name]++
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("failpoint %s was not reached within %s", name, reachTimeout)
		}
		if err := r.judge.breached(); err != nil {
			return err
		}
	}
}

func setFailpoint(control, name, terms string) error {
	q, err := http.NewRequest(http.MethodPut, "http://"+control+"/"+name, strings.NewReader(terms))
	if err != nil {
		return err
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return fmt.Errorf("set failpoint %s: %w", name, err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusNoContent {
		return fmt.Errorf("set failpoint %s to %s: %s", name, terms, a.Status)
	}
	return nil
}

// passed is how often a failpoint with terms has been passed; 0 if the process does not say.
func passed(control, name string) int {
	a, err := http.Get("http://" + control + "/" + name + "/count")
	if err != nil {
		return 0
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return 0
	}
	return n
}

// namesAll asks that the table names all failpoints that the binary has.
func (r *killRun) namesAll() {
	r.t.Helper()
	control := etcd.FreeAddress(r.t)
	s, err := r.start(r.t.Context(), r.stoppable, "GOFAIL_HTTP="+control)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Kill()
	a, err := http.Get("http://" + control + "/")
	if err != nil {
		r.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var has, named []string
	for line := range strings.Lines(string(text)) {
		if name, _, _ := strings.Cut(line, "="); name != storeFlushDue && !ofClusters[name] {
			has = append(has, name)
		}
	}
	for _, at := range failpoints {
		named = append(named, at.name)
	}
	slices.Sort(has)
	slices.Sort(named)
	if !slices.Equal(has, named) {
		r.t.Fatalf("the binary has the failpoints\n%v\nthe table names\n%v", has, named)
	}
}

// lingerEvery is how often leases get time to end by themselves.
const lingerEvery = 24

// leaseShort is the life of leases that may end by themselves, in seconds.
const leaseShort = 4

// use examines a process and lets clients work until end returns; then the process is killed.
func (r *killRun) use(s *run.Server, end func(context.Context) error) error {
	return r.connected(s, func(ctx context.Context, conn *grpc.ClientConn) error {
		working, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { // ends with working, or with the process
			defer close(done)
			work := load{journal: r.judge.journal, conn: conn, clients: 6, perEach: 1 << 30, ttls: []int64{leaseShort, 600}}
			work.run(working, r.rng.Uint64())
		}()
		err := end(ctx)
		s.Kill()
		stop()
		<-done
		for _, o := range r.judge.ops {
			if o.answered {
				r.answered++
			} else {
				r.open++
			}
		}
		return errors.Join(err, r.judge.breached())
	})
}

// connected connects to a process, resumes the watch, examines the process and calls f.
func (r *killRun) connected(s *run.Server, f func(context.Context, *grpc.ClientConn) error) error {
	conn, err := grpc.NewClient(s.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	following := make(chan struct{})
	go func() {
		defer close(following)
		follow(ctx, r.judge.journal, conn)
	}()
	defer func() {
		cancel()
		<-following
	}()
	examining, enough := context.WithTimeout(ctx, answerTimeout)
	defer enough()
	if err := r.judge.examine(examining, conn); err != nil {
		return err
	}
	return f(ctx, conn)
}

// examine starts the shipped binary once more and only looks.
func (r *killRun) examine() error {
	s, err := r.start(context.Background(), r.plain)
	if err != nil {
		return err
	}
	defer s.Kill()
	return r.connected(s, func(context.Context, *grpc.ClientConn) error { return s.Stop() })
}
