package mvcc

import (
	"errors"
	"fmt"

	"holdfast/kv"
	"holdfast/mvcc/census"
	"holdfast/storage"
)

// Import fills an empty store with retained changes, as read from a database of etcd or received from another member:
//
//	imp, err := mvcc.NewImport(st)
//	err = imp.Add(row)               // for each, in ascending order
//	err = imp.Finish(scheduled, finished)
//	imp.Close()
//
// It commits as it goes. Only after Finish may the store be opened; a store whose import broke off is to be deleted.
type Import struct {
	st    *storage.Store
	batch *storage.Batch
	state state
	last  kv.Rev
	// over holds what the open batch changed, gets reads what the batches before did.
	over map[string]imported
	gets *storage.Iter

	key, record []byte // scratch
	summer      rowSummer
}

// imported is the newest version of a key: size is that of its KeyValue, and a tombstone does not live.
type imported struct {
	rev   kv.Rev
	size  int
	lives bool
}

// importBatchBytes bounds the batch of an import: large enough to make its overhead vanish.
const importBatchBytes = 4 << 20

// NewImport begins an import into st, which must hold no keys.
func NewImport(st *storage.Store) (*Import, error) {
	switch _, ok, err := st.Get(stateKey); {
	case err != nil:
		return nil, fmt.Errorf("import: %w", err)
	case ok:
		return nil, errors.New("import: the store is not empty")
	}
	return &Import{
		st: st, batch: st.NewBatch(), over: map[string]imported{},
		state: state{revision: firstRevision, compacted: NeverCompacted},
	}, nil
}

// Add adds the next change. It keeps nothing of row.
func (i *Import) Add(row Row) error {
	if !i.last.Less(row.Rev) {
		return fmt.Errorf("import: revision %s after %s", row.Rev, i.last)
	}
	if err := i.add(row); err != nil {
		return fmt.Errorf("import revision %s: %w", row.Rev, err)
	}
	i.last = row.Rev
	if i.batch.Len() < importBatchBytes {
		return nil
	}
	return i.commit()
}

func (i *Import) add(row Row) error {
	v, err := kv.DecodeKeyValue(row.Encoded)
	if err != nil {
		return err
	}
	old, exists, err := i.newest(v.Key)
	if err != nil {
		return err
	}
	rec := record{
		kind: kindUpdate, sum: i.summer.sum(row.Rev, row.Tombstone, row.Encoded), size: len(row.Encoded),
		hasOld: exists && old.lives, old: old.rev, oldSize: old.size, key: v.Key,
	}
	value := row.Encoded
	switch {
	case row.Tombstone:
		rec.kind, value = kindDelete, nil
	case v.Create == v.Mod && !rec.hasOld:
		rec.kind = kindCreate
	}
	i.state.written += rec.bytes()
	i.batch.SetVersion(storage.TableVersions, v.Key, row.Rev, value)
	i.key = appendRevKey(i.key[:0], row.Rev)
	i.record = rec.append(i.record[:0], row.Rev)
	i.batch.Set(i.key, i.record)
	i.over[string(v.Key)] = imported{row.Rev, len(row.Encoded), !row.Tombstone}
	return nil
}

// newest finds the newest version of key among what was added.
func (i *Import) newest(key []byte) (imported, bool, error) {
	if v, ok := i.over[string(key)]; ok {
		return v, true, nil
	}
	if i.gets == nil {
		it, err := i.st.Scan(storage.TableVersions, nil, nil)
		if err != nil {
			return imported{}, false, err
		}
		i.gets = it
	}
	if !i.gets.SeekBody(key) {
		return imported{}, false, i.gets.Err()
	}
	value, err := i.gets.Value()
	return imported{i.gets.Rev(), len(value), len(value) > 0 || len(key) == 0}, true, err
}

func (i *Import) commit() error {
	if err := i.closeIter(); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if err := errors.Join(i.batch.Commit(), i.batch.Close()); err != nil {
		return fmt.Errorf("import up to revision %s: %w", i.last, err)
	}
	i.batch = i.st.NewBatch()
	clear(i.over)
	return nil
}

// Finish writes the state of the key space: what was asked to be compacted, and what had been. A compaction between
// the two goes on once the store is opened. It does not flush.
func (i *Import) Finish(scheduled, finished kv.Revision) error {
	if finished > scheduled {
		return fmt.Errorf("import: compaction finished at %s but scheduled at %s", finished, scheduled)
	}
	i.state.revision = max(i.state.revision, i.last.Main, scheduled)
	i.state.compacted = scheduled
	if err := i.commit(); err != nil {
		return err
	}
	if err := i.count(); err != nil {
		return fmt.Errorf("import: count keys: %w", err)
	}
	p := progress{finished: finished, target: finished}
	i.batch.Set(stateKey, i.state.encode())
	i.batch.Set(progressKey, p.encode())
	return i.commit()
}

// count writes the census of all that was added.
func (i *Import) count() error {
	it, err := i.st.Scan(storage.TableVersions, nil, nil)
	if err != nil {
		return err
	}
	builder := census.NewBuilder(i.batch, i.state.revision)
	err = scan(it, i.state.revision, func(key []byte, _ kv.Rev, row []byte) (bool, error) {
		if len(key) > 0 {
			builder.Add(key, row != nil)
		}
		return true, nil
	})
	builder.Finish()
	return closeWith(it, err)
}

// Close ends the import.
func (i *Import) Close() error { return errors.Join(i.closeIter(), i.batch.Close()) }

func (i *Import) closeIter() error {
	if i.gets == nil {
		return nil
	}
	err := i.gets.Close()
	i.gets = nil
	return err
}
