package mvcc

import (
	"fmt"
	"sync"

	"holdfast/kv"
	"holdfast/storage"
)

// recall fills the writer's memory of keys (recent) with those that were written before the store was opened, or before it forgot all. It
// walks over the keys in steps, each at the newest revision. Memory says since when it knows every change: a key that it does not know
// stands as any revision from then on has it.
//
// Where there is no room for all of them it fills the sieve, from the records of changes, which are a fifth of the keys with their values. A
// key that lives has the record of its newest version, as no compaction removes that; and if it was written since the sieve
// was emptied, the writer has put it in.
type recall struct {
	mu   sync.Mutex // held for the length of one step; guards the fields below
	done bool
	at   uint64 // what recent.forgotten was when the walk began
	next []byte // the first key that was not looked at
	// lacks is what the sieve lacked when the walk over the records began, and record the first that was not looked at.
	lacks  sifting
	record kv.Rev
}

// learnMost is how many keys are noted at once, while the writer may wait: some 10 µs.
const learnMost = 64

// standBytes is what a key of middling length takes in memory, when all are to be known.
const standBytes = 64

// RecallStep looks at keysMax keys or records more, and tells whether nothing is left to do: all keys are known, or the sieve has all, or there is
// no room for all even there. In that case, which is the usual one, it costs nothing, and it is to be called again later, since a deletion of many keys makes the store forget. The
// caller paces the steps.
func (s *Store) RecallStep(keysMax int) (done bool, err error) {
	c := &s.recall
	c.mu.Lock()
	defer c.mu.Unlock()
	if forgotten := s.recent.timesForgotten(); c.at != forgotten {
		c.at, c.next, c.done = forgotten, c.next[:0], false
	}
	now := s.published.Load()
	keys := now.census.Keys()
	if keys == s.recent.living() {
		return true, nil
	}
	if !c.done && keys*standBytes <= int64(s.recent.max) {
		if c.done, err = s.recallFrom(now, keysMax); err != nil {
			return false, fmt.Errorf("recall how keys stand: %w", err)
		}
		return c.done && keys == s.recent.living(), nil
	}
	if done, err = s.siftFrom(keys, keysMax); err != nil {
		return false, fmt.Errorf("recall which keys there are: %w", err)
	}
	return done, nil
}

// recallFrom goes on with the walk at now, and tells whether it is over.
func (s *Store) recallFrom(now *state, keysMax int) (done bool, err error) {
	c := &s.recall
	it, err := s.st.Scan(storage.TableVersions, c.next, nil)
	if err != nil {
		return false, err
	}
	var keys []byte // those of read
	read, room, seen := make([]keyStanding, 0, learnMost), true, 0
	learn := func() {
		room = s.recent.learn(now.revision, read)
		keys, read = keys[:0], read[:0]
	}
	err = scan(it, now.revision, func(key []byte, rev kv.Rev, row []byte) (bool, error) {
		if seen++; seen > keysMax {
			c.next = append(c.next[:0], key...)
			return false, nil
		}
		if row == nil {
			return true, nil
		}
		v, err := kv.DecodeKeyValue(row)
		if err != nil {
			return false, err
		}
		keys = append(keys, key...)
		own := keys[len(keys)-len(key):]
		read = append(read, keyStanding{own, standing{rev: rev, create: v.Create, version: v.Version, lease: v.Lease, size: len(row)}})
		if len(read) == learnMost {
			learn()
		}
		return room, nil
	})
	learn()
	return !room || seen <= keysMax, closeWith(it, err)
}

// siftFrom goes on with the walk over the records where so many keys live, and tells whether it is over.
func (s *Store) siftFrom(keys int64, recordsMax int) (done bool, err error) {
	c := &s.recall
	lacks, any := s.recent.beginSifting(keys)
	if !any {
		return true, nil
	}
	if c.lacks != lacks {
		c.lacks, c.record = lacks, kv.Rev{}
	}
	it, err := s.st.Scan(storage.TableRevisions, appendRevBody(nil, c.record), appendRevBody(nil, kv.Rev{Main: lacks.upTo + 1}))
	if err != nil {
		return false, err
	}
	hashes := make([]uint64, 0, learnMost)
	for seen := 0; it.Next(); seen++ {
		rev, rec, err := readRecord(it)
		if err != nil {
			return false, closeWith(it, err)
		}
		full := len(hashes) == cap(hashes)
		if (full || seen == recordsMax) && !s.recent.siftAll(lacks, hashes, false) {
			return false, it.Close()
		}
		if seen == recordsMax {
			c.record = rev
			return false, it.Close()
		}
		if full {
			hashes = hashes[:0]
		}
		if rec.kind != kindDelete {
			hashes = append(hashes, s.recent.hash(rec.key))
		}
	}
	if err := closeWith(it, it.Err()); err != nil {
		return false, err
	}
	return s.recent.siftAll(lacks, hashes, true), nil
}
