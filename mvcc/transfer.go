package mvcc

import (
	"errors"
	"fmt"
	"iter"

	"holdfast/kv"
	"holdfast/storage"
)

// Row is one retained change as etcd stores it.
type Row struct {
	Rev       kv.Rev
	Tombstone bool
	// Encoded is the KeyValue; a tombstone's holds the key alone. The row that etcd's tools write to raise the
	// revision of a restored database has none: it is no key.
	Encoded []byte
}

// Export is the key space as it was at one moment, to be written out in etcd's form. It keeps old data from being
// given back to the disk: Close it when the last row was read.
type Export struct {
	reader *storage.Reader
	state  *state
	// Scheduled is the compacted revision, Finished the one up to which the compaction has been carried out.
	Scheduled, Finished kv.Revision
}

// Export opens a consistent view of all retained revisions.
func (s *Store) Export() (*Export, error) {
	reader, err := s.st.NewReader()
	if err != nil {
		return nil, err
	}
	e, err := newExport(reader)
	if err != nil {
		return nil, fmt.Errorf("export: %w", errors.Join(err, reader.Close()))
	}
	return e, nil
}

func newExport(reader *storage.Reader) (*Export, error) {
	// Both rows are read from the view: what is published may be older than what was committed.
	e := &Export{reader: reader, state: &state{revision: firstRevision, compacted: NeverCompacted}}
	row, ok, err := reader.Get(stateKey)
	if err != nil {
		return nil, err
	}
	if ok {
		if e.state, err = decodeState(row); err != nil {
			return nil, err
		}
	}
	p, err := readProgress(reader)
	if err != nil {
		return nil, err
	}
	e.Scheduled, e.Finished = e.state.compacted, p.finished
	return e, nil
}

// Revision is the newest revision of the export.
func (e *Export) Revision() kv.Revision { return e.state.revision }

// Rows yields every retained change in ascending order. A row's bytes are valid until the next one.
func (e *Export) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		it, err := e.reader.Scan(storage.TableRevisions, nil, nil)
		if err != nil {
			yield(Row{}, err)
			return
		}
		defer it.Close()
		var key []byte
		for it.Next() {
			rev, rec, err := readRecord(it)
			if err != nil {
				yield(Row{}, err)
				return
			}
			row := Row{Rev: rev, Tombstone: rec.kind == kindDelete}
			if row.Tombstone {
				row.Encoded = appendTombstone(nil, rec.key)
			} else {
				var ok bool
				key = storage.TableVersions.AppendVersionKey(key[:0], rec.key, rev)
				if row.Encoded, ok, err = e.reader.Get(key); err == nil && !ok {
					err = fmt.Errorf("the version of %q at %s is missing", rec.key, rev)
				}
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
		if err := it.Err(); err != nil {
			yield(Row{}, err)
		}
	}
}

// Close ends the view.
func (e *Export) Close() error { return e.reader.Close() }

// Reader is the view that the export reads: what else is to be written out with the keys comes from it too.
func (e *Export) Reader() *storage.Reader { return e.reader }
