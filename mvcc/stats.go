package mvcc

import "sync/atomic"

// Stats is what a store holds and has done since it was opened.
type Stats struct {
	// Ranges, Puts and Deletes are operations, those within transactions included; Txns are commands of more than one of them.
	Ranges, Puts, Deletes, Txns uint64
	// PutBytes are of the keys and values put.
	PutBytes uint64
	// Compacted are the revisions of keys that compactions have removed.
	Compacted uint64
	// CensusBlocks are the blocks of neighbouring keys that the census counts by.
	CensusBlocks int
	// CachedRows and CachedBytes are in the cache of newest rows.
	CachedRows  int
	CachedBytes int64
}

// tally counts operations. A command fills one, which is added to that of the store when its run is published.
type tally struct{ ranges, puts, deletes, putBytes uint64 }

func (t *tally) operations() uint64 { return t.ranges + t.puts + t.deletes }

func (t *tally) add(o *tally) {
	t.ranges += o.ranges
	t.puts += o.puts
	t.deletes += o.deletes
	t.putBytes += o.putBytes
}

// totals are the tallies of all published runs, and of reads.
type totals struct{ ranges, puts, deletes, txns, putBytes, compacted atomic.Uint64 }

func (t *totals) add(one *tally, txns uint64) {
	t.ranges.Add(one.ranges)
	t.puts.Add(one.puts)
	t.deletes.Add(one.deletes)
	t.putBytes.Add(one.putBytes)
	t.txns.Add(txns)
}

// Ranges counts the ranges that were answered.
func (s *Store) Ranges() uint64 { return s.totals.ranges.Load() }

// Stats returns the numbers of now.
func (s *Store) Stats() Stats {
	st := Stats{
		Ranges: s.totals.ranges.Load(), Puts: s.totals.puts.Load(), Deletes: s.totals.deletes.Load(), Txns: s.totals.txns.Load(),
		PutBytes: s.totals.putBytes.Load(), Compacted: s.totals.compacted.Load(),
		CensusBlocks: s.published.Load().census.Blocks(),
	}
	st.CachedRows, st.CachedBytes = s.cache.size()
	return st
}
