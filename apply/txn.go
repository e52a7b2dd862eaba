package apply

import (
	"bytes"
	"cmp"
	"fmt"

	"holdfast/kv"
)

// A transaction runs in three passes: decide takes every branch, those of nested transactions included, on the state
// before the first write; check finds any reason to refuse it, so that a write that began always ends; and the
// operations run in order, each seeing the ones before it.

// view is what the first two passes read: the keys at one revision.
type view interface {
	Visit(r kv.KeyRange, each func(encoded []byte) bool)
	// Stands is the present version of key, all of it but the value, which may have to be read; one of zeros if there is none.
	Stands(key []byte) kv.KeyValue
	Revision() kv.Revision
}

// branch is the outcome of one transaction's compares and of those nested in the branch it takes.
type branch struct {
	succeeded bool
	ops       []kv.Op
	nested    []branch // one for each op that is a transaction, in order
}

func decide(v view, q *kv.TxnRequest) branch {
	b := branch{succeeded: holdAll(v, q.Compare), ops: q.Success}
	if !b.succeeded {
		b.ops = q.Failure
	}
	for i := range b.ops {
		if b.ops[i].Txn != nil {
			b.nested = append(b.nested, decide(v, b.ops[i].Txn))
		}
	}
	return b
}

func holdAll(v view, compares []kv.Compare) bool {
	for i := range compares {
		if !holds(v, &compares[i]) {
			return false
		}
	}
	return true
}

// holds asks a compare of every key in its range. Where there is none, a compare of the value fails and the others
// compare with zero.
func holds(v view, c *kv.Compare) bool {
	if c.IsSingle() && c.Target != kv.CompareValue {
		present := v.Stands(c.Key)
		return holdsFor(c, &present)
	}
	found, all := false, true
	v.Visit(c.KeyRange, func(encoded []byte) bool {
		found = true
		present := decode(encoded)
		all = holdsFor(c, &present)
		return all
	})
	if !found {
		return c.Target != kv.CompareValue && holdsFor(c, &kv.KeyValue{})
	}
	return all
}

func holdsFor(c *kv.Compare, v *kv.KeyValue) bool {
	var order int
	switch c.Target {
	case kv.CompareVersion:
		order = cmp.Compare(v.Version, c.Operand(kv.CompareVersion))
	case kv.CompareCreate:
		order = cmp.Compare(int64(v.Create), c.Operand(kv.CompareCreate))
	case kv.CompareMod:
		order = cmp.Compare(int64(v.Mod), c.Operand(kv.CompareMod))
	case kv.CompareLease:
		order = cmp.Compare(int64(v.Lease), c.Operand(kv.CompareLease))
	case kv.CompareValue:
		order = bytes.Compare(v.Value, c.Value)
	}
	switch c.Result {
	case kv.CompareEqual:
		return order == 0
	case kv.CompareNotEqual:
		return order != 0
	case kv.CompareGreater:
		return order > 0
	case kv.CompareLess:
		return order < 0
	}
	return true
}

// checks says why an operation of a transaction is refused.
type checks struct {
	revision func(kv.Revision) error    // of a range; 0 is the latest
	put      func(*kv.PutRequest) error // nil where puts cannot occur
}

func (c *checks) all(b *branch) error {
	nested := b.nested
	for i := range b.ops {
		var err error
		switch op := &b.ops[i]; {
		case op.Range != nil:
			err = c.revision(op.Range.Revision)
		case op.Put != nil:
			err = c.put(op.Put)
		case op.Txn != nil:
			err = c.all(&nested[0])
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) txn(c *kv.Command) Result {
	s := r.begin(c)
	b := decide(s.Command, c.Txn)
	check := checks{revision: s.CheckRevision, put: s.checkPut}
	if err := check.all(&b); err != nil {
		return Result{Err: err, Revision: s.End()}
	}
	answer := s.execute(&b)
	answer.Revision = s.Revision()
	return Result{Txn: answer, Revision: s.End()}
}

// puts is how many operations of the branch itself are puts.
func (b *branch) puts() (n int) {
	for i := range b.ops {
		if b.ops[i].Put != nil {
			n++
		}
	}
	return n
}

// execute runs the branch. The headers of nested transactions stay empty, as in etcd.
func (s *step) execute(b *branch) *kv.TxnResult {
	answer := &kv.TxnResult{Succeeded: b.succeeded, Responses: make([]kv.OpResult, 0, len(b.ops))}
	s.Expect(b.puts())
	nested := b.nested
	for i := range b.ops {
		var result kv.OpResult
		switch op := &b.ops[i]; {
		case op.Range != nil:
			result.Range = s.applyRange(op.Range)
		case op.Put != nil:
			result.Put = s.applyPut(op.Put)
		case op.DeleteRange != nil:
			result.DeleteRange = s.applyDeleteRange(op.DeleteRange)
		case op.Txn != nil:
			result.Txn = s.execute(&nested[0])
			nested = nested[1:]
		}
		answer.Responses = append(answer.Responses, result)
	}
	return answer
}

// applyRange reads within a transaction. The checks have let its revision pass, so it cannot fail but by the disk, which
// the run remembers until its commit.
func (s *step) applyRange(q *kv.RangeRequest) *kv.RangeResult {
	if !s.wanted() {
		return &kv.RangeResult{Revision: s.Revision()}
	}
	answer, err := s.Range(q)
	if err != nil {
		if s.keys.Err() == nil {
			panic(fmt.Sprintf("apply: range at revision %v passed the checks and failed: %v", q.Revision, err))
		}
		return &kv.RangeResult{Revision: s.Revision()}
	}
	return answer
}
