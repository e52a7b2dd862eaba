package apply

import (
	"holdfast/kv"
	"holdfast/membership"
)

// What a request costs of the quota besides its keys and values, in bytes, as in etcd.
const (
	costPut   = 256
	costLease = 64
)

// CostPut is what a put takes of the quota.
func CostPut(q *kv.PutRequest) int64 { return int64(costPut + len(q.Key) + len(q.Value)) }

// CostTxn is what a transaction may take of the quota: that of its larger branch. One that only reads or deletes costs
// nothing.
func CostTxn(q *kv.TxnRequest) int64 { return max(costOps(q.Success), costOps(q.Failure)) }

// CostLease is what a lease takes of the quota.
func CostLease() int64 { return costLease }

func costOps(ops []kv.Op) int64 {
	var cost int64
	for i := range ops {
		switch {
		case ops[i].Put != nil:
			cost += CostPut(ops[i].Put)
		case ops[i].Txn != nil:
			cost += CostTxn(ops[i].Txn)
		}
	}
	return cost
}

func costCommand(c *kv.Command) int64 {
	switch {
	case c.Put != nil:
		return CostPut(c.Put)
	case c.Txn != nil:
		return CostTxn(c.Txn)
	case c.LeaseGrant != nil:
		return costLease
	}
	return 0
}

// HasRoom tells whether a request of this cost stays below the quota. Unlike the other methods it may be called from any
// goroutine.
func (m *Machine) HasRoom(cost int64) bool {
	return cost == 0 || m.Quota <= 0 || m.Keys.SizeInUse()+cost < m.Quota
}

func (r *run) hasRoomFor(c *kv.Command) bool { return r.Quota <= 0 || r.HasRoom(costCommand(c)) }

// refused says why the alarms in force do not let a command pass.
func (r *run) refused(c *kv.Command) error {
	if len(r.Cluster.Alarms(membership.AlarmNone)) == 0 {
		return nil
	}
	changesKeys := c.Put != nil || c.DeleteRange != nil || c.Txn != nil || c.Compact != nil || c.LeaseGrant != nil || c.LeaseRevoke != nil
	if changesKeys && r.Cluster.HasAlarm(membership.AlarmCorrupt) {
		return ErrCorrupt
	}
	if costCommand(c) > 0 && r.Cluster.HasAlarm(membership.AlarmNoSpace) {
		return ErrNoSpace
	}
	return nil
}
