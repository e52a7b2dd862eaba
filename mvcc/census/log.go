package census

import (
	"encoding/binary"
	"fmt"
	"slices"

	"holdfast/kv"
	"holdfast/mvcc/head"
	"holdfast/storage"
)

// A run that creates keys all over the place changes a block for each of them, and to write as many rows would cost
// more than half as much as the keys themselves. So their new counts go into one row of a log; what is in the
// oldest row of the log and in none after it goes into rows of blocks once the log is full, and the old row goes away.
// Load lets the newer of row and log hold: both carry a sequence number, that of the edit that counted.

// A log row of fewer blocks than logMin costs more than their rows.
const logMin = 4

// logMax is how many entries the log holds. In a store of ten million keys four of five changes of a block are
// overtaken by another within so many; they take 1 MB of memory and 1 MB to read at start.
const logMax = 64 << 10

// logRow is one row of the log: the blocks that an edit wrote there.
type logRow struct {
	seq    uint64
	bounds []string
}

// log is the rows of the log, the oldest first.
type log struct {
	rows    []logRow
	entries int
}

// The body of a row of the log is its kind and its sequence number, that of a block its kind and its bound.
const (
	kindBlock byte = 'b'
	kindLog   byte = 'l'
)

func logKey(seq uint64) []byte {
	return storage.TableCensus.Key(binary.BigEndian.AppendUint64([]byte{kindLog}, seq))
}

// writer collects the blocks that an edit changed.
type writer struct {
	seq uint64
	// logged are the blocks that only had their counts changed, in order; changed those that need rows of their own, or
	// are gone.
	logged  []cut
	changed []string
}

// write writes everything that the edit changed and folds the log.
func (e *Edit) write(rows Rows) {
	w := &e.writer
	if len(w.logged) < logMin {
		for _, c := range w.logged {
			w.changed = append(w.changed, c.bound)
		}
	} else {
		e.log = e.log.with(w, rows)
	}
	e.fold(rows)
	slices.Sort(w.changed)
	for _, bound := range slices.Compact(w.changed) {
		if b := e.root.blockAt(bound); b != nil {
			rows.Set(blockKey(bound), b.encode())
		} else {
			rows.Delete(blockKey(bound))
		}
	}
}

// with returns the log with what w has for it, and writes that.
func (l log) with(w *writer, rows Rows) log {
	r := logRow{seq: w.seq, bounds: make([]string, len(w.logged))}
	for i, c := range w.logged {
		r.bounds[i] = c.bound
	}
	rows.Set(logKey(w.seq), encodeLog(w.logged))
	// Older versions share the beginning of this slice, and never look beyond it.
	return log{rows: append(l.rows, r), entries: l.entries + len(r.bounds)}
}

// fold takes the oldest rows out of a log that is too long.
func (e *Edit) fold(rows Rows) {
	for e.log.entries > logMax {
		oldest := e.log.rows[0]
		e.log.rows, e.log.entries = e.log.rows[1:], e.log.entries-len(oldest.bounds)
		for _, bound := range oldest.bounds {
			if b := e.root.blockAt(bound); b != nil && b.seq == oldest.seq {
				e.writer.changed = append(e.writer.changed, bound)
			}
		}
		rows.Delete(logKey(oldest.seq))
	}
}

// encodeLog is a row of the log. Each entry is, with the beginning that its bound shares with the one before left out:
//
//	shared (uvarint) · rest (uvarint) · rest of the bound · live (uvarint) · dead (uvarint) · died (uvarint)
func encodeLog(entries []cut) []byte {
	var row []byte
	last := ""
	for _, c := range entries {
		shared := head.SharedLen(last, c.bound)
		row = binary.AppendUvarint(row, uint64(shared))
		row = binary.AppendUvarint(row, uint64(len(c.bound)-shared))
		row = append(row, c.bound[shared:]...)
		row = c.block.append(row)
		last = c.bound
	}
	return row
}

func decodeLog(row []byte) (entries []cut, err error) {
	d := decoder{rest: row}
	last := ""
	for len(d.rest) > 0 && !d.broken {
		shared, n := d.uvarint(), d.uvarint()
		if shared > uint64(len(last)) || n > uint64(len(d.rest)) {
			d.broken = true
			break
		}
		c := cut{bound: last[:shared] + string(d.rest[:n])}
		d.rest = d.rest[n:]
		c.block = d.block()
		entries, last = append(entries, c), c.bound
	}
	if d.broken {
		return nil, fmt.Errorf("row of %d bytes makes no sense", len(row))
	}
	return entries, nil
}

// decoder reads numbers until something is broken.
type decoder struct {
	rest   []byte
	broken bool
}

func (d *decoder) uvarint() uint64 {
	x, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.broken, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return x
}

func (d *decoder) block() block {
	live, dead, died := d.uvarint(), d.uvarint(), d.uvarint()
	b := block{live: int32(live), dead: int32(dead), died: kv.Revision(died)}
	if uint64(b.live) != live || uint64(b.dead) != dead || b.died < 0 {
		d.broken = true
	}
	return b
}
