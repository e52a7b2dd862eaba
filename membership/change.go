package membership

import (
	"fmt"
	"slices"

	"holdfast/kv"
	"holdfast/storage"
)

// ChangeKind is what a configuration change does.
type ChangeKind int

// The kinds of changes.
const (
	AddVoter ChangeKind = iota
	AddLearner
	Promote // makes a voter of a learner
	Remove
	Update // sets a member's peer URLs
)

// Change is one configuration change out of the log. Promote and Remove use only the member's id.
type Change struct {
	Kind   ChangeKind
	Member Member
}

// Check says with an error why a change is refused in the present state.
func (c *Cluster) Check(change Change) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m := &change.Member
	present := c.members[m.ID]
	if c.removed[m.ID] {
		return ErrRemoved
	}
	switch change.Kind {
	case AddVoter, AddLearner:
		if present != nil {
			return ErrExists
		}
		if err := c.checkURLs(m); err != nil {
			return err
		}
		if change.Kind == AddLearner && c.learners() >= c.learnersMax {
			return ErrTooManyLearners
		}
	case Promote:
		if present == nil {
			return ErrNotFound
		}
		if !present.IsLearner {
			return ErrNotLearner
		}
	case Remove:
		if present == nil {
			return ErrNotFound
		}
		if !present.IsLearner && len(c.members)-c.learners() == 1 {
			return ErrLastVoter
		}
	case Update:
		if present == nil {
			return ErrNotFound
		}
		return c.checkURLs(m)
	default:
		panic(fmt.Sprintf("membership: no change of kind %d", change.Kind))
	}
	return nil
}

func (c *Cluster) learners() int {
	n := 0
	for _, m := range c.members {
		if m.IsLearner {
			n++
		}
	}
	return n
}

// checkURLs asks that no other member has one of m's peer URLs.
func (c *Cluster) checkURLs(m *Member) error {
	for id, other := range c.members {
		if id == m.ID {
			continue
		}
		for _, url := range m.PeerURLs {
			if slices.Contains(other.PeerURLs, url) {
				return ErrPeerURLExists
			}
		}
	}
	return nil
}

// Apply carries out a change that Check has let pass.
func (c *Cluster) Apply(b *storage.Batch, change Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := change.Member.clone()
	switch change.Kind {
	case AddVoter, AddLearner:
		m.IsLearner = change.Kind == AddLearner
		c.store(b, &m)
	case Promote:
		promoted := c.members[m.ID].clone()
		promoted.IsLearner = false
		c.store(b, &promoted)
	case Remove:
		delete(c.members, m.ID)
		c.removed[m.ID] = true
		b.Delete(memberKey(storage.TableMember, m.ID))
		b.Set(memberKey(storage.TableMemberRemoved, m.ID), nil)
	case Update:
		updated := c.members[m.ID].clone()
		updated.PeerURLs = m.PeerURLs
		c.store(b, &updated)
	}
}

// Raise sets an alarm; one that is set already stays.
func (c *Cluster) Raise(b *storage.Batch, a Alarm) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, found := slices.BinarySearchFunc(c.alarms, a, compareAlarms); !found {
		c.alarms = slices.Insert(slices.Clone(c.alarms), at, a)
		b.Set(alarmKey(a), nil)
	}
}

// Disarm takes an alarm back and tells whether it was set.
func (c *Cluster) Disarm(b *storage.Batch, a Alarm) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, found := slices.BinarySearchFunc(c.alarms, a, compareAlarms)
	if found {
		c.alarms = slices.Delete(slices.Clone(c.alarms), at, at+1)
		b.Delete(alarmKey(a))
	}
	return found
}

// Alarms are the alarms of a type, or all for AlarmNone. The slice is not to be changed.
func (c *Cluster) Alarms(t AlarmType) []Alarm {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t == AlarmNone {
		return c.alarms
	}
	var of []Alarm
	for _, a := range c.alarms {
		if a.Type == t {
			of = append(of, a)
		}
	}
	return of
}

// HasAlarm tells whether any member has raised an alarm of the type.
func (c *Cluster) HasAlarm(t AlarmType) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.ContainsFunc(c.alarms, func(a Alarm) bool { return a.Type == t })
}

func compareAlarms(a, b Alarm) int {
	if a.Type != b.Type {
		return int(a.Type) - int(b.Type)
	}
	switch {
	case a.Member < b.Member:
		return -1
	case a.Member > b.Member:
		return 1
	}
	return 0
}

// Voters is the number of members that vote.
func (c *Cluster) Voters() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.members) - c.learners()
}

// IsLearner tells whether the member is one that does not vote.
func (c *Cluster) IsLearner(id kv.MemberID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m := c.members[id]
	return m != nil && m.IsLearner
}
