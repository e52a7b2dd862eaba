package sim

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/mvcc"
)

// state is what the cluster holds at one moment: all keys with all they show, and the leases. It is never changed; a command
// makes a new one. This is the model that everything is judged by, so it is as plain as it can be.
type state struct {
	revision, compacted kv.Revision
	keys                map[string]kv.KeyValue
	leases              map[kv.LeaseID]int64 // whole life
	users               *users
}

func emptyState() *state {
	return &state{revision: 1, compacted: -1, keys: map[string]kv.KeyValue{}, leases: map[kv.LeaseID]int64{}, users: nobody()}
}

// result is what a command or a question is answered.
type result struct {
	err      error
	revision kv.Revision
	text     string // the rest, written out
}

func (r result) String() string {
	return fmt.Sprintf("revision %d: %s (error: %v)", r.revision, r.text, r.err)
}

func (r result) equal(o result) bool {
	return r.revision == o.revision && r.text == o.text && (errors.Is(r.err, o.err) || errors.Is(o.err, r.err))
}

// change is one event.
type change struct {
	deleted   bool
	now, prev kv.KeyValue // prev.Version is 0 if there was none
}

// next is a state in the making.
type next struct {
	*state
	changes []change
}

// apply carries out a command.
func (s *state) apply(c *kv.Command) (*state, result, []change) {
	n := &next{state: &state{revision: s.revision, compacted: s.compacted, keys: maps.Clone(s.keys), leases: maps.Clone(s.leases), users: s.users}}
	text, err := n.command(c)
	if err != nil {
		return s, result{err: err, revision: s.revision}, nil
	}
	if len(n.changes) > 0 {
		n.revision++
	}
	return n.state, result{revision: n.revision, text: text}, n.changes
}

func (n *next) command(c *kv.Command) (string, error) {
	if err := n.users.permit(c.Username, c.AuthRevision, n.wants(c)); err != nil {
		return "", err
	}
	switch {
	case c.Cold != nil:
		return "", n.manage(c)
	case c.Put != nil:
		if err := n.checkPut(c.Put); err != nil {
			return "", err
		}
		return n.put(c.Put), nil
	case c.DeleteRange != nil:
		return n.delete(c.DeleteRange), nil
	case c.Txn != nil:
		return n.txn(c.Txn)
	case c.Compact != nil:
		return "", n.compact(c.Compact.Revision)
	case c.LeaseGrant != nil:
		return n.grant(c.LeaseGrant)
	case c.LeaseRevoke != nil:
		return "", n.revoke(c.LeaseRevoke.ID)
	}
	return "", nil
}

func (n *next) checkPut(q *kv.PutRequest) error {
	if _, found := n.leases[q.Lease]; q.Lease != 0 && !found {
		return lease.ErrNotFound
	}
	return nil
}

func (n *next) put(q *kv.PutRequest) string {
	prev := n.keys[string(q.Key)]
	now := kv.KeyValue{
		Key: bytes.Clone(q.Key), Value: bytes.Clone(q.Value), Lease: q.Lease,
		Mod: n.revision + 1, Create: prev.Create, Version: prev.Version + 1,
	}
	if prev.Version == 0 {
		now.Create = now.Mod
	}
	n.keys[string(q.Key)] = now
	n.changes = append(n.changes, change{now: now, prev: prev})
	if q.PrevKV && prev.Version > 0 {
		return "put before " + showKey(prev)
	}
	return "put"
}

func (n *next) delete(q *kv.DeleteRangeRequest) string {
	found := n.find(q.KeyRange)
	text := fmt.Sprintf("deleted %d", len(found))
	for _, prev := range found {
		delete(n.keys, string(prev.Key))
		n.changes = append(n.changes, change{deleted: true, now: kv.KeyValue{Key: prev.Key, Mod: n.revision + 1}, prev: prev})
		if q.PrevKV {
			text += " " + showKey(prev)
		}
	}
	return text
}

func (n *next) compact(rev kv.Revision) error {
	switch {
	case rev <= n.compacted:
		return mvcc.ErrCompacted
	case rev > n.revision:
		return mvcc.ErrFutureRevision
	}
	n.compacted = rev
	return nil
}

func (n *next) grant(q *kv.LeaseGrantRequest) (string, error) {
	if _, found := n.leases[q.ID]; found {
		return "", lease.ErrExists
	}
	n.leases[q.ID] = max(q.TTL, leaseTTLMin)
	return showLease(q.ID, n.leases[q.ID]), nil
}

func showLease(id kv.LeaseID, ttl int64) string {
	return fmt.Sprintf("lease %d of %d s", int64(id), ttl)
}

func (n *next) revoke(id kv.LeaseID) error {
	if _, found := n.leases[id]; !found {
		return lease.ErrNotFound
	}
	delete(n.leases, id)
	for _, key := range sortedKeys(n.keys) {
		if n.keys[key].Lease == id {
			n.delete(&kv.DeleteRangeRequest{KeyRange: kv.KeyRange{Key: []byte(key)}})
		}
	}
	return nil
}

// branch is what a transaction does, those nested in it included.
type branch struct {
	text   string
	ops    []kv.Op
	nested []branch // of the ops that are transactions, in order
}

