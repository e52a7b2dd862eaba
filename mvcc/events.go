package mvcc

import (
	"fmt"

	"holdfast/kv"
	"holdfast/storage"
)

// Events reads the changes from the place from up to and including revision upTo, oldest first, and stops once they
// take maxBytes, which may be in the middle of a revision; it always returns at least one if there is one. next is
// where to go on, the beginning of upTo+1 when all were read.
//
// Previous KeyValues are given as etcd does: not for creations, and not where the revision before the change has been
// compacted. A place below the compacted revision is ErrCompacted, a upTo above the published one ErrFutureRevision.
func (s *Store) Events(from kv.Rev, upTo kv.Revision, maxBytes int, withPrev bool) (
	events []kv.Event, next kv.Rev, err error,
) {
	if upTo > s.Revision() {
		return nil, kv.Rev{}, ErrFutureRevision
	}
	reader, err := s.st.NewReader()
	if err != nil {
		return nil, kv.Rev{}, err
	}
	defer reader.Close()
	compacted := s.Compacted()
	if from.Main < compacted {
		return nil, kv.Rev{}, ErrCompacted
	}
	it, err := reader.Scan(storage.TableRevisions, appendRevBody(nil, from), appendRevBody(nil, kv.Rev{Main: upTo + 1}))
	if err != nil {
		return nil, kv.Rev{}, err
	}
	loader := eventLoader{reader: reader, withPrev: withPrev, compacted: compacted}
	size := 0
	for it.Next() {
		rev, rec, err := readRecord(it)
		if err != nil {
			return nil, kv.Rev{}, closeWith(it, err)
		}
		if size >= maxBytes && len(events) > 0 {
			return events, rev, it.Close()
		}
		e, err := loader.load(rev, &rec)
		if err != nil {
			return nil, kv.Rev{}, closeWith(it, fmt.Errorf("event of revision %s: %w", rev, err))
		}
		events = append(events, e)
		size += len(e.KV) + len(e.Prev)
	}
	return events, kv.Rev{Main: upTo + 1}, closeWith(it, it.Err())
}

// eventLoader makes events out of records.
type eventLoader struct {
	reader    *storage.Reader
	withPrev  bool
	compacted kv.Revision
	key       []byte // scratch
}

func (l *eventLoader) load(rev kv.Rev, rec *record) (kv.Event, error) {
	e := kv.Event{Rev: rev, Type: kv.EventPut}
	if rec.kind == kindDelete {
		e.Type = kv.EventDelete
		v := kv.KeyValue{Key: rec.key, Mod: rev.Main}
		e.KV = v.Append(nil)
		e.Key = keyOf(e.KV)
	} else {
		row, v, err := l.row(rec.key, rev)
		if err != nil {
			return kv.Event{}, err
		}
		e.KV, e.Key, e.Lease = row, v.Key, v.Lease
	}
	if !l.withPrev || !rec.hasOld || rev.Main-1 < l.compacted {
		return e, nil
	}
	row, v, err := l.before(rev, rec)
	if err != nil {
		return kv.Event{}, err
	}
	e.Prev, e.PrevLease = row, v.Lease
	return e, nil
}

// before reads the version that a key had at the revision before rev. That is the one the record superseded, unless
// the same revision had changed the key already; there may have been none then.
func (l *eventLoader) before(rev kv.Rev, rec *record) ([]byte, kv.KeyValue, error) {
	if rec.old.Main < rev.Main {
		return l.row(rec.key, rec.old)
	}
	lo, hi := kv.KeyRange{Key: rec.key}.Bounds()
	it, err := l.reader.Scan(storage.TableVersions, lo, hi)
	if err != nil {
		return nil, kv.KeyValue{}, err
	}
	if !it.SeekBodyVersion(rec.key, newestAt(rev.Main-1)) {
		return nil, kv.KeyValue{}, closeWith(it, it.Err())
	}
	row, err := it.Value()
	if err != nil || len(row) == 0 {
		return nil, kv.KeyValue{}, closeWith(it, err)
	}
	row = append([]byte(nil), row...)
	v, err := kv.DecodeKeyValue(row)
	return row, v, closeWith(it, err)
}

// row reads the version of key at rev, which a record says is there.
func (l *eventLoader) row(key []byte, rev kv.Rev) ([]byte, kv.KeyValue, error) {
	l.key = storage.TableVersions.AppendVersionKey(l.key[:0], key, rev)
	row, ok, err := l.reader.Get(l.key)
	if err != nil {
		return nil, kv.KeyValue{}, err
	}
	if !ok {
		return nil, kv.KeyValue{}, fmt.Errorf("the version of %q at %s is missing", key, rev)
	}
	v, err := kv.DecodeKeyValue(row)
	return row, v, err
}
