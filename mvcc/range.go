package mvcc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/kv"
)

// source is where a range is read: the published store or the inside of a command.
type source interface {
	// visit calls fn with the encoded KeyValue of every key that lives in [lo, hi) at the source's revision, in key
	// order, until fn returns false. The bytes are valid during the call only.
	visit(lo, hi []byte, fn func(row []byte) bool) error
	// get is visit for one key; nil if it does not live. The bytes are valid until the next call on the source.
	get(key []byte) ([]byte, error)
	// count is the number of keys that visit would show.
	count(lo, hi []byte) (int64, error)
}

// Range answers q from what is published. A revision above the published one is ErrFutureRevision, one below the
// compacted one ErrCompacted.
func (s *Store) Range(ctx context.Context, q *kv.RangeRequest) (*kv.RangeResult, error) {
	result, _, err := s.RangeWithin(ctx, q, nil)
	return result, err
}

// RangeWithin is Range with as many rows in memory as there is room for. The others, which are the last, are in the rest, which
// is to be released. It is nil where an answer is too small to ask for room, or cannot be read in pieces.
func (s *Store) RangeWithin(ctx context.Context, q *kv.RangeRequest, room Room) (*kv.RangeResult, *Rest, error) {
	s.totals.ranges.Add(1)
	for {
		now := s.published.Load()
		at, err := now.resolve(q.Revision)
		if err != nil {
			return nil, nil, err
		}
		result, rest, err := s.read(ctx, now, at, q, room)
		switch {
		case err == nil:
			result.Revision = now.revision
			if result.More && at == now.revision {
				s.past.Remember(at, now.census) // the next page will ask for this revision
			}
			return result, rest, nil
		case q.Revision <= 0 && errors.Is(err, ErrCompacted):
			// The newest revision moved on and was compacted before this one was opened: read the new one.
		default:
			return nil, nil, err
		}
	}
}

// read answers q at one revision.
func (s *Store) read(ctx context.Context, now *state, at kv.Revision, q *kv.RangeRequest, room Room) (*kv.RangeResult, *Rest, error) {
	if q.IsSingle() && !q.IsEmpty() && !q.CountOnly && !q.KeysOnly && !hasFilters(q) {
		return s.get(now, at, q, room)
	}
	v := view{s: s, now: now, at: at, ctx: ctx}
	rows := collector{s: s, q: q, at: at, room: room}
	result, err := answer(&v, q, &rows)
	if err != nil {
		return nil, nil, err
	}
	rest, err := rows.end()
	return result, rest, err
}

// get is read for one key as it is, which is what most ask for: a small row is not even copied (BenchmarkRange/get).
func (s *Store) get(now *state, at kv.Revision, q *kv.RangeRequest, room Room) (*kv.RangeResult, *Rest, error) {
	v := view{s: s, now: now, at: at}
	row, err := v.get(q.Key)
	if err != nil {
		return nil, nil, err
	}
	result := new(kv.RangeResult)
	if row == nil {
		return result, nil, nil
	}
	result.Count = 1
	if len(row) < RoomFree {
		result.Rows.Hold(row)
		return result, nil, nil
	}
	rows := collector{s: s, q: q, at: at, room: room}
	if err := rows.take(&result.Rows, row); err != nil {
		return nil, nil, err
	}
	rest, err := rows.end()
	return result, rest, err
}

// resolve turns the revision of a request into the one to read.
func (s *state) resolve(asked kv.Revision) (kv.Revision, error) {
	switch {
	case asked > s.revision:
		return 0, ErrFutureRevision
	case asked <= 0:
		return s.revision, nil
	case asked < s.compacted:
		return 0, ErrCompacted
	}
	return asked, nil
}

// answer carries q out on src, whose revision has been chosen, and puts the rows into c. Result.Revision is the caller's to set.
func answer(src source, q *kv.RangeRequest, c *collector) (*kv.RangeResult, error) {
	result := new(kv.RangeResult)
	if q.IsEmpty() {
		return result, nil
	}
	if q.IsSingle() {
		return result, answerOne(src, q, c, result)
	}
	lo, hi := q.Bounds()
	if q.CountOnly {
		n, err := src.count(lo, hi)
		result.Count = n
		return result, err
	}
	if q.SortTarget == kv.SortByKey && q.SortOrder != kv.SortDescend {
		return result, answerInOrder(src, q, c, result)
	}
	return result, answerSorted(src, q, c, result)
}

func answerOne(src source, q *kv.RangeRequest, c *collector, result *kv.RangeResult) error {
	row, err := src.get(q.Key)
	if err != nil || row == nil {
		return err
	}
	result.Count = 1
	if q.CountOnly {
		return nil
	}
	ok, err := passes(q, row)
	if err != nil || !ok {
		return err
	}
	return c.take(&result.Rows, row)
}

// answerInOrder streams rows in key order and stops behind the limit.
func answerInOrder(src source, q *kv.RangeRequest, c *collector, result *kv.RangeResult) error {
	lo, hi := q.Bounds()
	seen := int64(0)
	var fault error
	err := src.visit(lo, hi, func(row []byte) bool {
		seen++
		ok, err := passes(q, row)
		if err == nil && ok {
			if q.Limit > 0 && c.taken == q.Limit {
				result.More = true
				return false
			}
			err = c.take(&result.Rows, row)
		}
		fault = err
		return err == nil
	})
	if err = cmp.Or(err, fault); err != nil {
		return err
	}
	result.Count = seen
	if result.More {
		result.Count, err = src.count(lo, hi)
	}
	return err
}

