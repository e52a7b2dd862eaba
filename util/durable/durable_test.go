package durable

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestNames: a file made before the call is there after a crash, one made after it is not; whatever fails is told.
func TestNames(t *testing.T) {
	disk := vfs.NewCrashableMem()
	create := func(name string) {
		f, err := disk.Create(name, vfs.WriteCategoryUnspecified)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	create("before")
	if err := Names(disk, ""); err != nil {
		t.Fatal(err)
	}
	create("after")
	left, err := disk.CrashClone(vfs.CrashCloneCfg{}).List("")
	if err != nil || len(left) != 1 || left[0] != "before" {
		t.Errorf("after a crash there are %q (%v)", left, err)
	}
	if err := Names(disk, "nowhere"); err == nil {
		t.Error("a directory that is not there was synced")
	}
	broken := errors.New("broken disk")
	sick := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync {
			return broken
		}
		return nil
	}))
	if err := Names(sick, ""); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "sync directory") {
		t.Errorf("a failed sync: %v", err)
	}
}
