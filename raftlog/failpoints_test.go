//go:build failpoints

package raftlog

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/gofail/runtime"
	"go.etcd.io/raft/v3/raftpb"
)

// Each failpoint is reached where its name says.
func TestFailpoints(t *testing.T) {
	l, err := Create(Config{FS: vfs.NewMem(), Dir: "wal", Log: quiet(), SegmentBytes: 1024}, Metadata{})
	must(err)
	index := uint64(0)
	put := func() error {
		index++
		return l.Append(Save{Entries: []*raftpb.Entry{normal(1, index, make([]byte, 1100))}, State: HardState{1, 0, index - 1}})
	}
	must(put())
	snap := SnapshotRecord{Index: 1, Term: 1, ConfState: &raftpb.ConfState{}}
	for _, name := range []string{"raftBeforeSave", "raftAfterSave", "walBeforeSync", "walAfterSync", "walBeforeRename", "walAfterRename"} {
		hit(t, name, func() { must(put()) })
		// The panic came in the middle of an append, as a crash would: what it left is for a new start.
		var rec Recovered
		l, rec, err = Open(l.cfg)
		must(err)
		index = rec.Last
	}
	for _, name := range []string{"raftBeforeSaveSnap", "raftAfterSaveSnap", "raftAfterWALRelease"} {
		snap.Index = index
		hit(t, name, func() { must1(l.Release(snap, snap.Index)) })
		must(put())
	}
}

func hit(t *testing.T, name string, do func()) {
	t.Helper()
	must(runtime.Enable(name, "panic"))
	defer func() {
		must(runtime.Disable(name))
		if p := recover(); p == nil {
			t.Errorf("%s was not reached", name)
		} else if s := fmt.Sprint(p); s != "failpoint panic: {}" {
			t.Errorf("%s: %s", name, s)
		}
	}()
	do()
}
