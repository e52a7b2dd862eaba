package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
)

// Goal: whatever a crash does to unsynced writes, the reopened log is one of the states between the last acknowledged
// durable one and the one being written. Method: random operations on a crashable file system; at a random disk operation
// the disk is cloned as a crash might leave it (blocks of 4 KiB, or sectors, each written or not); the clone is
// opened, compared with the model, and the run goes on with it. HOLDFAST_CRASHES sets how many crashes,
// HOLDFAST_SEED repeats a run.
func TestCrashes(t *testing.T) {
	crashes, seed := crashPlan(t, 200)
	r := newRunner(seed, Config{SegmentBytes: 6 << 10})
	for r.crashes < crashes {
		if err := r.life(); err != nil {
			t.Fatalf("seed %d, crash %d: %v\n%s", seed, r.crashes, err, r.history())
		}
	}
	t.Logf("seed %d: %d crashes, %d torn tails, %d operations, %d failed writes", seed, r.crashes, r.torn, r.ops, r.failures)
	if crashes >= 200 && (r.torn == 0 || r.failures == 0) {
		t.Errorf("the run met %d torn tails and %d failed writes: it tests nothing", r.torn, r.failures)
	}
}

// What crashes left once that was taken for damage: of many states that were not synced, and of the batch behind them, the sectors
// with the last states and the first entry are missing.
func TestCrashesFoundBefore(t *testing.T) {
	for seed, crashes := range map[uint64]int{1795281475956072193: 58, 1795281429303769000: 93} {
		r := newRunner(seed, Config{SegmentBytes: 6 << 10})
		for r.crashes < crashes {
			if err := r.life(); err != nil {
				t.Fatalf("seed %d, crash %d: %v\n%s", seed, r.crashes, err, r.history())
			}
		}
	}
}

// A crash at each disk operation of Create, and of the first appends, leaves no log or a whole one.
func TestCrashesDuringCreate(t *testing.T) {
	_, seed := crashPlan(t, 0)
	for i := range uint64(300) {
		r := newRunner(seed+i, Config{SegmentBytes: 6 << 10})
		r.crashAt = 1 + int(i)%12
		for range 2 {
			if err := r.life(); err != nil {
				t.Fatalf("seed %d, operation %d: %v\n%s", seed+i, r.crashAt, err, r.history())
			}
		}
	}
}

// What a log is created with is in it from the start: a crash at each disk operation leaves no log, or one with all of it.
func TestCrashesDuringCreateWithEntries(t *testing.T) {
	_, seed := crashPlan(t, 0)
	rng := rand.New(rand.NewPCG(seed, 0))
	first := Save{Entries: []*raftpb.Entry{normal(1, 1, []byte("a")), normal(1, 2, []byte("b"))}, State: HardState{1, 0, 2}}
	without, with := 0, 0
	for at, done := 1, false; !done; at++ {
		mem, ops := vfs.NewCrashableMem(), 0
		var left *vfs.MemFS
		crash := errorfs.InjectorFunc(func(errorfs.Op) error {
			if ops++; ops == at {
				left = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			}
			return nil
		})
		cfg := Config{FS: errorfs.Wrap(mem, crash), Dir: "wal", Log: quiet(), SegmentBytes: 6 << 10}
		must(must1(Create(cfg, Metadata{1, 2}, first)).Close())
		if done = left == nil; done {
			left = mem.CrashClone(vfs.CrashCloneCfg{})
		}
		if cfg.FS = left; !must1(Exists(left, cfg.Dir)) {
			without++
			continue
		}
		with++
		log, rec, err := OpenAfter(cfg, 0)
		if err != nil || rec.Last != 2 || len(rec.Entries) != 2 || rec.State != first.State {
			t.Fatalf("seed %d, operation %d: left %+v, %v", seed, at, rec, err)
		}
		must(log.Close())
	}
	if without == 0 || with == 0 {
		t.Errorf("seed %d: %d crashes left no log, %d left one: the test shows nothing", seed, without, with)
	}
}

