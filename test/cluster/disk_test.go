package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// diskMB is the size of a member's disk: both programs reserve 64 MB twice for their logs.
const diskMB = 320

// disk is a small file system of its own for one member, which can be frozen and filled.
type disk struct {
	dir string // where it is mounted
}

// disks are used one round after the other; making one takes a tenth of a second.
var disks struct {
	mu   sync.Mutex // guards the fields below
	root string
	free []*disk
	all  []*disk
}

// disksPrefix begins the name of the folder that holds all disks; the id of the process that made them follows.
const disksPrefix = "holdfast-cluster-disks-"

// takeDisk gives an empty disk until the test ends.
func takeDisk(t testing.TB) *disk {
	t.Helper()
	disks.mu.Lock()
	defer disks.mu.Unlock()
	var d *disk
	if n := len(disks.free); n > 0 {
		d, disks.free = disks.free[n-1], disks.free[:n-1]
	} else {
		var err error
		if d, err = newDisk(len(disks.all)); err != nil {
			t.Fatal(err)
		}
		disks.all = append(disks.all, d)
	}
	t.Cleanup(func() {
		if err := d.wipe(); err != nil {
			t.Error(err)
		}
		disks.mu.Lock()
		defer disks.mu.Unlock()
		disks.free = append(disks.free, d)
	})
	return d
}

// newDisk makes and mounts a disk.
func newDisk(number int) (*disk, error) {
	if disks.root == "" {
		disks.root = filepath.Join(os.TempDir(), fmt.Sprintf("%s%d", disksPrefix, os.Getpid()))
	}
	image := filepath.Join(disks.root, fmt.Sprintf("%d.image", number))
	d := &disk{dir: filepath.Join(disks.root, fmt.Sprint(number))}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(image, diskMB<<20); err != nil {
		return nil, err
	}
	for _, argv := range [][]string{{"mkfs.ext4", "-q", "-F", "-O", "^has_journal", image}, {"mount", "-o", "loop", image, d.dir}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make a disk: %s: %w: %s", argv[0], err, out)
		}
	}
	return d, nil
}

// removeDisks removes all disks of this process, and those that killed processes left.
func removeDisks() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	roots, err := filepath.Glob(filepath.Join(os.TempDir(), disksPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		owner := strings.TrimPrefix(filepath.Base(root), disksPrefix)
		if owner != fmt.Sprint(os.Getpid()) && exists("/proc/"+owner) {
			continue
		}
		for line := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(line); len(fields) > 1 && filepath.Dir(fields[1]) == root {
				errs = append(errs, syscall.Unmount(fields[1], syscall.MNT_DETACH))
			}
		}
		errs = append(errs, os.RemoveAll(root))
	}
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// data is the data directory on the disk.
func (d *disk) data() string { return filepath.Join(d.dir, "data") }

// wipe empties the disk.
func (d *disk) wipe() error { return errors.Join(os.RemoveAll(d.data()), os.RemoveAll(d.ballast())) }

// freeze keeps everything that writes to the disk waiting for that long, and returns when it goes on. A process of its own does
// it, so that no disk stays frozen when the test is killed.
func (d *disk) freeze(long time.Duration) error {
	script := fmt.Sprintf(`fsfreeze -f "$0"; sleep %f; fsfreeze -u "$0"`, long.Seconds())
	cmd := exec.Command("sh", "-euc", script, d.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("freeze the disk %s: %w: %s", d.dir, err, out)
	}
	return nil
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill takes all space that is left.
func (d *disk) fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return err
	}
	defer f.Close()
	for size := int64(diskMB << 20); size >= 4<<10; size /= 2 {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if err := syscall.Fallocate(int(f.Fd()), 0, info.Size(), size); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("fill the disk %s: %w", d.dir, err)
		}
	}
	return nil
}

// empty gives back what fill took.
func (d *disk) empty() error { return os.Remove(d.ballast()) }
