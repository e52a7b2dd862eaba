package sim

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

const walDir = "wal"

// disk is what one member writes to: one file system in memory for the raft log and one for the store, so that Pebble, which
// removes old files whenever its own goroutines find the time, has no influence on the log.
type disk struct {
	wal, store     *vfs.MemFS
	walFS, storeFS vfs.FS // the same, with what can go wrong

	mu      sync.Mutex // guards the fields below: Pebble has goroutines
	full    bool
	left    int    // operations until the power fails; 0: it does not
	ofLog   bool   // only syncs of the raft log count
	failing func() // called at that operation, before it happens
}

func newDisk(wal, store *vfs.MemFS) *disk {
	d := &disk{wal: wal, store: store}
	d.walFS = errorfs.Wrap(wal, errorfs.InjectorFunc(func(op errorfs.Op) error { return d.operation(op, true) }))
	d.storeFS = errorfs.Wrap(store, errorfs.InjectorFunc(func(op errorfs.Op) error { return d.operation(op, false) }))
	return d
}

// operation sees every operation before it happens. log tells that it is one of the raft log.
func (d *disk) operation(op errorfs.Op, log bool) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose || op.Kind == errorfs.OpRemove || op.Kind == errorfs.OpRemoveAll {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left > 0 && (!d.ofLog || log && isSync(op.Kind)) {
		if d.left--; d.left == 0 {
			d.failing()
		}
	}
	if d.full && needsSpace(op, log) {
		if !log {
			d.left = 0 // Pebble repeats what was refused, as often as it finds the time: that must not decide when the power fails
		}
		return syscall.ENOSPC
	}
	return nil
}

// needsSpace tells whether an operation fails on a full disk. What lies within a segment of the raft log has its place already.
func needsSpace(op errorfs.Op, log bool) bool {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFilePreallocate, errorfs.OpMkdirAll, errorfs.OpLink:
		return true
	case errorfs.OpFileWriteAt:
		return !log || op.Offset >= segmentBytes-1 // the last byte is written to give a new segment its size
	}
	return false
}

func isSync(k errorfs.OpKind) bool {
	return k == errorfs.OpFileSync || k == errorfs.OpFileSyncData || k == errorfs.OpFileSyncTo
}

// failAfter lets the power fail at the nth operation from now; at the nth sync of the raft log if ofLog is set.
func (d *disk) failAfter(n int, ofLog bool, failing func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.ofLog, d.failing = n, ofLog, failing
}

func (d *disk) setFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// loss says what a crash takes.
type loss int

const (
	loseNothing  loss = iota // the process died, the machine did not
	loseUnsynced             // everything that was not synced
	loseSome                 // of the log, some sectors that were not synced; of the store everything
)

// image is the disk as the next start finds it.
func (d *disk) image(what loss, rng *rand.Rand) *disk {
	if what == loseNothing {
		return newDisk(everything(d.wal), everything(d.store))
	}
	wal := d.wal.CrashClone(vfs.CrashCloneCfg{})
	if what == loseSome {
		tear(wal, everything(d.wal), rng)
		wal = everything(wal)
	}
	return newDisk(wal, d.store.CrashClone(vfs.CrashCloneCfg{}))
}

// everything copies a file system; what was not synced counts as synced in the copy.
func everything(mem *vfs.MemFS) *vfs.MemFS {
	return mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// sector is what a disk writes whole.
const sector = 512

// tear gives the files of the raft log some of the sectors that were written last.
func tear(synced, written *vfs.MemFS, rng *rand.Rand) {
	percent := rng.IntN(101)
	for _, name := range segments(synced) {
		old, err := synced.UnsafeGetFileDataBuffer(name)
		if err != nil {
			panic(err)
		}
		latest, err := written.UnsafeGetFileDataBuffer(name)
		if err != nil {
			continue // removed, and that was not synced
		}
		for off := 0; off < min(len(old), len(latest)); off += sector {
			if rng.IntN(100) < percent {
				end := min(off+sector, len(old), len(latest))
				copy(old[off:end], latest[off:end])
			}
		}
	}
}

// segments are the paths of the files of the raft log, in order.
func segments(mem *vfs.MemFS) []string {
	names, err := mem.List(walDir)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	var paths []string
	for _, name := range names {
		if strings.HasSuffix(name, ".wal") {
			paths = append(paths, mem.PathJoin(walDir, name))
		}
	}
	return paths
}

// tables are the paths of the store's tables, in order.
func tables(mem *vfs.MemFS) []string {
	dir := inForce(mem)
	names, err := mem.List(dir)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	var paths []string
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			paths = append(paths, mem.PathJoin(dir, name))
		}
	}
	return paths
}

// flip turns one bit of one of the files, where something is written, and says where.
func flip(mem *vfs.MemFS, names []string, rng *rand.Rand) (name string, offset int, ok bool) {
	if len(names) == 0 {
		return "", 0, false
	}
	name = names[rng.IntN(len(names))]
	data, err := mem.UnsafeGetFileDataBuffer(name)
	if err != nil {
		panic(err)
	}
	for range min(200, len(data)) {
		offset = rng.IntN(len(data))
		near := data[max(0, offset-8):min(len(data), offset+8)]
		if slices.ContainsFunc(near, func(b byte) bool { return b != 0 }) {
			data[offset] ^= 1 << rng.IntN(8)
			return name, offset, true
		}
	}
	return "", 0, false
}