// txn decides on the state before its first operation, and its operations see each other.
func (n *next) txn(q *kv.TxnRequest) (string, error) {
	b := n.decide(q)
	if err := n.checkBranch(b); err != nil {
		return "", err
	}
	return n.execute(b), nil
}

func (n *next) decide(q *kv.TxnRequest) branch {
	b := branch{text: "success", ops: q.Success}
	if slices.ContainsFunc(q.Compare, func(c kv.Compare) bool { return !n.holds(&c) }) {
		b = branch{text: "failure", ops: q.Failure}
	}
	for i := range b.ops {
		if b.ops[i].Txn != nil {
			b.nested = append(b.nested, n.decide(b.ops[i].Txn))
		}
	}
	return b
}

func (n *next) checkBranch(b branch) error {
	for i := range b.ops {
		if b.ops[i].Put != nil {
			if err := n.checkPut(b.ops[i].Put); err != nil {
				return err
			}
		}
	}
	for _, inner := range b.nested {
		if err := n.checkBranch(inner); err != nil {
			return err
		}
	}
	return nil
}

func (n *next) execute(b branch) string {
	text := b.text
	for i := range b.ops {
		switch op := &b.ops[i]; {
		case op.Put != nil:
			text += "; " + n.put(op.Put)
		case op.DeleteRange != nil:
			text += "; " + n.delete(op.DeleteRange)
		case op.Range != nil:
			text += "; " + n.answer(op.Range)
		case op.Txn != nil:
			text += "; {" + n.execute(b.nested[0]) + "}"
			b.nested = b.nested[1:]
		}
	}
	return text
}

func (s *state) holds(c *kv.Compare) bool {
	v := s.keys[string(c.Key)]
	var order int
	switch c.Target {
	case kv.CompareVersion:
		order = cmp.Compare(v.Version, c.Number)
	case kv.CompareCreate:
		order = cmp.Compare(int64(v.Create), c.Number)
	case kv.CompareMod:
		order = cmp.Compare(int64(v.Mod), c.Number)
	case kv.CompareLease:
		order = cmp.Compare(int64(v.Lease), c.Number)
	case kv.CompareValue:
		if v.Version == 0 {
			return false
		}
		order = bytes.Compare(v.Value, c.Value)
	}
	switch c.Result {
	case kv.CompareEqual:
		return order == 0
	case kv.CompareNotEqual:
		return order != 0
	case kv.CompareGreater:
		return order > 0
	default:
		return order < 0
	}
}

func (s *state) find(r kv.KeyRange) []kv.KeyValue {
	var found []kv.KeyValue
	for _, key := range sortedKeys(s.keys) {
		if r.Contains([]byte(key)) {
			found = append(found, s.keys[key])
		}
	}
	return found
}

// answer answers a range at this state.
func (s *state) answer(q *kv.RangeRequest) string {
	found := s.find(q.KeyRange)
	count, more := len(found), false
	if q.Limit > 0 && int64(count) > q.Limit {
		found, more = found[:q.Limit], true
	}
	var rows []string
	for _, v := range found {
		rows = append(rows, showKey(v))
	}
	return showRange(int64(count), more, rows)
}

func showRange(count int64, more bool, rows []string) string {
	return fmt.Sprintf("%d more %v [%s]", count, more, strings.Join(rows, " "))
}

// showKey writes out a key; of a long value the beginning names it.
func showKey(v kv.KeyValue) string {
	return fmt.Sprintf("%s=%.12s(%d)@%d/%d/%d/%d", v.Key, v.Value, len(v.Value), v.Create, v.Mod, v.Version, int64(v.Lease))
}

func showEncoded(encoded []byte) string {
	v, err := kv.DecodeKeyValue(encoded)
	if err != nil {
		return err.Error()
	}
	return showKey(v)
}

func showRows(r *kv.Rows) []string {
	var rows []string
	for encoded := range r.All() {
		rows = append(rows, showEncoded(encoded))
	}
	return rows
}

// showResult writes out what a member answers to a command, in the words of the model.
func showResult(r *apply.Result) result {
	shown := result{err: r.Err, revision: r.Revision}
	switch {
	case r.Err != nil:
	case r.Put != nil:
		shown.text = showPut(r.Put)
	case r.DeleteRange != nil:
		shown.text = showDelete(r.DeleteRange)
	case r.Txn != nil:
		shown.text = showTxn(r.Txn)
	case r.Lease.ID != 0:
		shown.text = showLease(r.Lease.ID, r.Lease.TTL)
	}
	return shown
}

func showPut(r *kv.PutResult) string {
	if r.Prev != nil {
		return "put before " + showEncoded(r.Prev)
	}
	return "put"
}

func showDelete(r *kv.DeleteRangeResult) string {
	return strings.Join(append([]string{fmt.Sprintf("deleted %d", r.Deleted)}, showRows(&r.Prev)...), " ")
}

func showTxn(r *kv.TxnResult) string {
	text := "failure"
	if r.Succeeded {
		text = "success"
	}
	for _, op := range r.Responses {
		switch {
		case op.Put != nil:
			text += "; " + showPut(op.Put)
		case op.DeleteRange != nil:
			text += "; " + showDelete(op.DeleteRange)
		case op.Range != nil:
			text += "; " + showRange(op.Range.Count, op.Range.More, showRows(&op.Range.Rows))
		case op.Txn != nil:
			text += "; {" + showTxn(op.Txn) + "}"
		}
	}
	return text
}
