package apply

import (
	"holdfast/kv"
	"holdfast/lease"
	"holdfast/mvcc"
)

// step is one command at work on the keys, with the leases they hang on.
type step struct {
	*run
	*mvcc.Command
	id uint64 // of the request
}

func (r *run) begin(c *kv.Command) step {
	return step{run: r, Command: r.keys.Command(), id: c.ID}
}

// wanted tells whether the answer goes to anybody. It takes a lock, so only what costs more asks.
func (s *step) wanted() bool { return s.id != 0 && s.Wanted(s.id) }

func (r *run) put(c *kv.Command) Result {
	s := r.begin(c)
	if err := s.checkPut(c.Put); err != nil {
		return Result{Err: err, Revision: s.End()}
	}
	answer := s.applyPut(c.Put)
	return Result{Put: answer, Revision: s.End()}
}

// checkPut asks that the lease exists, and the key where something of it is to stay.
func (s *step) checkPut(q *kv.PutRequest) error {
	if q.Lease != 0 {
		if _, found := s.Leases.Lookup(q.Lease); !found {
			return lease.ErrNotFound
		}
	}
	if q.IgnoreValue || q.IgnoreLease {
		if _, found := s.Get(q.Key); !found {
			return ErrKeyNotFound
		}
	}
	return nil
}

// applyPut sets a key that checkPut has let pass.
func (s *step) applyPut(q *kv.PutRequest) *kv.PutResult {
	value, id := q.Value, q.Lease
	if q.IgnoreValue || q.IgnoreLease {
		present := s.present(q.Key)
		if q.IgnoreValue {
			value = present.Value
		}
		if q.IgnoreLease {
			id = present.Lease
		}
	}
	tells := q.PrevKV && s.wanted()
	prev, from := s.Set(q.Key, value, id, tells)
	s.move(q.Key, from, id)
	answer := &kv.PutResult{Revision: s.Revision()}
	if tells {
		answer.Prev = prev
	}
	return answer
}

// present is the current version of a key that checkPut has found. It is empty where the same transaction has deleted the
// key since, and after a storage failure, which ends the run at its commit.
func (s *step) present(key []byte) kv.KeyValue {
	encoded, found := s.Get(key)
	if !found {
		return kv.KeyValue{}
	}
	return decode(encoded)
}

// decode reads a KeyValue out of the store, which wrote it itself.
func decode(encoded []byte) kv.KeyValue {
	v, err := kv.DecodeKeyValue(encoded)
	if err != nil {
		panic("apply: the store holds a broken KeyValue: " + err.Error())
	}
	return v
}

// move hangs a key on another lease than that of its previous version.
func (s *step) move(key []byte, from, to kv.LeaseID) {
	if s.Leases.Len() > 0 {
		s.Leases.Move(s.batch, key, from, to)
	}
}

func (r *run) deleteRange(c *kv.Command) Result {
	s := r.begin(c)
	answer := s.applyDeleteRange(c.DeleteRange)
	return Result{DeleteRange: answer, Revision: s.End()}
}

func (s *step) applyDeleteRange(q *kv.DeleteRangeRequest) *kv.DeleteRangeResult {
	answer := &kv.DeleteRangeResult{Prev: kv.PrevRows()}
	keep, leases := q.PrevKV && s.wanted(), s.Leases.Len() > 0
	answer.Deleted = s.DeleteRange(q.KeyRange, func(prev []byte) {
		if keep {
			answer.Prev.Append(prev)
		}
		if leases {
			v := decode(prev)
			s.move(v.Key, v.Lease, 0)
		}
	})
	answer.Revision = s.Revision()
	return answer
}

func (r *run) leaseGrant(q *kv.LeaseGrantRequest) Result {
	granted, err := r.Leases.Grant(r.batch, q.ID, q.TTL)
	if err != nil {
		return Result{Err: err}
	}
	r.told = append(r.told, func() { r.Watch.Granted(granted) })
	return Result{Lease: granted}
}

// leaseRevoke ends a lease: the lease goes, and every key that hangs on it, at one revision.
func (r *run) leaseRevoke(id kv.LeaseID) Result {
	keys, err := r.Leases.Revoke(r.batch, id)
	if err != nil {
		return Result{Err: err}
	}
	command := r.keys.Command()
	for _, key := range keys {
		command.DeleteRange(kv.KeyRange{Key: key}, func([]byte) {})
	}
	r.told = append(r.told, func() { r.Watch.Revoked(id) })
	return Result{Revision: command.End()}
}

func (r *run) leaseCheckpoint(id kv.LeaseID, remaining int64) {
	r.Leases.Checkpoint(r.batch, id, remaining)
	if l, found := r.Leases.Lookup(id); found {
		r.told = append(r.told, func() { r.Watch.Checkpointed(l) })
	}
}
