package mvcc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"holdfast/kv"
	"holdfast/storage"
)

// compactor removes what a published compaction made unreadable: of the changes in (finished, target] the versions
// they superseded, and the tombstones below target, those at finished included. What a key's newest change at target
// left behind stays, a tombstone at target too: a watch from there still sees the deletion.
//
// It walks over the records from finished to target in bounded steps. Each step commits what it removed together with
// the place it reached, so that every row is removed exactly once, as SingleDelete demands, crashes included.
type compactor struct {
	s *Store

	step     sync.Mutex // held for the length of one step; guards progress
	progress progress

	mu sync.Mutex // guards the fields below; released before any I/O
	// scheduled is the newest compacted revision that was published, finished the last one that is complete.
	scheduled, finished kv.Revision
	hash                *hashJob // to be done before the first removal; nil if no hash is to be kept
	// hashed is the result of hash, remembered once the compaction is complete: who sees it there may ask for the next one.
	hashed  *Hash
	waiting []waiter
}

// progress is what survives a restart: one row, finished (8) · target (8) · main (8) · sub (8) · dropped (8).
type progress struct {
	// finished is the revision whose compaction is complete; all below it is gone.
	finished kv.Revision
	// target is the revision being compacted, equal to finished if none is.
	target kv.Revision
	// next is where the walk goes on.
	next kv.Rev
	// dropped counts the bytes removed so far, in all compactions.
	dropped int64
	// removed counts the changes removed since the store was opened. It is not kept.
	removed uint64
}

type waiter struct {
	rev  kv.Revision
	done chan struct{}
}

var progressKey = storage.TableMeta.Key([]byte("compaction"))

const progressLen = 40

func (p *progress) encode() []byte {
	b := make([]byte, 0, progressLen)
	for _, v := range []int64{int64(p.finished), int64(p.target), int64(p.next.Main), p.next.Sub, p.dropped} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func decodeProgress(b []byte) (progress, error) {
	if len(b) != progressLen {
		return progress{}, fmt.Errorf("compaction row of %d bytes, not %d", len(b), progressLen)
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) }
	return progress{
		finished: kv.Revision(at(0)), target: kv.Revision(at(1)),
		next: kv.Rev{Main: kv.Revision(at(2)), Sub: at(3)}, dropped: at(4),
	}, nil
}

// readProgress reads the row from st or from a view of it.
func readProgress(st interface {
	Get(key []byte) ([]byte, bool, error)
}) (progress, error) {
	row, ok, err := st.Get(progressKey)
	if err != nil {
		return progress{}, fmt.Errorf("read progress of compaction: %w", err)
	}
	if !ok {
		return progress{finished: NeverCompacted, target: NeverCompacted}, nil
	}
	return decodeProgress(row)
}

func (c *compactor) open(s *Store) error {
	p, err := readProgress(s.st)
	if err != nil {
		return err
	}
	c.s, c.progress = s, p
	c.scheduled, c.finished = s.Compacted(), p.finished
	s.dropped.Store(p.dropped)
	return nil
}

// schedule notes that the compaction at rev is about to be published.
func (c *compactor) schedule(rev kv.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// etcd remembers a hash only if the compaction before was complete when this one was asked for.
	if c.finished == c.scheduled {
		c.hash = newCompactionHash(c.finished, rev)
	}
	c.scheduled = rev
}

// CompactDone returns a channel that is closed when the physical compaction at rev is complete.
func (s *Store) CompactDone(rev kv.Revision) <-chan struct{} {
	c := &s.compactor
	c.mu.Lock()
	defer c.mu.Unlock()
	done := make(chan struct{})
	if c.finished >= rev {
		close(done)
	} else {
		c.waiting = append(c.waiting, waiter{rev, done})
	}
	return done
}

// Compaction tells how far compactions are: what was asked for and published, and what is complete.
func (s *Store) Compaction() (scheduled, finished kv.Revision) {
	s.compactor.mu.Lock()
	defer s.compactor.mu.Unlock()
	return s.compactor.scheduled, s.compactor.finished
}

// CompactStep does the next piece of a physical compaction, looking at no more than maxRows changes, and tells
// whether nothing is left to do. The caller paces the steps.
func (s *Store) CompactStep(maxRows int) (done bool, err error) {
	c := &s.compactor
	c.step.Lock()
	defer c.step.Unlock()
	target, hash := c.choose()
	if target == c.progress.finished {
		return true, nil
	}
	if hash != nil {
		if err := c.hashStep(hash, maxRows); err != nil {
			return false, fmt.Errorf("hash before compaction at %s: %w", target, err)
		}
		return false, nil
	}
	if err := c.remove(target, maxRows); err != nil {
		return false, fmt.Errorf("compact at %s: %w", target, err)
	}
	scheduled, finished := s.Compaction()
	return scheduled == finished, nil
}

