package crash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/api"
	"holdfast/membership"
	"holdfast/node"
	"holdfast/server"
)

// Goal: whatever a power failure does to what was not synced, no acknowledged operation is lost and none is half there.
// Method: a member in this process, with all its parts, on a file system in memory; four clients and a watcher; at a random
// operation of the disk (often during the start, which is when a crash before is repaired) an image is taken as a power
// failure may leave it, and the next member starts on the image. Segments are small and flushes, releases and compactions
// frequent, so that crashes meet them.
func TestMemberForgetsNothingItAcknowledged(t *testing.T) {
	crashes, seed := number(t, "HOLDFAST_CRASHES", 60), uint64(number(t, "HOLDFAST_SEED", int(time.Now().UnixNano())))
	r := newMemoryRun(seed, nil)
	began := time.Now()
	for n := range crashes {
		if err := r.round(); err != nil {
			t.Fatalf("seed %d, crash %d, %s: %v\n%s", seed, n, r.disk.at, err, r.log.recent())
		}
	}
	t.Logf("seed %d: %d crashes in %.1f s, %d operations answered, %d open, %d in force; %v",
		seed, crashes, time.Since(began).Seconds(), r.answered, r.open, r.judge.truth.last, r.log.counted())
	if crashes < 250 {
		return
	}
	for _, met := range []string{"created a new raft log segment", "released a raft log segment", "cut the torn tail", "store flush", "finished scheduled compaction"} {
		if r.log.count(met) == 0 {
			t.Errorf("the run met no %q: it tests too little", met)
		}
	}
}

