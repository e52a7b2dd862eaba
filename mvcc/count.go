package mvcc

import (
	"fmt"

	"holdfast/kv"
	"holdfast/mvcc/census"
	"holdfast/storage"
)

// Counts come from the census (package census), which belongs to the newest revision. An older one's is made from the
// nearest that is known by going over the changes between the two, and is remembered for the other pages of the list.

// count asks the census of the view's revision, which looks at the keys of the two blocks in which the range ends. The
// whole range is scanned only where that is cheaper than finding the census of an older revision.
func (v *view) count(lo, hi []byte) (int64, error) {
	version, err := v.census(lo, hi)
	if err != nil {
		return 0, err
	}
	c := counter{v: v}
	n := int64(0)
	if version == nil {
		n, err = c.scan(lo, hi)
	} else {
		n, err = version.Count(lo, hi, c.scan)
	}
	return n, c.close(err)
}

// counter counts key by key, with one iterator for all its scans: opening one costs as much as counting some fifty keys.
type counter struct {
	v  *view
	it *storage.Iter
}

func (c *counter) scan(lo, hi []byte) (n int64, err error) {
	if c.it != nil {
		c.it.SetBounds(lo, hi)
	} else if c.it, err = c.v.open(lo, hi); err != nil {
		return 0, err
	}
	seen := 0
	err = scan(c.it, c.v.at, func(_ []byte, _ kv.Rev, row []byte) (bool, error) {
		if seen++; seen%checkEvery == 0 && c.v.ctx.Err() != nil {
			return false, c.v.ctx.Err()
		}
		if row != nil {
			n++
		}
		return true, nil
	})
	return n, err
}

func (c *counter) close(err error) error {
	if c.it == nil {
		return err
	}
	return closeWith(c.it, err)
}

// keysPerRecord is how many keys a scan counts in the time that one record takes: 0.05 and 0.15 µs
// (BenchmarkRange/count before there was a census, BenchmarkHashKV).
const keysPerRecord = 3

// census returns the census of the view's revision, nil if the keys of [lo, hi) are counted faster than it is found.
func (v *view) census(lo, hi []byte) (*census.Version, error) {
	if v.at == v.now.revision {
		return v.now.census, nil
	}
	from, version := v.s.past.Nearest(v.at)
	if version == nil || from < v.s.Compacted() || v.now.revision-v.at < apart(from, v.at) {
		from, version = v.now.revision, v.now.census
	}
	if from == v.at {
		return version, nil
	}
	recordsMax := v.now.census.Estimate(lo, hi) / keysPerRecord
	if int64(apart(from, v.at)) > recordsMax {
		return nil, nil
	}
	version, err := v.correct(from, version, recordsMax)
	switch {
	case err == ErrCompacted:
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("count keys at revision %s: %w", v.at, err)
	}
	if version != nil {
		v.s.past.Remember(v.at, version)
	}
	return version, nil
}

func apart(a, b kv.Revision) kv.Revision { return max(a-b, b-a) }

// correct makes the census of the view's revision out of that of another one, by the records between the two. It is
// nil if the other one is so old that some of them are gone, or if there are more than recordsMax: a revision may have
// a million.
func (v *view) correct(from kv.Revision, version *census.Version, recordsMax int64) (*census.Version, error) {
	lo, hi := min(from, v.at)+1, max(from, v.at)+1
	it, err := v.s.st.Scan(storage.TableRevisions, appendRevBody(nil, kv.Rev{Main: lo}), appendRevBody(nil, kv.Rev{Main: hi}))
	if err != nil {
		return nil, err
	}
	switch compacted := v.s.Compacted(); {
	case v.at < compacted:
		return nil, closeWith(it, ErrCompacted)
	case from < compacted:
		return nil, it.Close()
	}
	edit := version.Edit(NeverCompacted)
	for seen := int64(0); it.Next(); seen++ {
		if seen == recordsMax {
			return nil, it.Close()
		}
		rev, rec, err := readRecord(it)
		if err == nil && seen%checkEvery == 0 {
			err = v.ctx.Err()
		}
		if err != nil {
			return nil, closeWith(it, err)
		}
		switch born, died := rec.turns(); {
		case born == died:
		case born == (from < v.at):
			edit.Create(rec.key)
		default:
			edit.Delete(rec.key, rev.Main)
		}
	}
	if err := closeWith(it, it.Err()); err != nil {
		return nil, err
	}
	return edit.Freeze(), nil
}

// turns tells whether the change made a key live or die. What an import brought may do neither: a row without a key, and
// the tombstone of a key that did not live.
func (r *record) turns() (born, died bool) {
	if r.kind == kindDelete {
		return false, r.hasOld
	}
	return !r.hasOld && len(r.key) > 0, false
}
