package mvcc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"holdfast/kv"
)

// model is the key space as a list of every change ever made: slow, and small enough to be right by reading.
type model struct {
	changes   []change
	revision  kv.Revision
	compacted kv.Revision
}

type change struct {
	rev       kv.Rev
	tombstone bool
	v         kv.KeyValue // of a tombstone only the key
}

func newModel() *model { return &model{revision: 1, compacted: -1} }

// clone copies what later commands change.
func (m *model) clone() *model {
	c := *m
	c.changes = slices.Clip(m.changes)
	return &c
}

// row is the value of etcd's row for c.
func (c *change) row() []byte { return c.v.Append(nil) }

// rowKey is the key of etcd's row for c.
func (c *change) rowKey() []byte {
	k := binary.BigEndian.AppendUint64(nil, uint64(c.rev.Main))
	k = binary.BigEndian.AppendUint64(append(k, '_'), uint64(c.rev.Sub))
	if c.tombstone {
		k = append(k, 't')
	}
	return k
}

// newest returns the last change of key that revision rev sees.
func (m *model) newest(key []byte, rev kv.Revision) *change {
	for i := range slices.Backward(m.changes) {
		if c := &m.changes[i]; c.rev.Main <= rev && bytes.Equal(c.v.Key, key) {
			return c
		}
	}
	return nil
}

