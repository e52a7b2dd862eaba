package mvcc

import (
	"context"

	"holdfast/kv"
	"holdfast/storage"
)

// view reads the published store at one revision. Each call opens its own iterator and then makes sure that the
// revision has not been compacted: a compaction publishes its revision before it deletes anything, so what an
// iterator opened before sees is whole.
type view struct {
	s   *Store
	now *state
	at  kv.Revision
	ctx context.Context
}

// checkEvery is how many rows a scan reads between two looks at its context: about a tenth of a millisecond.
const checkEvery = 512

// seekAfter is how many versions of a key a scan steps over before it seeks: a seek costs as much as some ten steps.
const seekAfter = 8

func (v *view) open(lo, hi []byte) (*storage.Iter, error) {
	return v.check(v.s.st.Scan(storage.TableVersions, lo, hi))
}

// lookup returns an iterator that finds single keys. It may have been opened long ago, but shows all that was committed before v.now was
// published, and nothing is missing that was there when it was opened.
func (v *view) lookup() (*storage.Iter, error) {
	return v.check(v.s.st.Lookup(storage.TableVersions, v.now.revision))
}

// check closes it if its revision is compacted: what it shows may have been removed before it was opened.
func (v *view) check(it *storage.Iter, err error) (*storage.Iter, error) {
	if err != nil {
		return nil, err
	}
	if v.at < v.s.Compacted() {
		return nil, closeWith(it, ErrCompacted)
	}
	return it, nil
}

// closeWith closes it and returns err, or the error of closing if err is nil.
func closeWith(it *storage.Iter, err error) error {
	if e := it.Close(); err == nil {
		return e
	}
	return err
}

func (v *view) get(key []byte) ([]byte, error) {
	newest := v.at == v.now.revision
	var hash uint64
	if newest {
		hash = v.s.cache.hash(key)
		if row, _ := v.s.cache.get(hash, key, v.at); row != nil {
			return row, nil
		}
	}
	it, err := v.lookup()
	if err != nil {
		return nil, err
	}
	row, rev, err := v.read(it, key)
	if newest && row != nil {
		v.s.cache.fill(hash, key, rev, row, v.at)
	}
	return row, closeWith(it, err)
}

// read returns a copy of the row of key that it finds and when it was written.
func (v *view) read(it *storage.Iter, key []byte) ([]byte, kv.Rev, error) {
	if !it.SeekBodyVersion(key, newestAt(v.at)) {
		return nil, kv.Rev{}, it.Err()
	}
	row, err := it.Value()
	if err != nil || len(row) == 0 {
		return nil, kv.Rev{}, err
	}
	return append(make([]byte, 0, len(row)), row...), it.Rev(), nil
}

func (v *view) visit(lo, hi []byte, fn func(row []byte) bool) error {
	it, err := v.open(lo, hi)
	if err != nil {
		return err
	}
	seen := 0
	err = scan(it, v.at, func(_ []byte, _ kv.Rev, row []byte) (bool, error) {
		if seen++; seen%checkEvery == 0 && v.ctx.Err() != nil {
			return false, v.ctx.Err()
		}
		return row == nil || fn(row), nil
	})
	return closeWith(it, err)
}

// scan calls fn for every key that has a version at or before revision at, in key order, until fn returns false. row
// is nil for a key that is gone then.
func scan(it *storage.Iter, at kv.Revision, fn func(key []byte, rev kv.Rev, row []byte) (bool, error)) error {
	skipped := 0
	for ok := it.Next(); ok; {
		rev := it.Rev()
		if rev.Main > at {
			if skipped++; skipped > seekAfter {
				skipped = 0
				ok = it.SeekVersion(it.Body(), newestAt(at))
			} else {
				ok = it.Next()
			}
			continue
		}
		skipped = 0
		row, err := it.Value()
		if err != nil {
			return err
		}
		if len(row) == 0 {
			row = nil
		}
		if more, err := fn(it.Body(), rev, row); err != nil || !more {
			return err
		}
		ok = it.NextBody()
	}
	return it.Err()
}
