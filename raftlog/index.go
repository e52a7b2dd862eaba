package raftlog

import (
	"slices"
	"sort"
)

// index says where on disk the live entries are, so that old ones can be read back without reading whole segments.
// It holds runs in order: within a run entries stand in the file one after the other with nothing stale between them.
// It takes 24 B for each markBytes of log.
type index struct {
	runs []run
}

type run struct {
	seg         segment
	first, last uint64
	marks       []mark // at least one, that of the first entry
}

// A mark is a place from which reading, and checking, can start.
type mark struct {
	index uint64
	off   int64
	crc   uint32 // rolling sum before the record at off
}

// markBytes is the distance of marks: what is read in vain, on average half of it, costs less than the open call.
const markBytes = 64 << 10

// put notes the place of an entry; entries at its index and above are no longer live.
func (x *index) put(entry uint64, seg segment, off int64, crc uint32) {
	m := mark{index: entry, off: off, crc: crc}
	if n := len(x.runs); n > 0 {
		r := &x.runs[n-1]
		if r.last+1 == entry && r.seg == seg {
			r.last = entry
			if off-r.marks[len(r.marks)-1].off >= markBytes {
				r.marks = append(r.marks, m)
			}
			return
		}
	}
	x.truncate(entry)
	x.runs = append(x.runs, run{seg: seg, first: entry, last: entry, marks: []mark{m}})
}

func (x *index) truncate(from uint64) {
	n := len(x.runs)
	for n > 0 && x.runs[n-1].first >= from {
		n--
	}
	x.runs = x.runs[:n]
	if n == 0 || x.runs[n-1].last < from {
		return
	}
	r := &x.runs[n-1]
	r.last = from - 1
	keep := sort.Search(len(r.marks), func(i int) bool { return r.marks[i].index >= from })
	r.marks = r.marks[:keep]
}

func (x *index) reset() { x.runs = nil }

// dropSegmentsBefore forgets what stands in segments below seq.
func (x *index) dropSegmentsBefore(seq uint64) {
	x.runs = slices.DeleteFunc(x.runs, func(r run) bool { return r.seg.seq < seq })
}

// first returns the lowest live entry that can be read back; ok is false when there is none.
func (x *index) first() (entry uint64, ok bool) {
	if len(x.runs) == 0 {
		return 0, false
	}
	return x.runs[0].first, true
}

// find returns the segment and the mark to start reading from for an entry, and the last entry that stands there live.
func (x *index) find(entry uint64) (seg segment, from mark, last uint64, ok bool) {
	i := sort.Search(len(x.runs), func(i int) bool { return x.runs[i].last >= entry })
	if i == len(x.runs) || x.runs[i].first > entry {
		return segment{}, mark{}, 0, false
	}
	r := x.runs[i]
	j := sort.Search(len(r.marks), func(j int) bool { return r.marks[j].index > entry })
	return r.seg, r.marks[j-1], r.last, true
}