// live returns the KeyValues of r at rev in key order.
func (m *model) live(r kv.KeyRange, rev kv.Revision) []kv.KeyValue {
	newest := map[string]*change{}
	for i := range m.changes {
		if c := &m.changes[i]; c.rev.Main <= rev && r.Contains(c.v.Key) {
			newest[string(c.v.Key)] = c
		}
	}
	var all []kv.KeyValue
	for _, c := range newest {
		if !c.tombstone {
			all = append(all, c.v)
		}
	}
	slices.SortFunc(all, func(a, b kv.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return all
}

// modelCommand is one command in progress.
type modelCommand struct {
	m   *model
	rev kv.Rev
}

func (m *model) command() *modelCommand { return &modelCommand{m, kv.Rev{Main: m.revision + 1}} }

func (c *modelCommand) put(key, value []byte, lease kv.LeaseID) {
	v := kv.KeyValue{
		Key: bytes.Clone(key), Value: bytes.Clone(value), Create: c.rev.Main, Mod: c.rev.Main, Version: 1, Lease: lease,
	}
	if old := c.m.newest(key, c.rev.Main); old != nil && !old.tombstone {
		v.Create, v.Version = old.v.Create, old.v.Version+1
	}
	c.m.changes = append(c.m.changes, change{rev: c.rev, v: v})
	c.rev.Sub++
}

func (c *modelCommand) deleteRange(r kv.KeyRange) int64 {
	gone := c.m.live(r, c.rev.Main)
	for _, v := range gone {
		c.m.changes = append(c.m.changes, change{rev: c.rev, tombstone: true, v: kv.KeyValue{Key: v.Key}})
		c.rev.Sub++
	}
	return int64(len(gone))
}

func (c *modelCommand) end() {
	if c.rev.Sub > 0 {
		c.m.revision++
	}
}

func (m *model) compact(rev kv.Revision) error {
	if rev <= m.compacted {
		return ErrCompacted
	}
	if rev > m.revision {
		return ErrFutureRevision
	}
	m.compacted = rev
	return nil
}

// rangeAt answers q for a store whose newest revision is revision.
func (m *model) rangeAt(q *kv.RangeRequest, revision kv.Revision) (rows []kv.KeyValue, count int64, more bool, err error) {
	at := q.Revision
	switch {
	case at > revision:
		return nil, 0, false, ErrFutureRevision
	case at <= 0:
		at = revision
	}
	if at < m.compacted {
		return nil, 0, false, ErrCompacted
	}
	rows = m.live(q.KeyRange, at)
	count = int64(len(rows))
	if q.CountOnly {
		return nil, count, false, nil
	}
	filtered := q.MinMod != 0 || q.MaxMod != 0 || q.MinCreate != 0 || q.MaxCreate != 0
	if q.Limit > 0 && q.SortOrder == kv.SortNone && !filtered && count > q.Limit {
		rows = rows[:q.Limit+1]
	}
	rows = slices.DeleteFunc(rows, func(v kv.KeyValue) bool {
		return q.MaxMod != 0 && v.Mod > q.MaxMod || q.MinMod != 0 && v.Mod < q.MinMod ||
			q.MaxCreate != 0 && v.Create > q.MaxCreate || q.MinCreate != 0 && v.Create < q.MinCreate
	})
	slices.SortStableFunc(rows, func(a, b kv.KeyValue) int {
		c := map[kv.SortTarget]int{
			kv.SortByKey: bytes.Compare(a.Key, b.Key), kv.SortByValue: bytes.Compare(a.Value, b.Value),
			kv.SortByVersion: cmp.Compare(a.Version, b.Version), kv.SortByMod: cmp.Compare(a.Mod, b.Mod),
			kv.SortByCreate: cmp.Compare(a.Create, b.Create),
		}[q.SortTarget]
		if q.SortOrder == kv.SortDescend {
			return -c
		}
		return c
	})
	if q.Limit > 0 && int64(len(rows)) > q.Limit {
		rows, more = rows[:q.Limit], true
	}
	if q.KeysOnly {
		for i := range rows {
			rows[i].Value = nil
			if q.SortTarget != kv.SortByValue {
				rows[i].Lease = 0
			}
		}
	}
	return rows, count, more, nil
}

// keep is the set of changes that a compaction at rev leaves of those up to rev; tombstones at rev are among them if
// tombstones is set.
func (m *model) keep(rev kv.Revision, tombstones bool) map[kv.Rev]bool {
	newest := map[string]*change{}
	for i := range m.changes {
		if c := &m.changes[i]; c.rev.Main <= rev {
			newest[string(c.v.Key)] = c
		}
	}
	keep := map[kv.Rev]bool{}
	for _, c := range newest {
		if !c.tombstone || tombstones && c.rev.Main == rev {
			keep[c.rev] = true
		}
	}
	return keep
}

// retained are the changes that are left when the compaction at finished is complete.
func (m *model) retained(finished kv.Revision) []change {
	keep := m.keep(finished, true)
	var left []change
	for _, c := range m.changes {
		if c.rev.Main > finished || keep[c.rev] {
			left = append(left, c)
		}
	}
	return left
}

// hash is etcd's rule over the rows that are left.
func (m *model) hash(rev, compact, finished kv.Revision, tombstones bool) uint32 {
	keep := m.keep(rev, tombstones)
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	h.Write([]byte("key"))
	for _, c := range m.retained(finished) {
		switch {
		case c.rev.Main > rev:
		case c.rev.Main <= compact && len(keep) > 0 && !keep[c.rev]:
		case c.rev.Main == compact && c.tombstone:
		default:
			h.Write(c.rowKey())
			h.Write(c.row())
		}
	}
	return h.Sum32()
}

// size is etcd's encoding of what is left.
func (m *model) size(finished kv.Revision) (n int64) {
	for _, c := range m.retained(finished) {
		n += int64(len(c.rowKey()) + len(c.row()))
	}
	return n
}

// events are the changes from the place from up to upTo as a watcher with prev_kv sees them.
func (m *model) events(from kv.Rev, upTo kv.Revision) (events []kv.Event) {
	for _, c := range m.retained(m.compacted) {
		if c.rev.Less(from) || c.rev.Main > upTo {
			continue
		}
		v := c.v
		e := kv.Event{Rev: c.rev, Lease: v.Lease}
		if c.tombstone {
			e.Type, v.Mod = kv.EventDelete, c.rev.Main
		}
		e.Key, e.KV = v.Key, v.Append(nil)
		if old := m.newest(c.v.Key, c.rev.Main-1); old != nil && !old.tombstone && c.rev.Main-1 >= m.compacted {
			e.Prev, e.PrevLease = old.row(), old.v.Lease
		}
		events = append(events, e)
	}
	return events
}

var everything = kv.KeyRange{Key: []byte{0}, End: []byte{0}}
