package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// scanWindowBytes is how much of a segment is read at a time: enough for a disk's full rate, small beside a segment.
const scanWindowBytes = 1 << 20

// scan reads a whole log, oldest segment first, and leaves what it learned in its fields.
type scan struct {
	fs   vfs.FS
	dir  string
	segs []segment

	hist history
	meta []byte // metadata record, the same in every segment
	crc  uint32 // rolling sum at the end
	end  int64  // where the last segment's records end
	size int64  // of the last segment's file
	dirt int64  // bytes from end on that are a torn tail to be zeroed; 0 when they are zero already

	// unclosed is where something stands that the state after it, in the same batch, would make count: an entry whose
	// term is above that of the last state, or a snapshot record above the commit index. At the end of a log it is the
	// rest of a torn batch.
	unclosed *at
	stop     *at // the log ends before the record that stands here
}

// scanLog reads the log in dir. begin is called before each pass over it and returns the visitor for the pass. There is
// a second one if the log ends unclosed: it stops there, as if the batch had been torn off whole. Raft never learned that
// it was stored and may go on in an older term, or without the snapshot; what the entries had replaced is the log again.
func scanLog(fsys vfs.FS, dir string, begin func() visitor) (*scan, error) {
	s := &scan{fs: fsys, dir: dir}
	if err := s.run(begin()); err != nil || s.unclosed == nil {
		return s, err
	}
	s = &scan{fs: fsys, dir: dir, stop: s.unclosed}
	return s, s.run(begin())
}

// at is where a record stands.
type at struct {
	seg segment
	off int64
	crc uint32 // rolling sum before the record
}

// A visitor sees each record after the history has taken it in.
type visitor func(seen) error

type seen struct {
	pos   at
	frame frame // its data is good only during the call
	entry entryFields
	reset bool // a snapshot replaced the log before the record
	hist  *history
}

// run reads the log in dir. Its error is a *DamageError, a failure to read, or the visitor's.
func (s *scan) run(visit visitor) error {
	segs, err := listSegments(s.fs, s.dir)
	if err != nil {
		return err
	}
	if len(segs) == 0 {
		return fmt.Errorf("%s: %w", s.dir, ErrNotFound)
	}
	if err := checkSequence(s.fs, s.dir, segs); err != nil {
		return err
	}
	s.segs = segs
	s.hist.begin(segs[0])
	var mem []byte
	for i, seg := range segs {
		r, err := openReader(s.fs, s.fs.PathJoin(s.dir, seg.String()), 0, s.crc, scanWindowBytes)
		if err != nil {
			return err
		}
		r.mem = mem
		err = s.segment(r, seg, i == 0, i == len(segs)-1, visit)
		mem = r.mem
		if cerr := r.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close %s: %w", r.path, cerr)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) segment(r *recordReader, seg segment, first, last bool, visit visitor) error {
	for n := 0; ; n++ {
		pos := at{seg: seg, off: r.off, crc: r.crc}
		if s.stop != nil && pos == *s.stop {
			return s.cut(r)
		}
		f, err := r.next()
		if err == io.EOF && n >= 2 {
			return s.endSegment(r, last)
		}
		if err == io.EOF {
			err = fmt.Errorf("%w: the segment ends before its header", errBadRecord)
		}
		if errors.Is(err, errBadRecord) {
			return s.judge(r, last && n >= 2, err)
		}
		if err != nil {
			return err
		}
		e, reset, err := s.take(f, n, first, pos)
		if err != nil {
			return damage(r.path, pos.off, err.Error())
		}
		record := seen{pos, f, e, reset, &s.hist}
		s.watch(record, last)
		if err := visit(record); err != nil {
			return err
		}
	}
}

// watch keeps unclosed up to date. A batch never lies in two segments.
func (s *scan) watch(r seen, last bool) {
	switch {
	case r.frame.typ == TypeState:
		s.unclosed = nil
	case s.unclosed != nil || !last:
	case r.frame.typ == TypeEntry && r.entry.term > s.hist.state.Term,
		r.frame.typ == TypeSnapshot && s.hist.snaps[len(s.hist.snaps)-1].Index > s.hist.state.Commit:
		pos := r.pos // only here does it have to live on the heap
		s.unclosed = &pos
	}
}

func damage(path string, off int64, cause string) error {
	return &DamageError{File: path, Offset: off, Cause: cause, Remedy: remedyRejoin}
}

// take checks record number n of a segment against what came before it.
func (s *scan) take(f frame, n int, first bool, pos at) (e entryFields, reset bool, err error) {
	if header := n < 2; header != (f.typ == TypeCRC || f.typ == TypeMetadata) || header && f.typ != headerTypes[n] {
		return e, false, fmt.Errorf("record %d of the segment is a %s record", n, f.typ)
	}
	switch f.typ {
	case TypeCRC:
		if len(f.data) > 0 {
			err = errors.New("crc record with data")
		} else if !first && f.crc != pos.crc {
			err = fmt.Errorf("segment goes on from checksum %08x, the one before it ended with %08x: records are missing between", f.crc, pos.crc)
		}
	case TypeMetadata:
		if !first && !bytes.Equal(f.data, s.meta) {
			err = errors.New("metadata differs from that of the segment before")
		}
		s.meta = append([]byte(nil), f.data...)
	case TypeEntry:
		if e, err = parseEntry(f.data); err == nil {
			reset, err = s.hist.entry(e)
		}
	case TypeState:
		var state HardState
		if state, err = decodeHardState(f.data); err == nil {
			reset, err = s.hist.hardState(state)
		}
	case TypeSnapshot:
		var r SnapshotRecord
		if r, err = decodeSnapshot(f.data); err == nil {
			err = s.hist.snapshot(r)
		}
	}
	if err != nil {
		err = fmt.Errorf("%s record: %w", f.typ, err)
	}
	return e, reset, err
}

var headerTypes = [2]Type{TypeCRC, TypeMetadata}

// endSegment handles a length field of zero, or the end of the file. In all but the last segment the next one's crc
// record shows whether something is missing here.
func (s *scan) endSegment(r *recordReader, last bool) error {
	s.crc = r.crc
	if !last {
		return nil
	}
	s.end, s.size = r.off, r.size
	if clean, err := r.restIsZero(); clean || err != nil {
		return err
	}
	return s.judge(r, true, fmt.Errorf("%w: length field is zero, what follows is not", errBadRecord))
}

// judge ends the log before a record that cannot be read, if a crash can have left it so; cuttable says that it stands
// where one can.
func (s *scan) judge(r *recordReader, cuttable bool, bad error) error {
	if !cuttable {
		return damage(r.path, r.off, bad.Error())
	}
	tail, err := r.rest()
	if err != nil {
		return err
	}
	if cause := judgeTail(tail, r.off, r.crc, s.hist.last); cause != "" {
		return damage(r.path, r.off, fmt.Sprintf("%v; %s", bad, cause))
	}
	return s.cut(r)
}

// cut ends the log at the next record of the last segment.
func (s *scan) cut(r *recordReader) error {
	tail, err := r.rest()
	if err != nil {
		return err
	}
	s.crc, s.end, s.size, s.dirt = r.crc, r.off, r.size, int64(len(bytes.TrimRight(tail, "\x00")))
	return nil
}