// The checker must notice a log that does not sync.
func TestCrashesNoticeMissingSync(t *testing.T) {
	_, seed := crashPlan(t, 0)
	r := newRunner(seed, Config{SegmentBytes: 6 << 10, UnsafeNoSync: true})
	for r.crashes < 100 {
		if err := r.life(); err != nil {
			t.Logf("noticed at crash %d: %v", r.crashes, err)
			return
		}
	}
	t.Fatalf("seed %d: 100 crashes without a sync and nothing was missed", seed)
}

func crashPlan(t *testing.T, crashes int) (int, uint64) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOLDFAST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	if s := os.Getenv("HOLDFAST_CRASHES"); s != "" && crashes > 0 {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		crashes = n
	}
	return crashes, seed
}

type runner struct {
	rng *rand.Rand
	cfg Config
	mem *vfs.MemFS
	log *Log

	durable  world   // what must be there
	unsynced []world // what may be there: acknowledged, but only the commit index moved
	inflight []Save  // of the Append that is running

	crashAt int // which disk operation each life ends at; 0: a random one

	left  int        // disk operations until the crash
	fails bool       // the operation at the crash fails too
	clone *vfs.MemFS // the disk after the crash
	allow []world    // what the clone may hold

	crashes, torn, ops, failures int
	trace                        []string
}

func newRunner(seed uint64, cfg Config) *runner {
	r := &runner{rng: rand.New(rand.NewPCG(seed, 1)), cfg: cfg, mem: vfs.NewCrashableMem()}
	r.cfg.Dir, r.cfg.Log = "wal", quiet()
	return r
}

func (r *runner) note(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
	if len(r.trace) > 30 {
		r.trace = r.trace[1:]
	}
}

func (r *runner) history() string {
	s := ""
	for _, line := range r.trace {
		s += "  " + line + "\n"
	}
	return s
}

// MaybeError counts the writing operations of the disk and crashes at one of them.
func (r *runner) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
		return nil
	}
	r.left--
	if r.left != 0 {
		return nil
	}
	r.clone = r.crash()
	r.allow = append([]world{r.durable}, r.unsynced...)
	if n := len(r.allow); len(r.inflight) > 0 {
		r.allow = append(r.allow, r.allow[n-1].stages(r.inflight)...)
	}
	// The states before the last differ in the commit index only, and any of them may go with any stage.
	for _, w := range slices.Clone(r.allow) {
		for _, s := range append([]world{r.durable}, r.unsynced...) {
			v := w
			v.state = s.state
			r.allow = append(r.allow, v)
		}
	}
	r.note("crash before %v %s", op.Kind, op.Path)
	if r.fails {
		r.failures++
		return errorfs.ErrInjected
	}
	return nil
}

func (r *runner) String() string { return "crash" }

// crash returns the disk as a crash may leave it now: each unsynced block or sector is there or not, each unsynced
// creation or removal of a file happened or not. (vfs.CrashClone draws in the order of a map, which no seed repeats.)
func (r *runner) crash() *vfs.MemFS {
	after := r.mem.CrashClone(vfs.CrashCloneCfg{})
	rng := rand.New(rand.NewPCG(r.rng.Uint64(), 2))
	written := r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
	// The disk crashed on is not used again, so its directory may be synced to learn what its files hold for certain.
	if dir, err := r.mem.OpenDir(r.cfg.Dir); err == nil {
		must(dir.Sync())
		must(dir.Close())
	}
	synced := r.mem.CrashClone(vfs.CrashCloneCfg{})

	names, err := after.List(r.cfg.Dir)
	if err != nil {
		return after
	}
	current := must1(synced.List(r.cfg.Dir))
	all := append(slices.Clone(names), current...)
	slices.Sort(all)
	percent := rng.IntN(101)
	unit := []int{sectorBytes, 4096}[rng.IntN(2)]
	lucky := func() bool { return rng.IntN(100) < percent }
	for _, name := range slices.Compact(all) {
		path := r.cfg.Dir + "/" + name
		switch before, now := slices.Contains(names, name), slices.Contains(current, name); {
		case before && !now:
			if lucky() {
				must(after.Remove(path))
			}
		case before || lucky():
			base := must1(synced.UnsafeGetFileDataBuffer(path))
			mix(after, path, base, must1(written.UnsafeGetFileDataBuffer(path)), unit, lucky)
		}
	}
	dir := must1(after.OpenDir(r.cfg.Dir))
	must(dir.Sync())
	must(dir.Close())
	return after
}

