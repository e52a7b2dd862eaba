package sim

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/lease"
	"holdfast/mvcc"
	"holdfast/raftlog"
	"holdfast/storage"
)

// A bit that turns on the disk must be noticed, or make no difference to what is read. A member that notices does not start;
// its operator has a copy of the file, so it goes on with the good one.

// damage crashes a member, has check look at its disk while it is down, and says how that ended.
func (w *world) damage(check func(m *member, rng *rand.Rand) (noticed, ok bool)) {
	m := w.some()
	m.crash(loss(w.rnd.IntN(3)), w.between(time.Second, 4*time.Second))
	if m.life != nil {
		return
	}
	switch noticed, ok := check(m, rand.New(rand.NewPCG(w.rnd.Uint64(), 3))); {
	case !ok:
	case noticed:
		w.counts["bit flips detected"]++
	default:
		w.counts["bit flips without effect"]++
	}
}

// flipLog turns a bit of a raft log.
func (w *world) flipLog() {
	w.damage(func(m *member, rng *rand.Rand) (noticed, ok bool) {
		flipped := everything(m.disk.wal)
		name, offset, ok := flip(flipped, segments(flipped), rng)
		if !ok {
			return false, false
		}
		good, err := w.readLog(everything(m.disk.wal))
		if err != nil {
			w.fail("%s: the raft log cannot be opened after a crash: %v", m, err)
		}
		bad, err := w.readLog(flipped)
		switch {
		case errors.Is(err, raftlog.ErrDamaged):
			return true, true
		case err != nil:
			w.fail("%s: a bit of %s turned at %d shows as %v", m, name, offset, err)
		case !equalLogs(&good, &bad):
			w.fail("%s: a bit of %s turned at %d was not noticed: the log had %d entries to %d, state %+v, and has %d to %d, state %+v",
				m, name, offset, len(good.Entries), good.Last, good.State, len(bad.Entries), bad.Last, bad.State)
		}
		return false, true
	})
}

func (w *world) readLog(wal *vfs.MemFS) (raftlog.Recovered, error) {
	log, rec, err := raftlog.OpenAfter(raftlog.Config{FS: wal, Dir: walDir, Log: w.logger, SegmentBytes: segmentBytes}, 0)
	if err != nil {
		return rec, err
	}
	return rec, log.Close()
}

func equalLogs(a, b *raftlog.Recovered) bool {
	if len(a.Entries) != len(b.Entries) || a.State != b.State || a.Last != b.Last || !reflect.DeepEqual(a.Terms, b.Terms) {
		return false
	}
	for i := range a.Entries {
		if !bytes.Equal(a.Entries[i].GetData(), b.Entries[i].GetData()) {
			return false
		}
	}
	return true
}

// flipStore turns a bit of a table of the store.
func (w *world) flipStore() {
	w.damage(func(m *member, rng *rand.Rand) (noticed, ok bool) {
		flipped := everything(m.disk.store)
		name, offset, ok := flip(flipped, tables(flipped), rng)
		if !ok {
			return false, false
		}
		good, err := w.readStore(everything(m.disk.store))
		if err != nil {
			w.fail("%s: the store cannot be read after a crash: %v", m, err)
		}
		bad, err := w.readStore(flipped)
		if err == nil && bad != good {
			w.fail("%s: a bit of %s turned at %d was not noticed: the store held %s and holds %s", m, name, offset, good, bad)
		}
		return err != nil, true
	})
}

// readStore reads all of a store and sums it up.
func (w *world) readStore(mem *vfs.MemFS) (sum string, err error) {
	var fatal error
	st, err := storage.Open(storage.Config{
		FS: mem, Dir: inForce(mem), CacheBytes: 1 << 20, MemTableBytes: memTableBytes, ManualCompactions: true, Log: w.logger,
		OnFatal: func(err error) { fatal = err },
	})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, fatal, st.Close()) }()
	keys, err := mvcc.Open(st, mvcc.Config{})
	if err != nil {
		return "", err
	}
	leases, err := lease.Load(st, leaseTTLMin)
	if err != nil {
		return "", err
	}
	export, err := keys.Export()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, export.Close()) }()
	rows := fnv.New64a()
	for row, err := range export.Rows() {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(rows, "%v %v %x\n", row.Rev, row.Tombstone, row.Encoded)
	}
	return fmt.Sprintf("entry %d, revision %d, %d keys, rows %x, leases %v", st.Applied().Index, keys.Revision(), keys.Keys(), rows.Sum64(), leases.All()), nil
}