// sortable is a row that waits to be sorted.
type sortable struct {
	v   kv.KeyValue // aliases row
	row []byte
}

// answerSorted collects the rows, sorts and cuts them. Equal rows stay in key order: etcd promises nothing here, but
// every member gives the same answer.
func answerSorted(src source, q *kv.RangeRequest, c *collector, result *kv.RangeResult) error {
	lo, hi := q.Bounds()
	// As etcd does it: without an order only the first keys are read, and those are sorted.
	firstOnly := q.Limit > 0 && q.SortOrder == kv.SortNone && !hasFilters(q)
	var rows []sortable
	seen, cut := int64(0), false
	var fault error
	err := src.visit(lo, hi, func(row []byte) bool {
		seen++
		ok, err := passes(q, row)
		if err != nil || !ok {
			fault = err
			return err == nil
		}
		r := sortable{row: bytes.Clone(row)}
		if fault = c.hold(&r); fault != nil {
			return false
		}
		if r.v, fault = kv.DecodeKeyValue(r.row); fault != nil {
			return false
		}
		rows = append(rows, r)
		if firstOnly && int64(len(rows)) > q.Limit {
			return false
		}
		// Of a long range only the rows that can still be in the answer are kept.
		if q.Limit > 0 && !firstOnly && int64(len(rows)) >= 2*min(q.Limit, sortKeepMax)+sortSlack {
			rows, cut = sortAndCut(q, rows, cut)
			c.holdOnly(rows)
		}
		return true
	})
	if err = cmp.Or(err, fault); err != nil {
		return err
	}
	stopped := firstOnly && int64(len(rows)) > q.Limit
	rows, result.More = sortAndCut(q, rows, cut)
	for i := range rows {
		if err := appendRow(&result.Rows, q, rows[i].row); err != nil {
			return err
		}
	}
	result.Count = seen
	if stopped {
		result.Count, err = src.count(lo, hi)
	}
	return err
}

// A sorted answer with a limit holds at most about twice the limit of rows while it reads; the slack keeps small
// limits from sorting at every row, and the maximum keeps the sum from overflowing.
const (
	sortSlack   = 1024
	sortKeepMax = 1 << 40
)

// sortAndCut brings rows into the order of q and cuts them to its limit. cut says whether any was cut before.
func sortAndCut(q *kv.RangeRequest, rows []sortable, cut bool) ([]sortable, bool) {
	slices.SortStableFunc(rows, func(a, b sortable) int {
		c := compareBy(q.SortTarget, &a.v, &b.v)
		if q.SortOrder == kv.SortDescend {
			return -c
		}
		return c
	})
	if q.Limit > 0 && int64(len(rows)) > q.Limit {
		clear(rows[q.Limit:])
		return rows[:q.Limit], true
	}
	return rows, cut
}

func compareBy(target kv.SortTarget, a, b *kv.KeyValue) int {
	switch target {
	case kv.SortByKey:
		return bytes.Compare(a.Key, b.Key)
	case kv.SortByVersion:
		return cmp.Compare(a.Version, b.Version)
	case kv.SortByCreate:
		return cmp.Compare(a.Create, b.Create)
	case kv.SortByMod:
		return cmp.Compare(a.Mod, b.Mod)
	case kv.SortByValue:
		return bytes.Compare(a.Value, b.Value)
	}
	panic(fmt.Sprintf("mvcc: sort target %d was let through", target))
}

func hasFilters(q *kv.RangeRequest) bool {
	return q.MinMod != 0 || q.MaxMod != 0 || q.MinCreate != 0 || q.MaxCreate != 0
}

// passes tells whether row is within the filters of q.
func passes(q *kv.RangeRequest, row []byte) (bool, error) {
	if !hasFilters(q) {
		return true, nil
	}
	v, err := kv.DecodeKeyValue(row)
	if err != nil {
		return false, err
	}
	return (q.MaxMod == 0 || v.Mod <= q.MaxMod) && (q.MinMod == 0 || v.Mod >= q.MinMod) &&
		(q.MaxCreate == 0 || v.Create <= q.MaxCreate) && (q.MinCreate == 0 || v.Create >= q.MinCreate), nil
}

// appendRow adds row as q wants to see it.
func appendRow(rows *kv.Rows, q *kv.RangeRequest, row []byte) error {
	if !q.KeysOnly {
		rows.Append(row)
		return nil
	}
	v, err := withoutValue(q, row)
	if err != nil {
		return err
	}
	rows.AppendKeyValue(&v)
	return nil
}

// withoutValue is row where only keys are asked for. The lease goes with the value: etcd answers from its index then, which has
// no leases, unless it has to read the values to sort by them.
func withoutValue(q *kv.RangeRequest, row []byte) (kv.KeyValue, error) {
	v, err := kv.DecodeKeyValue(row)
	v.Value = nil
	if q.SortTarget != kv.SortByValue {
		v.Lease = 0
	}
	return v, err
}