// mix writes a file whose units are as synced or, where take says so, as written last.
func mix(fs vfs.FS, path string, synced, written []byte, unit int, take func() bool) {
	f := must1(fs.Create(path, writeCategory))
	data := slices.Clone(synced)
	for off := 0; off < len(written); off += unit {
		if take() {
			part := written[off:min(off+unit, len(written))]
			if grow := off + len(part) - len(data); grow > 0 {
				data = append(data, make([]byte, grow)...)
			}
			copy(data[off:], part)
		}
	}
	must1(f.Write(data))
	must(f.Sync())
	must(f.Close())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](v T, err error) T {
	must(err)
	return v
}

// life opens the log, works until the crash and checks what it left.
func (r *runner) life() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	r.left, r.fails, r.clone = 1+r.rng.IntN(40), r.rng.IntN(4) == 0, nil
	if r.crashAt > 0 {
		r.left = r.crashAt
	}
	r.cfg.FS = errorfs.Wrap(r.mem, r)
	if err := r.open(); err != nil && r.clone == nil {
		return err
	}
	for r.clone == nil {
		r.ops++
		err = r.step()
		if err != nil && r.clone != nil && r.fails {
			if again := r.log.Append(Save{State: r.durable.state}); !errors.Is(err, ErrFailed) || again == nil || again.Error() != err.Error() {
				return fmt.Errorf("after a failed disk operation: %w, then %v", err, again)
			}
		} else if err != nil {
			return err
		}
	}
	if r.log != nil {
		if err := r.log.Close(); err != nil && !r.fails {
			return fmt.Errorf("close: %w", err)
		}
		r.log = nil
	}
	r.crashes++
	r.mem = r.clone
	return r.check()
}

func (r *runner) open() error { return r.openAs(r.durable) }

// openAs opens the log, or makes it, and expects to find want.
func (r *runner) openAs(want world) error {
	found, err := Exists(r.cfg.FS, r.cfg.Dir)
	if err != nil {
		return err
	}
	if !found {
		if r.durable.last() > 0 || r.durable.state != (HardState{}) {
			return errors.New("the log is gone")
		}
		r.log, err = Create(r.cfg, Metadata{1, 2})
		return err
	}
	var rec Recovered
	r.log, rec, err = OpenAfter(r.cfg, 0)
	if err != nil {
		return err
	}
	if diff := want.differs(rec); diff != "" {
		return fmt.Errorf("reopened: %s", diff)
	}
	return nil
}

// check opens what the crash left, without further faults, and takes over what it finds.
func (r *runner) check() error {
	cfg := r.cfg
	cfg.FS = r.mem
	found, err := Exists(cfg.FS, cfg.Dir)
	if err != nil || !found {
		if r.durable.last() == 0 && r.durable.state == (HardState{}) {
			return err
		}
		return fmt.Errorf("after the crash: found %v, %w", found, err)
	}
	sum, err := Verify(cfg.FS, cfg.Dir)
	if err != nil {
		return fmt.Errorf("verify after the crash: %w", err)
	}
	log, rec, err := OpenAfter(cfg, 0)
	if err != nil {
		return fmt.Errorf("open after the crash: %w", err)
	}
	if sum.Last != rec.Last || sum.TornBytes != rec.TornBytes {
		return fmt.Errorf("Verify says %+v, Open %+v", sum, rec)
	}
	if rec.TornBytes > 0 {
		r.torn++
	}
	if err := log.Close(); err != nil {
		return err
	}
	var diffs []string
	for _, w := range r.allow {
		diff := w.differs(rec)
		if diff == "" {
			r.note("recovered state %+v, entries %d to %d", rec.State, rec.First, rec.Last)
			r.durable, r.unsynced, r.inflight = w, nil, nil
			return nil
		}
		diffs = append(diffs, diff)
	}
	slices.Sort(diffs)
	return fmt.Errorf("recovered state %+v, entries %d to %d: %q", rec.State, rec.First, rec.Last, slices.Compact(diffs))
}

// now is the world as acknowledged.
func (r *runner) now() world {
	if n := len(r.unsynced); n > 0 {
		return r.unsynced[n-1]
	}
	return r.durable
}
