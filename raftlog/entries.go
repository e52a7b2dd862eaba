package raftlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"go.etcd.io/raft/v3/raftpb"
)

// entriesWindowBytes is how much is read at a time for a follower that catches up.
const entriesWindowBytes = 256 << 10

// Entries reads the entries lo to hi-1 back from disk: as many as fit into maxBytes of encoded entries, but at least one.
// What is above the last index is left out. It may be called beside Append and does not wait for its disk writes; entries
// that are overwritten meanwhile may be returned as they were. Released entries are ErrReleased.
func (l *Log) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	var entries []*raftpb.Entry
	for size := uint64(0); lo < hi; {
		if err := l.failed(); err != nil {
			return nil, err
		}
		part, bytes, full, err := l.entriesOfRun(lo, hi, maxBytes-size, len(entries) == 0)
		if err != nil {
			return nil, err
		}
		entries = append(entries, part...)
		if full || len(part) == 0 {
			break
		}
		size += bytes
		lo += uint64(len(part))
	}
	return entries, nil
}

// entriesOfRun reads from the run that holds lo, up to its end. full reports that no more may be added. With atLeastOne
// the first entry counts as fitting.
func (l *Log) entriesOfRun(lo, hi, room uint64, atLeastOne bool) (entries []*raftpb.Entry, size uint64, full bool, err error) {
	l.mu.Lock()
	seg, from, last, ok := l.index.find(lo)
	end := l.hist.last
	l.mu.Unlock()
	if lo > end {
		return nil, 0, true, nil
	}
	if !ok {
		return nil, 0, false, fmt.Errorf("raft log entry %d: %w", lo, ErrReleased)
	}
	path := l.cfg.path(seg.String())
	r, err := openReader(l.cfg.FS, path, from.off, from.crc, entriesWindowBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, false, fmt.Errorf("raft log entry %d: %w", lo, ErrReleased) // released since
	}
	if err != nil {
		return nil, 0, false, err
	}
	entries, size, full, err = readRun(r, lo, min(hi, last+1), room, atLeastOne)
	if cerr := r.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close %s: %w", path, cerr)
	}
	return entries, size, full, err
}

func readRun(r *recordReader, lo, hi, room uint64, atLeastOne bool) (entries []*raftpb.Entry, size uint64, full bool, err error) {
	for next := lo; next < hi; {
		off := r.off
		f, err := r.next()
		if err == io.EOF || errors.Is(err, errBadRecord) {
			return nil, 0, false, damage(r.path, off, fmt.Sprintf("entry %d was written here and cannot be read back: %v", next, err))
		}
		if err != nil {
			return nil, 0, false, err
		}
		if f.typ != TypeEntry {
			continue
		}
		e, err := parseEntry(f.data)
		if err != nil || e.index > next {
			return nil, 0, false, damage(r.path, off, fmt.Sprintf("entry %d was written here, found entry %d (%v)", next, e.index, err))
		}
		if e.index < next {
			continue
		}
		bytes := uint64(len(f.data))
		if size+bytes > room && !(atLeastOne && len(entries) == 0) {
			return entries, size, true, nil
		}
		m, err := message(f.data)
		if err != nil {
			return nil, 0, false, fmt.Errorf("decode entry %d: %w", next, err)
		}
		entries = append(entries, m)
		size = min(size+bytes, room)
		next++
	}
	return entries, size, size >= room, nil
}
