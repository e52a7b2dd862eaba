package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// settleTimeout bounds the time until members that have nothing to do are equal: the lives of short leases, extended by elections,
// and much for a machine with other work.
const settleTimeout = 40 * time.Second

// settle waits until all members hold the same and leases that nobody kept are gone, and returns the last revision.
func (c *cluster) settle(h *history) (last int64, err error) {
	for deadline := time.Now().Add(settleTimeout); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), settleTimeout/4)
		last, err = c.equal(ctx, h)
		cancel()
		switch {
		case err == nil:
			return last, nil
		case time.Now().After(deadline):
			return 0, fmt.Errorf("%s after the last request: %w", settleTimeout, err)
		}
	}
}

// view is what one member says of everything.
type view struct {
	rows     []event
	revision int64
	hash     hashed
	leases   []int64
	members  []string
	alarms   int
	leader   uint64
}

type hashed struct {
	revision, compacted int64
	sum                 uint32
}

// equal asks all members for everything and compares.
func (c *cluster) equal(ctx context.Context, h *history) (int64, error) {
	members := c.present()
	var first view
	for i, m := range members {
		v, err := m.view(ctx)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", m, err)
		}
		if err := c.checkView(ctx, m, v, h); err != nil {
			return 0, fmt.Errorf("%s: %w", m, err)
		}
		if i == 0 {
			first = v
			continue
		}
		if err := first.differs(v); err != nil {
			return 0, fmt.Errorf("%s and %s: %w", members[0], m, err)
		}
	}
	return first.revision, nil
}

// view asks a member for everything, at one revision.
func (m *member) view(ctx context.Context) (view, error) {
	var v view
	r, err := m.kv().Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		return v, err
	}
	v.rows, v.revision = rowsOf(r.GetKvs()), r.GetHeader().GetRevision()
	hash, err := m.maintenance().HashKV(ctx, &pb.HashKVRequest{Revision: v.revision})
	if err != nil {
		return v, err
	}
	v.hash = hashed{hash.GetHashRevision(), hash.GetCompactRevision(), hash.GetHash()}
	leases, err := m.leases().LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return v, err
	}
	for _, l := range leases.GetLeases() {
		v.leases = append(v.leases, l.GetID())
	}
	slices.Sort(v.leases)
	list, err := m.membership().MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return v, err
	}
	for _, one := range list.GetMembers() {
		v.members = append(v.members, fmt.Sprintf("%x %s %v %v learner %v", one.GetID(), one.GetName(), one.GetPeerURLs(), one.GetClientURLs(), one.GetIsLearner()))
	}
	slices.Sort(v.members)
	alarms, err := m.maintenance().Alarm(ctx, &pb.AlarmRequest{})
	if err != nil {
		return v, err
	}
	v.alarms = len(alarms.GetAlarms())
	status, err := m.maintenance().Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return v, err
	}
	v.leader = status.GetLeader()
	return v, nil
}

func (v view) differs(o view) error {
	switch {
	case v.revision != o.revision:
		return fmt.Errorf("revisions %d and %d", v.revision, o.revision)
	case !slices.Equal(v.rows, o.rows):
		return fmt.Errorf("different rows at revision %d", v.revision)
	case v.hash != o.hash:
		return fmt.Errorf("hashes %+v and %+v", v.hash, o.hash)
	case !slices.Equal(v.leases, o.leases):
		return fmt.Errorf("leases %x and %x", v.leases, o.leases)
	case !slices.Equal(v.members, o.members):
		return fmt.Errorf("members %v and %v", v.members, o.members)
	case v.leader != o.leader:
		return fmt.Errorf("leaders %x and %x", v.leader, o.leader)
	}
	return nil
}

// checkView asks that a member knows the right members, no alarm, and the right leases with the right keys.
func (c *cluster) checkView(ctx context.Context, m *member, v view, h *history) error {
	if v.alarms != 0 {
		return fmt.Errorf("%d alarms", v.alarms)
	}
	if len(v.members) != len(c.present()) {
		return fmt.Errorf("%d members: %v", len(v.members), v.members)
	}
	h.mu.Lock()
	lives := maps.Clone(h.leases)
	h.mu.Unlock()
	for id, life := range lives {
		has := slices.Contains(v.leases, id)
		switch {
		case life.ttl == leaseLong && life.granted && !has:
			return fmt.Errorf("lease %x of %d s is lost", id, life.ttl)
		case life.ttl == leaseShort && has:
			return fmt.Errorf("lease %x of %d s is still there", id, life.ttl)
		}
	}
	now := &store{v.revision, map[string]event{}}
	for _, row := range v.rows {
		now.keys[row.key] = row
	}
	for _, id := range v.leases {
		r, err := m.leases().LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		if err != nil {
			return err
		}
		var keys []string
		for _, key := range r.GetKeys() {
			keys = append(keys, string(key))
		}
		slices.Sort(keys)
		if want := now.leased(id); !slices.Equal(keys, want) || lives[id] == nil || r.GetGrantedTTL() != lives[id].ttl {
			return fmt.Errorf("lease %x of %d s has keys %v, not %v", id, r.GetGrantedTTL(), keys, want)
		}
	}
	return nil
}

// tell is the history as each member tells it.
func (c *cluster) tell(compacted, last int64) (map[string][]event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	told := map[string][]event{}
	for _, m := range c.present() {
		events, err := m.tell(ctx, compacted+1, last)
		if err != nil {
			return nil, fmt.Errorf("the history of %s: %w", m, err)
		}
		told[m.name] = events
	}
	return told, nil
}

func (m *member) tell(ctx context.Context, from, last int64) ([]event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewWatchClient(m.conn).Watch(ctx)
	if err != nil {
		return nil, err
	}
	create := &pb.WatchCreateRequest{Key: []byte(everything.key), RangeEnd: everything.rangeEnd(), StartRevision: from}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return nil, err
	}
	var events []event
	for next := from; next <= last; {
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if r.GetCanceled() {
			return nil, fmt.Errorf("canceled: %q, compacted %d", r.GetCancelReason(), r.GetCompactRevision())
		}
		for _, e := range r.GetEvents() {
			events = append(events, eventOf(e))
			next = events[len(events)-1].mod + 1
		}
	}
	return events, nil
}

// disarm ends the alarms that a full disk has raised.
func (c *cluster) disarm() error {
	return c.ask("disarm", func(ctx context.Context, at *member) (bool, error) {
		r, err := at.maintenance().Alarm(ctx, &pb.AlarmRequest{})
		if err != nil {
			return false, err
		}
		for _, a := range r.GetAlarms() {
			if a.GetAlarm() != pb.AlarmType_NOSPACE {
				return false, fmt.Errorf("an alarm that no fault explains: %v", a)
			}
			if _, err := at.maintenance().Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.GetMemberID(), Alarm: a.GetAlarm()}); err != nil {
				return false, err
			}
		}
		return len(r.GetAlarms()) == 0, nil
	})
}