// Goal: the judge notices a member that does not sync: a test of the test. Method: the same, without syncs, until the
// judge finds something. A member that finds out by itself and does not start is replaced, for it leaves nothing to judge;
// large segments and rare flushes leave it little to find out by.
func TestMemberThatDoesNotSyncIsCaught(t *testing.T) {
	seed := uint64(number(t, "HOLDFAST_SEED", int(time.Now().UnixNano())))
	r := newMemoryRun(seed, func(c *server.Config) {
		c.UnsafeNoSync, c.SegmentBytes, c.Memory.FlushBytes = true, 1<<20, 1<<30
	})
	refusals := 0
	for n := range 200 {
		err := r.round()
		var refused *startError
		switch {
		case errors.As(err, &refused):
			refusals++
			r.renew()
		case err != nil:
			t.Logf("noticed at crash %d, after %d that kept the member from starting: %v", n, refusals, err)
			return
		}
	}
	t.Fatalf("seed %d: 200 crashes without a sync, and the judge missed nothing", seed)
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

const (
	dataDir = "data"
	walDir  = "data/member/wal"
	// livesMax is after how many crashes a member starts anew with an empty directory, so that the founding is crashed too.
	livesMax = 40
)

// memoryRun is one member after the other on the images that crashes leave.
type memoryRun struct {
	rng    *rand.Rand
	adjust func(*server.Config) // nil for none
	log    *tally

	judge *judge
	image *vfs.MemFS
	lives int
	disk  *disk

	answered, open int
}

func newMemoryRun(seed uint64, adjust func(*server.Config)) *memoryRun {
	r := &memoryRun{rng: rand.New(rand.NewPCG(seed, 1)), adjust: adjust, log: newTally()}
	r.renew()
	return r
}

// renew goes on with an empty disk.
func (r *memoryRun) renew() {
	r.judge, r.image, r.lives = newJudge(), vfs.NewCrashableMem(), 1+r.rng.IntN(livesMax)
}

// startError says that a member did not start.
type startError struct{ error }

func (e *startError) Unwrap() error { return e.error }

// answerTimeout is far more than any of the members needs to answer.
const answerTimeout = 60 * time.Second

// round starts a member, examines it, lets clients work until the power fails, and leaves the image for the next.
func (r *memoryRun) round() (err error) {
	if r.lives--; r.lives < 0 {
		r.renew()
	}
	operations := 1 + r.rng.IntN(400)
	if r.rng.IntN(4) == 0 {
		operations = 1 + r.rng.IntN(60) // within the start
	}
	r.disk = newDisk(r.image, rand.New(rand.NewPCG(r.rng.Uint64(), 2)), operations, r.judge.freeze)
	r.judge.thaw()
	defer func() {
		r.disk.failNow()
		r.image = r.disk.image
	}()
	m, err := startMember(r.config(), r.disk.fs)
	if err != nil {
		return &startError{err}
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	return r.use(m)
}

// use examines a member and lets clients work.
func (r *memoryRun) use(m *inProcess) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-m.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	following := make(chan struct{})
	go func() {
		defer close(following)
		follow(ctx, r.judge.journal, m.conn)
	}()
	defer func() {
		cancel()
		<-following
	}()
	if err := r.judge.examine(ctx, m.conn); err != nil {
		return err
	}
	work := load{journal: r.judge.journal, conn: m.conn, clients: 4, perEach: 60, ttls: []int64{600, 3600}}
	working, stop := context.WithCancel(ctx)
	defer stop()
	failed := r.disk.failed
	go func() { // ends with working
		select {
		case <-failed:
			stop()
		case <-working.Done():
		}
	}()
	work.run(working, r.rng.Uint64())
	r.count()
	if ctx.Err() != nil && !closed(m.ended) {
		return fmt.Errorf("no answer within %s\n%s", answerTimeout, goroutines())
	}
	return r.judge.breached()
}

func (r *memoryRun) count() {
	for _, o := range r.judge.ops {
		if o.answered {
			r.answered++
		} else {
			r.open++
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func goroutines() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

func (r *memoryRun) config() server.Config {
	urls := []string{"http://localhost:2380"}
	cfg := server.Config{
		DataDir: dataDir, Name: "m", ClientURLs: []string{"http://localhost:2379"},
		Founders:  []membership.Member{{ID: membership.MemberID(urls, "crash", 0), Name: "m", PeerURLs: urls}},
		Heartbeat: 10 * time.Millisecond, ElectionTicks: 10, PreVote: true,
		SnapshotEvery: 40, CatchUpEntries: 10, SegmentBytes: 24 << 10,
		RequestBytesMax: 1 << 20, LearnersMax: 1, CompactionRows: 16, CompactionPause: time.Millisecond,
		Memory: server.Memory{FlushBytes: 16 << 10}, UpkeepInterval: 2 * time.Millisecond, Log: slog.New(r.log),
	}
	if r.adjust != nil {
		r.adjust(&cfg)
	}
	return cfg
}

// inProcess is a running member with a connection to it.
type inProcess struct {
	conn  *grpc.ClientConn
	node  *node.Node
	end   context.CancelFunc
	ended chan struct{}
	err   error // set before ended is closed
}

func startMember(cfg server.Config, disk vfs.FS) (*inProcess, error) {
	cfg.FS = disk
	n, err := node.Open(context.Background(), node.Config{
		Server: cfg, Log: cfg.Log,
		API: api.Config{RequestBytesMax: cfg.RequestBytesMax, TxnOpsMax: 128, ElectionTimeout: time.Second, WatchProgress: time.Hour, Log: cfg.Log},
	})
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///member",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return n.Dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &inProcess{conn: conn, node: n, end: cancel, ended: make(chan struct{})}
	go func() { // ends with stop
		defer close(m.ended)
		m.err = n.Run(ctx)
	}()
	select {
	case <-n.Member().Ready():
		return m, nil
	case <-m.ended:
		return nil, errors.Join(m.err, m.stop())
	case <-time.After(answerTimeout):
		return nil, errors.Join(fmt.Errorf("not ready within %s", answerTimeout), m.stop())
	}
}

// stop ends a member whose disk nobody looks at any more.
func (m *inProcess) stop() error {
	m.end()
	closed := m.conn.Close()
	<-m.ended
	return errors.Join(m.err, closed, m.node.Close())
}

// tally counts log lines by their text and keeps the last ones.
type tally struct {
	mu     sync.Mutex // guards the fields below
	counts map[string]int
	last   []string
}

func newTally() *tally { return &tally{counts: map[string]int{}} }

// tallyKept is how many lines a failed test shows.
const tallyKept = 40

// Enabled implements slog.Handler.
func (t *tally) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (t *tally) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[r.Message]++
	t.last = append(t.last, line)
	if len(t.last) > tallyKept {
		t.last = t.last[1:]
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (t *tally) WithAttrs([]slog.Attr) slog.Handler { return t }

// WithGroup implements slog.Handler.
func (t *tally) WithGroup(string) slog.Handler { return t }

func (t *tally) recent() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.last, "\n")
}

// count is how many lines began with text.
func (t *tally) count(text string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for line, times := range t.counts {
		if strings.HasPrefix(line, text) {
			n += times
		}
	}
	return n
}

// counted sums up what the member did.
func (t *tally) counted() string {
	var parts []string
	for _, what := range []string{"store flush", "store compaction", "created a new raft log segment", "released a raft log segment", "cut the torn tail", "finished scheduled compaction"} {
		parts = append(parts, fmt.Sprintf("%s: %d", what, t.count(what)))
	}
	return strings.Join(parts, ", ")
}
