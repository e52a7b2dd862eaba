package api

import (
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/kv"
)

// What is wrong with a request by itself, whatever the state: the checks that etcd makes before anything is proposed.

func checkRange(q *kv.RangeRequest) error {
	if len(q.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	if q.SortOrder < kv.SortNone || q.SortOrder > kv.SortDescend || q.SortTarget < kv.SortByKey || q.SortTarget > kv.SortByValue {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

func checkRangeStream(q *kv.RangeRequest) error {
	if err := checkRange(q); err != nil {
		return err
	}
	if q.SortOrder != kv.SortNone && (q.SortOrder != kv.SortAscend || q.SortTarget != kv.SortByKey) {
		return status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	}
	if q.MinMod != 0 || q.MaxMod != 0 || q.MinCreate != 0 || q.MaxCreate != 0 {
		return status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	}
	return nil
}

func checkPut(q *kv.PutRequest) error {
	switch {
	case len(q.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case q.IgnoreValue && len(q.Value) != 0:
		return rpctypes.ErrGRPCValueProvided
	case q.IgnoreLease && q.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return nil
}

func checkDelete(q *kv.DeleteRangeRequest) error {
	if len(q.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return nil
}

func checkTxn(q *kv.TxnRequest, opsMax int) error {
	if err := checkOps(q, opsMax); err != nil {
		return err
	}
	for _, ops := range [][]kv.Op{q.Success, q.Failure} {
		if len(ops) == 1 && ops[0].Txn == nil {
			continue // as in most: nothing to collide with
		}
		if _, err := collect(ops); err != nil {
			return err
		}
	}
	return nil
}

// checkOps checks each operation and their number: a nested transaction may use what its parent leaves.
func checkOps(q *kv.TxnRequest, opsMax int) error {
	n := max(len(q.Compare), len(q.Success), len(q.Failure))
	if n > opsMax {
		return rpctypes.ErrGRPCTooManyOps
	}
	for i := range q.Compare {
		if len(q.Compare[i].Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [][]kv.Op{q.Success, q.Failure} {
		for i := range ops {
			if err := checkOp(&ops[i], opsMax-n); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(op *kv.Op, opsMax int) error {
	switch {
	case op.Range != nil:
		return checkRange(op.Range)
	case op.Put != nil:
		return checkPut(op.Put)
	case op.DeleteRange != nil:
		return checkDelete(op.DeleteRange)
	case op.Txn != nil:
		return checkOps(op.Txn, opsMax)
	}
	return rpctypes.ErrGRPCKeyNotFound
}

// writes are the keys that a list of operations puts and the ranges it deletes. No key may be put twice, nor put and
// deleted, as far as etcd notices: it does not see a delete without an upper bound, nor one in a nested transaction that
// stands behind the put. What it lets pass we let pass.
type writes struct {
	puts    map[string]bool
	deletes spans
}

// put adds the put of a key. allowed are keys that may be there already: those of the other branch of the same nested
// transaction, of which only one runs.
func (w *writes) put(key string, allowed map[string]bool) error {
	if (w.puts[key] && !allowed[key]) || w.deletes.contain(key) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	w.puts[key] = true
	return nil
}

func collect(ops []kv.Op) (writes, error) {
	w := writes{puts: map[string]bool{}, deletes: deletedBy(ops)}
	for i := range ops {
		if ops[i].Txn != nil {
			if err := w.nested(ops[i].Txn); err != nil {
				return w, err
			}
		}
	}
	for i := range ops {
		if ops[i].Put != nil {
			if err := w.put(string(ops[i].Put.Key), nil); err != nil {
				return w, err
			}
		}
	}
	return w, nil
}

func (w *writes) nested(q *kv.TxnRequest) error {
	success, err := collect(q.Success)
	if err != nil {
		return err
	}
	failure, err := collect(q.Failure)
	if err != nil {
		return err
	}
	for key := range success.puts {
		if err := w.put(key, nil); err != nil {
			return err
		}
	}
	for key := range failure.puts {
		if err := w.put(key, success.puts); err != nil {
			return err
		}
	}
	w.deletes = w.deletes.and(success.deletes).and(failure.deletes)
	return nil
}
