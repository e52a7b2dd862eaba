package crash

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// disk is a file system in memory on which the power fails at a chosen operation. What the member does afterwards goes to
// a disk that nobody looks at again; image is what the next start finds.
type disk struct {
	mem *vfs.MemFS
	fs  vfs.FS // counts operations

	mu      sync.Mutex // guards the fields below; held while the image is taken, so that nothing is written meanwhile
	rng     *rand.Rand
	left    int    // writing operations until the power fails
	failing func() // called once, at that moment, before the image is taken
	image   *vfs.MemFS
	failed  chan struct{} // closed when image is there
	at      string        // the operation
}

func newDisk(mem *vfs.MemFS, rng *rand.Rand, operations int, failing func()) *disk {
	d := &disk{mem: mem, rng: rng, left: operations, failing: failing, failed: make(chan struct{})}
	d.fs = errorfs.Wrap(mem, d)
	return d
}

// MaybeError implements errorfs.Injector: it sees every operation before it happens and fails none.
func (d *disk) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left--; d.left == 0 {
		d.at = operationName(op.Kind) + " " + op.Path
		d.fail()
	}
	return nil
}

// String implements errorfs.Injector.
func (d *disk) String() string { return "crash" }

// failNow lets the power fail unless it has.
func (d *disk) failNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.image == nil {
		d.left, d.at = 0, "at rest"
		d.fail()
	}
}

// fail takes the image: of each block and each entry of a directory that is not synced it holds the old or the new content.
// In the last segment of the raft log this is decided sector by sector, for a block can be torn too.
func (d *disk) fail() {
	d.failing()
	percent := d.rng.IntN(101)
	if d.rng.IntN(4) == 0 {
		percent = 0 // everything that was not synced is lost
	}
	d.image = d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: d.rng})
	if percent > 0 && d.rng.IntN(2) == 0 {
		d.tear(d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: d.rng}), percent)
	}
	close(d.failed)
}

// sector is what a disk writes whole.
const sector = 512

// tear gives the image some more sectors of the last segment as it was written last.
func (d *disk) tear(written *vfs.MemFS, percent int) {
	name := lastSegment(d.image)
	if name == "" {
		return
	}
	latest, err := written.UnsafeGetFileDataBuffer(name)
	if err != nil {
		return // the segment has no name yet on the disk that was written last
	}
	old, err := d.image.UnsafeGetFileDataBuffer(name)
	if err != nil {
		panic(err) // it was listed a moment ago
	}
	torn := slices.Clone(old)
	for off := 0; off < min(len(torn), len(latest)); off += sector {
		if d.rng.IntN(100) < percent {
			end := min(off+sector, len(torn), len(latest))
			copy(torn[off:end], latest[off:end])
		}
	}
	copy(old, torn)
}

// lastSegment is the path of the newest segment of the raft log; empty if there is none.
func lastSegment(mem *vfs.MemFS) string {
	names, err := mem.List(walDir)
	if err != nil {
		return ""
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		if strings.HasSuffix(name, ".wal") {
			return mem.PathJoin(walDir, name)
		}
	}
	return ""
}

func operationName(k errorfs.OpKind) string {
	switch k {
	case errorfs.OpFileWrite, errorfs.OpFileWriteAt:
		return "write"
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return "sync"
	case errorfs.OpCreate, errorfs.OpReuseForWrite:
		return "create"
	case errorfs.OpRename:
		return "rename"
	case errorfs.OpRemove, errorfs.OpRemoveAll:
		return "remove"
	}
	return "other"
}
