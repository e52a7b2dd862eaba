package membership

import "holdfast/storage"

// Refound makes founders the members, as if nobody else had ever been one. Version and alarms stay.
func (c *Cluster) Refound(b *storage.Batch, founders []Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.members {
		b.Delete(memberKey(storage.TableMember, id))
	}
	for id := range c.removed {
		b.Delete(memberKey(storage.TableMemberRemoved, id))
	}
	clear(c.members)
	clear(c.removed)
	for i := range founders {
		m := founders[i].clone()
		c.store(b, &m)
	}
}
