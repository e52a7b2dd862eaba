package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/raftlog"
	"holdfast/util/durable"
)

// The store in force is in the directory that the marker member/STORE names, in member/store where there is no marker. A
// state received from another member is put together beside it under storeUnfinished, renamed to that of storeReceived once
// it is whole and durable, recorded in the raft log, and put in force by the marker. DESIGN.md has the crash cases.
const (
	storeMarker     = "STORE"
	storeFirst      = "store"
	storeUnfinished = ".part"
)

// storeReceived names the state received at an index of the raft log.
func storeReceived(index uint64) string { return fmt.Sprintf("%s-%016x", storeFirst, index) }

// storeIndex is the index of a state received whole.
func storeIndex(name string) (index uint64, ok bool) {
	_, err := fmt.Sscanf(name, storeFirst+"-%x", &index)
	return index, err == nil && name == storeReceived(index)
}

// hasStore tells whether a store was ever made here.
func (d *dataDir) hasStore() bool { return d.has(d.path(storeFirst)) || d.has(d.path(storeMarker)) }

// storeInForce names the directory of the store in force.
func (d *dataDir) storeInForce() (string, error) {
	f, err := d.fs.Open(d.path(storeMarker))
	if errors.Is(err, fs.ErrNotExist) {
		return storeFirst, nil
	}
	if err != nil {
		return "", fmt.Errorf("read which store is in force: %w", err)
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read which store is in force: %w", err)
	}
	name := strings.TrimSpace(string(text))
	if _, ok := storeIndex(name); !ok {
		return "", fmt.Errorf("%s says that the store is in %q: no such name is ever written there; restore the member from a snapshot, or remove it from the cluster and add it again", d.path(storeMarker), name)
	}
	return name, nil
}

// putInForce makes the store of that name the one in force, durably.
func (d *dataDir) putInForce(name string) error {
	if err := d.writeFile(storeMarker, name+"\n", func() {}, func() {}); err != nil {
		return fmt.Errorf("put %s in force: %w", name, err)
	}
	return nil
}

// settleStore says where the store is. It completes what a crash interrupted: a received state that the raft log has
// recorded goes into force, and what else lies about is removed.
func (d *dataDir) settleStore(log *slog.Logger) (dir string, err error) {
	chosen, present, others, err := d.chooseStore()
	if err != nil {
		return "", err
	}
	if chosen != present {
		log.Info("completing a received state that the raft log has recorded", "dir", d.path(chosen))
		if err := d.putInForce(chosen); err != nil {
			return "", err
		}
	}
	for _, name := range others {
		log.Info("removing a store that is not in force", "dir", d.path(name))
		if err := d.fs.RemoveAll(d.path(name)); err != nil {
			return "", fmt.Errorf("remove a store that is not in force: %w", err)
		}
	}
	return d.path(chosen), nil
}

// chooseStore says which store counts, which one the marker names, and which others there are: a received state counts from the
// moment at which the raft log has recorded it. It changes nothing.
func (d *dataDir) chooseStore() (chosen, present string, others []string, err error) {
	if present, err = d.storeInForce(); err != nil {
		return "", "", nil, err
	}
	if present != storeFirst && !d.has(d.path(present)) {
		return "", "", nil, fmt.Errorf("the store that is in force, %s, is missing: restore the member from a snapshot, or remove it from the cluster and add it again", d.path(present))
	}
	if others, err = d.otherStores(present); err != nil || len(others) == 0 {
		return present, present, nil, err
	}
	recorded, err := d.recordedState()
	if err != nil {
		return "", "", nil, err
	}
	at, _ := storeIndex(present)
	for i, name := range others {
		if index, whole := storeIndex(name); whole && index == recorded && index > at {
			others[i] = present
			return name, present, others, nil
		}
	}
	return present, present, others, nil
}

// otherStores are the directories of stores but for the one in force.
func (d *dataDir) otherStores(present string) ([]string, error) {
	names, err := d.fs.List(d.path())
	if err != nil {
		return nil, fmt.Errorf("look for stores: %w", err)
	}
	var others []string
	for _, name := range names {
		if name != present && (name == storeFirst || strings.HasPrefix(name, storeFirst+"-")) {
			others = append(others, name)
		}
	}
	return others, nil
}

// recordedState is the index of the newest snapshot record in the raft log that counts; 0 for none.
func (d *dataDir) recordedState() (uint64, error) {
	found, err := raftlog.Exists(d.fs, d.wal)
	if err != nil || !found {
		return 0, err
	}
	sum, err := raftlog.Verify(d.fs, d.wal)
	if err != nil {
		return 0, fmt.Errorf("look for the record of a received state: %w", err)
	}
	if n := len(sum.Snapshots); n > 0 {
		return sum.Snapshots[n-1].Index, nil
	}
	return 0, nil
}

// writeFile makes a file in the member's directory appear whole: written under another name, synced, renamed. before and
// after are called around the renaming.
func (d *dataDir) writeFile(name, text string, before, after func()) error {
	fresh := d.path(name + ".tmp")
	err := writeSynced(d.fs, fresh, []byte(text))
	if err == nil {
		before()
		err = d.fs.Rename(fresh, d.path(name))
		after()
	}
	if err != nil {
		return err
	}
	return durable.Names(d.fs, d.path())
}

// writeSynced makes a file; its name is not durable yet.
func writeSynced(disk vfs.FS, path string, content []byte) error {
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
