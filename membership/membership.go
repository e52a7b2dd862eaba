// Package membership keeps who belongs to the cluster: members and learners, their addresses, members that were removed,
// the version the cluster runs at or goes back to, and the alarms its members have raised.
//
// It is part of the replicated state: every change comes out of the raft log and is written in the batch of its entry.
// What is asked of the outside world (is a member connected, has a learner caught up) is decided before an entry is
// proposed and is not known here.
//
//	Shape    table member:         id (8 B, big endian) -> JSON of Member
//	         table member_removed: id (8 B, big endian) -> empty
//	         table cluster:        "version" -> text such as 3.7.0, "downgrade" -> JSON of Downgrade
//	         table alarm:          type (4 B, big endian) member id (8 B, big endian) -> empty
//	Errors   ErrRemoved, ErrExists, ErrNotFound, ErrPeerURLExists, ErrNotLearner, ErrTooManyLearners, ErrLastVoter
//	Source   etcd v3 API, services Cluster and Maintenance; etcd's derivation of ids from URLs and token
package membership

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"holdfast/kv"
	"holdfast/storage"
)

// The reasons why a change of the membership is refused.
var (
	// ErrRemoved says that the id belonged to a member that was removed; ids are never used again.
	ErrRemoved = errors.New("membership: ID removed")
	// ErrExists says that a member with the id is there already.
	ErrExists = errors.New("membership: ID exists")
	// ErrNotFound says that no member has the id.
	ErrNotFound = errors.New("membership: ID not found")
	// ErrPeerURLExists says that another member has one of the peer URLs.
	ErrPeerURLExists = errors.New("membership: peerURL exists")
	// ErrNotLearner says that a member to be promoted votes already.
	ErrNotLearner = errors.New("membership: can only promote a learner member")
	// ErrTooManyLearners says that the cluster has as many learners as it may.
	ErrTooManyLearners = errors.New("membership: too many learner members in cluster")
	// ErrLastVoter says that nobody who votes would be left. raft, and etcd with it, ends at such an entry each time it
	// meets it.
	ErrLastVoter = errors.New("membership: the last voting member cannot be removed")
)