// choose returns the revision to compact at now, the finished one if there is nothing to do, and the hash that has
// to be computed first. A compaction in progress is completed before the next one begins.
func (c *compactor) choose() (target kv.Revision, hash *hashJob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	target = c.progress.target
	if target == c.progress.finished {
		target = c.scheduled
		if c.hash != nil {
			target = c.hash.rev
		}
	}
	if c.hash != nil && c.hash.rev == target {
		return target, c.hash
	}
	return target, nil
}

func (c *compactor) hashStep(hash *hashJob, maxRows int) error {
	ready, err := hash.step(c.s.st, maxRows)
	if err != nil || !ready {
		return err
	}
	result := hash.result()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hash == hash {
		c.hash, c.hashed = nil, &result
	}
	// The compaction has begun: one that is asked for now comes after it.
	c.progress.target, c.progress.next = hash.rev, kv.Rev{}
	return nil
}

// remove walks over up to maxRows records and commits what that removed.
func (c *compactor) remove(target kv.Revision, maxRows int) error {
	p := c.progress
	if p.target != target {
		p.target, p.next = target, kv.Rev{}
	}
	p.next.Main = max(p.next.Main, p.finished, 0)
	batch := c.s.st.NewBatch()
	end, err := c.walk(batch, &p, maxRows)
	if end {
		p.finished, p.next = p.target, kv.Rev{}
	}
	if err == nil {
		batch.Set(progressKey, p.encode())
		err = commitStep(batch, end)
	}
	if err := errors.Join(err, batch.Close()); err != nil {
		return err
	}
	c.s.totals.compacted.Add(p.removed - c.progress.removed)
	c.progress = p
	c.s.dropped.Store(p.dropped)
	c.wake(p.finished)
	return nil
}

// commitStep makes what a step removed visible; end tells that it is the last one.
func commitStep(batch *storage.Batch, end bool) error {
	failpointCompactBeforeCommitBatch()
	if end {
		failpointCompactBeforeSetFinishedCompact()
	}
	if err := batch.Commit(); err != nil {
		return err
	}
	failpointCompactAfterCommitBatch()
	if end {
		failpointCompactAfterSetFinishedCompact()
	}
	return nil
}

// walk puts the removals of the next maxRows records into batch and moves p on; end tells that target was reached.
func (c *compactor) walk(batch *storage.Batch, p *progress, maxRows int) (end bool, err error) {
	it, err := c.s.st.Scan(storage.TableRevisions, appendRevBody(nil, p.next), appendRevBody(nil, kv.Rev{Main: p.target + 1}))
	if err != nil {
		return false, err
	}
	for rows := 0; it.Next(); rows++ {
		rev, rec, err := readRecord(it)
		if err != nil {
			return false, closeWith(it, err)
		}
		if rows == maxRows {
			p.next = rev
			return false, it.Close()
		}
		// What the changes at finished superseded went with the compaction there.
		if rec.hasOld && rev.Main > p.finished {
			drop(batch, rec.key, rec.old)
			p.removed++
			p.dropped += rec.oldBytes()
		}
		if rec.kind == kindDelete && rev.Main < p.target {
			drop(batch, rec.key, rev)
			p.removed++
			p.dropped += rec.bytes()
		}
	}
	return true, closeWith(it, it.Err())
}

// drop removes both rows of the change of key at rev.
func drop(batch *storage.Batch, key []byte, rev kv.Rev) {
	batch.SingleDeleteVersion(storage.TableVersions, key, rev)
	batch.SingleDelete(appendRevKey(nil, rev))
}

// wake tells those who wait for a compaction up to finished.
func (c *compactor) wake(finished kv.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = finished
	if c.hashed != nil && c.hashed.Revision == finished {
		c.s.hashes.add(*c.hashed)
		c.hashed = nil
	}
	c.waiting = slices.DeleteFunc(c.waiting, func(w waiter) bool {
		if w.rev <= finished {
			close(w.done)
			return true
		}
		return false
	})
}

// readRecord decodes the record an iterator over the revisions table stands on. Its key aliases the row.
func readRecord(it *storage.Iter) (kv.Rev, record, error) {
	rev, err := decodeRevBody(it.Body())
	if err != nil {
		return kv.Rev{}, record{}, err
	}
	row, err := it.Value()
	if err != nil {
		return kv.Rev{}, record{}, err
	}
	rec, err := decodeRecord(row, rev)
	return rev, rec, err
}