// Member is one configured node. The JSON form is etcd's: it is the context of a configuration change in the log and the
// row of a member in a database file.
type Member struct {
	ID        kv.MemberID `json:"id"`
	PeerURLs  []string    `json:"peerURLs"`
	IsLearner bool        `json:"isLearner,omitempty"`
	// Name and ClientURLs are published by the member itself once it runs; before that they are empty.
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// clone gives a copy that shares no slice with m.
func (m *Member) clone() Member {
	c := *m
	c.PeerURLs, c.ClientURLs = slices.Clone(m.PeerURLs), slices.Clone(m.ClientURLs)
	return c
}

// AlarmType is the kind of an alarm (etcdserverpb.AlarmType).
type AlarmType int32

// The alarms. AlarmNone stands for all of them in a question.
const (
	AlarmNone    AlarmType = 0
	AlarmNoSpace AlarmType = 1
	AlarmCorrupt AlarmType = 2
)

func (t AlarmType) String() string {
	switch t {
	case AlarmNone:
		return "NONE"
	case AlarmNoSpace:
		return "NOSPACE"
	case AlarmCorrupt:
		return "CORRUPT"
	}
	return fmt.Sprint(int32(t))
}

// Alarm is one alarm that a member has raised.
type Alarm struct {
	Member kv.MemberID
	Type   AlarmType
}

// Cluster is the membership as this member has applied it. Changes come from one goroutine, each with the batch that makes
// it durable; questions may come from any.
type Cluster struct {
	learnersMax int

	mu        sync.RWMutex // guards the fields below
	members   map[kv.MemberID]*Member
	removed   map[kv.MemberID]bool
	version   string
	downgrade *Downgrade // nil until one was asked for; never changed, only replaced
	alarms    []Alarm    // in the order of type, then member
}

// Load reads the membership that a view of the store holds. learnersMax bounds how many learners a cluster may have.
func Load(view storage.View, learnersMax int) (*Cluster, error) {
	c := &Cluster{learnersMax: learnersMax, members: map[kv.MemberID]*Member{}, removed: map[kv.MemberID]bool{}}
	for _, load := range []func(storage.View) error{c.loadMembers, c.loadRemoved, c.loadVersion, c.loadDowngrade, c.loadAlarms} {
		if err := load(view); err != nil {
			return nil, fmt.Errorf("load membership: %w", err)
		}
	}
	return c, nil
}

// Replace puts the membership that next holds in the place of this one. next must not be used any more.
func (c *Cluster) Replace(next *Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members, c.removed, c.alarms = next.members, next.removed, next.alarms
	c.version, c.downgrade = next.version, next.downgrade
}

func (c *Cluster) loadMembers(view storage.View) error {
	return view.Each(storage.TableMember, func(body, value []byte) error {
		m := new(Member)
		if err := json.Unmarshal(value, m); err != nil {
			return fmt.Errorf("member %x: %w", body, err)
		}
		c.members[m.ID] = m
		return nil
	})
}

func (c *Cluster) loadRemoved(view storage.View) error {
	return view.Each(storage.TableMemberRemoved, func(body, _ []byte) error {
		if len(body) != 8 {
			return fmt.Errorf("removed member with an id of %d bytes", len(body))
		}
		c.removed[kv.MemberID(binary.BigEndian.Uint64(body))] = true
		return nil
	})
}

func (c *Cluster) loadVersion(view storage.View) error {
	value, _, err := view.Get(versionKey())
	c.version = string(value)
	return err
}

func (c *Cluster) loadAlarms(view storage.View) error {
	return view.Each(storage.TableAlarm, func(body, _ []byte) error {
		if len(body) != 12 {
			return fmt.Errorf("alarm in %d bytes", len(body))
		}
		c.alarms = append(c.alarms, Alarm{
			Type:   AlarmType(binary.BigEndian.Uint32(body)),
			Member: kv.MemberID(binary.BigEndian.Uint64(body[4:])),
		})
		return nil
	})
}

func memberKey(t storage.Table, id kv.MemberID) []byte {
	return t.Key(binary.BigEndian.AppendUint64(nil, uint64(id)))
}

func versionKey() []byte { return storage.TableCluster.Key([]byte("version")) }

func alarmKey(a Alarm) []byte {
	return storage.TableAlarm.Key(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(a.Type)), uint64(a.Member)))
}

func (c *Cluster) store(b *storage.Batch, m *Member) {
	row, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("membership: member %v has no JSON form: %v", m.ID, err))
	}
	c.members[m.ID] = m
	b.Set(memberKey(storage.TableMember, m.ID), row)
}

// Members are all members, learners included, in the order of their ids.
func (c *Cluster) Members() []Member {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]Member, 0, len(c.members))
	for _, m := range c.members {
		all = append(all, m.clone())
	}
	slices.SortFunc(all, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}

// Member finds a member.
func (c *Cluster) Member(id kv.MemberID) (Member, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if m := c.members[id]; m != nil {
		return m.clone(), true
	}
	return Member{}, false
}

// Removed tells whether a member with the id was once removed.
func (c *Cluster) Removed(id kv.MemberID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.removed[id]
}

// RemovedMembers are the ids of all members that were removed, in order.
func (c *Cluster) RemovedMembers() []kv.MemberID {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ids := make([]kv.MemberID, 0, len(c.removed))
	for id := range c.removed {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Version is the version the cluster runs at, such as "3.7.0"; empty while it is not decided.
func (c *Cluster) Version() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.version
}

// SetVersion decides the version the cluster runs at.
func (c *Cluster) SetVersion(b *storage.Batch, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = version
	b.Set(versionKey(), []byte(version))
}

// SetAttributes publishes a member's name and client URLs. An unknown member is ignored: it was removed in between.
func (c *Cluster) SetAttributes(b *storage.Batch, id kv.MemberID, name string, clientURLs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[id]; m != nil {
		m := m.clone()
		m.Name, m.ClientURLs = name, slices.Clone(clientURLs)
		c.store(b, &m)
	}
}
