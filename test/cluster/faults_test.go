package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// fault is one kind of thing that goes wrong, and is over when strike returns.
type fault struct {
	name   string
	strike func(s *striker) error
}

// processFaults befall processes, disks and the membership; one comes after the other.
var processFaults = []fault{
	{"kill -9", func(s *striker) error { return s.restart(s.victim(), (*member).killed, s.between(100, 1500)) }},
	{"SIGTERM", func(s *striker) error { return s.restart(s.victim(), (*member).stop, s.between(100, 1500)) }},
	{"SIGSTOP", (*striker).pause},
	{"disk frozen for 0.5 s", func(s *striker) error { return s.freeze(500 * time.Millisecond) }},
	{"disk frozen for 1 s", func(s *striker) error { return s.freeze(time.Second) }},
	{"disk frozen for 3 s", func(s *striker) error { return s.freeze(3 * time.Second) }},
	{"disk frozen for 10 s", func(s *striker) error { return s.freeze(10 * time.Second) }},
	{"disk full", (*striker).fillDisk},
	{"a minority down", func(s *striker) error { return s.several((len(s.cluster.present()) - 1) / 2) }},
	{"a majority down", func(s *striker) error { return s.several(len(s.cluster.present())/2 + 1) }},
	{"all down", func(s *striker) error { return s.several(len(s.cluster.present())) }},
	{"all down, back with other addresses", (*striker).moveAll},
	{"member replaced", (*striker).replace},
}

// networkFaults befall the ways between members, and between them and the clients; they come beside the others.
var networkFaults = []fault{
	{"one cut off", func(s *striker) error { return s.cut(s.around(s.victim(), true, true)) }},
	{"one cannot send", func(s *striker) error { return s.cut(s.around(s.victim(), true, false)) }},
	{"one cannot receive", func(s *striker) error { return s.cut(s.around(s.victim(), false, true)) }},
	{"one way of one pair cut", (*striker).cutPair},
	{"split in two", (*striker).split},
	{"slow links", func(s *striker) error { return s.impair(condition{delay: s.between(5, 60)}) }},
	{"narrow links", func(s *striker) error { return s.impair(condition{rate: 50_000 + s.rng.IntN(500_000)}) }},
	{"connections reset", (*striker).resetSome},
	{"other addresses behind the names", (*striker).readdress},
}

// striker lets faults happen to a cluster, as its random numbers say.
type striker struct {
	cluster *cluster
	rng     *rand.Rand
	note    func(format string, args ...any)
}

// between draws a time in milliseconds.
func (s *striker) between(low, high int) time.Duration {
	return time.Duration(low+s.rng.IntN(high-low)) * time.Millisecond
}

// victim is a member: by half of all odds the leader.
func (s *striker) victim() *member {
	members := s.cluster.present()
	chosen := members[s.rng.IntN(len(members))]
	if s.rng.IntN(2) == 0 {
		for _, m := range members {
			if m.running() && m.leads() {
				s.note("%s leads", m)
				return m
			}
		}
	}
	return chosen
}

// killed is kill as a way to end that cannot fail.
func (m *member) killed() error {
	m.kill()
	return nil
}

func (s *striker) restart(m *member, end func(*member) error, down time.Duration) error {
	s.note("%s is down for %v", m, down)
	if err := end(m); err != nil {
		return err
	}
	time.Sleep(down)
	return m.launch()
}

func (s *striker) pause() error {
	m, long := s.victim(), s.between(200, 3000)
	s.note("%s stands still for %v", m, long)
	m.pause()
	defer m.resume()
	time.Sleep(long)
	return nil
}

func (s *striker) freeze(long time.Duration) error {
	m := s.victim()
	s.note("the disk of %s is frozen", m)
	return m.disk.freeze(long)
}

// fillDisk leaves no space. The member may go on, refuse writes, or end with a word about the space, now or later; then it is started
// again.
func (s *striker) fillDisk() error {
	m, long := s.victim(), s.between(1200, 2500)
	s.note("the disk of %s is full for %v", m, long)
	m.starve()
	if err := m.disk.fill(); err != nil {
		return err
	}
	time.Sleep(long)
	if err := m.disk.empty(); err != nil {
		return err
	}
	return s.cluster.raise(s.note)
}

// raise starts the members that have ended over a full disk.
func (c *cluster) raise(note func(string, ...any)) error {
	for _, m := range c.present() {
		if m.running() {
			continue
		}
		note("%s has ended", m)
		m.kill() // takes note of the end
		if err := m.launch(); err != nil {
			return err
		}
	}
	return nil
}

// several ends some members at once, one way or the other, and starts them in any order.
func (s *striker) several(count int) error {
	members := s.cluster.present()
	s.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	members = members[:count]
	graceful := s.rng.IntN(2) == 0
	down := s.between(100, 2000)
	s.note("%v are down for %v, gracefully: %v", members, down, graceful)
	if err := endAll(members, graceful); err != nil {
		return err
	}
	time.Sleep(down)
	return s.startAll(members)
}

func endAll(members []*member, graceful bool) error {
	errs := make(chan error, len(members))
	for _, m := range members {
		go func() { // ends with the process
			if graceful {
				errs <- m.stop()
			} else {
				errs <- m.killed()
			}
		}()
	}
	var first error
	for range members {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// startAll starts members in any order, with some time between them.
func (s *striker) startAll(members []*member) error {
	s.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	for _, m := range members {
		if err := m.launch(); err != nil {
			return err
		}
		time.Sleep(s.between(0, 300))
	}
	return nil
}

// moveAll stops all members and gives them, and the names, other addresses.
func (s *striker) moveAll() error {
	members := s.cluster.present()
	s.note("%v are stopped and move", members)
	if err := endAll(members, s.rng.IntN(2) == 0); err != nil {
		return err
	}
	for _, m := range members {
		s.cluster.net.move(m.name)
	}
	if err := s.cluster.net.moveDoors(); err != nil {
		return err
	}
	return s.startAll(members)
}

// replaceTimeout bounds each step of a replacement, of which several need a leader.
const replaceTimeout = 40 * time.Second

// replace adds a learner, makes it a voter, and removes another member.
func (s *striker) replace() error {
	c := s.cluster
	old := c.present()[s.rng.IntN(len(c.present()))]
	m, err := c.add(s.note)
	if err != nil {
		return err
	}
	s.note("%s goes", old)
	if err := c.remove(old); err != nil {
		return err
	}
	s.note("%s has taken the place of %s", m, old)
	return nil
}

// add adds a member as a learner, starts it and promotes it.
func (c *cluster) add(note func(string, ...any)) (*member, error) {
	m, err := c.place()
	if err != nil {
		return nil, err
	}
	var id uint64
	err = c.ask("add a learner", func(ctx context.Context, at *member) (bool, error) {
		list, err := at.membership().MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
		if err != nil {
			return false, err
		}
		for _, one := range list.GetMembers() {
			if one.GetPeerURLs()[0] == m.peerURL() {
				id = one.GetID()
				return true, nil
			}
		}
		r, err := at.membership().MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{m.peerURL()}, IsLearner: true})
		id = r.GetMember().GetID()
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	note("%s is a learner", m)
	m.initialCluster, m.initialState = c.initialCluster(append(c.present(), m)), "existing"
	m.id.Store(id)
	if err := m.launch(); err != nil {
		return nil, err
	}
	err = c.ask("promote", func(ctx context.Context, at *member) (bool, error) {
		list, err := at.membership().MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
		if err != nil {
			return false, err
		}
		for _, one := range list.GetMembers() {
			if one.GetID() == id && !one.GetIsLearner() {
				return true, nil
			}
		}
		_, err = at.membership().MemberPromote(ctx, &pb.MemberPromoteRequest{ID: id})
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	note("%s is a voter", m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
	return m, nil
}

// remove removes a member, whose process must end by itself and say why.
func (c *cluster) remove(m *member) error {
	ran := m.running()
	m.expect(false)
	err := c.ask("remove", func(ctx context.Context, at *member) (bool, error) {
		list, err := at.membership().MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
		if err != nil {
			return false, err
		}
		found := false
		for _, one := range list.GetMembers() {
			found = found || one.GetID() == m.id.Load()
		}
		if found {
			_, err = at.membership().MemberRemove(ctx, &pb.MemberRemoveRequest{ID: m.id.Load()})
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	for i, one := range c.members {
		if one == m {
			c.members = append(append([]*member{}, c.members[:i]...), c.members[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	if err := m.awaitEnd(replaceTimeout); err != nil {
		return err
	}
	if said := m.LogTail(endWords); ran && !strings.Contains(said, "removed") {
		return fmt.Errorf("%s was removed and ended without a word about it:\n%s", m, said)
	}
	return nil
}

// ask asks one member after the other until one has done it.
func (c *cluster) ask(what string, do func(ctx context.Context, at *member) (done bool, err error)) error {
	deadline := time.Now().Add(replaceTimeout)
	for n := 0; ; n++ {
		members := c.present()
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		done, err := do(ctx, members[n%len(members)])
		cancel()
		if done {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s, asked %d times: %w", what, n+1, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// around are the ways out of a member and into it. By half of all odds those to the clients are among them.
func (s *striker) around(m *member, out, in bool) []way {
	var ways []way
	others := []string{}
	for _, other := range s.cluster.others(m) {
		others = append(others, other.name)
	}
	if s.rng.IntN(2) == 0 {
		others = append(others, outside)
	}
	for _, other := range others {
		if out {
			ways = append(ways, way{m.name, other})
		}
		if in {
			ways = append(ways, way{other, m.name})
		}
	}
	return ways
}

// cut cuts ways for a time.
func (s *striker) cut(ways []way) error {
	long := s.between(300, 2500)
	s.note("%v are cut for %v", ways, long)
	if err := s.cluster.net.set(condition{cut: true}, ways...); err != nil {
		return err
	}
	time.Sleep(long)
	return s.cluster.net.heal(s.rng.IntN(2) == 0)
}

func (s *striker) cutPair() error {
	members := s.cluster.present()
	order := s.rng.Perm(len(members))
	return s.cut([]way{{members[order[0]].name, members[order[1]].name}})
}

// split leaves no way between two halves.
func (s *striker) split() error {
	members := s.cluster.present()
	s.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	var ways []way
	for _, a := range members[:len(members)/2] {
		for _, b := range members[len(members)/2:] {
			ways = append(ways, way{a.name, b.name}, way{b.name, a.name})
		}
	}
	return s.cut(ways)
}

// impair gives all links between members a condition for a time.
func (s *striker) impair(c condition) error {
	var ways []way
	for _, a := range s.cluster.present() {
		for _, b := range s.cluster.others(a) {
			ways = append(ways, way{a.name, b.name})
		}
	}
	long := s.between(1000, 3000)
	s.note("all links have %+v for %v", c, long)
	if err := s.cluster.net.set(c, ways...); err != nil {
		return err
	}
	time.Sleep(long)
	return s.cluster.net.heal(false)
}

func (s *striker) resetSome() error {
	m := s.victim()
	s.note("the connections of %s are reset", m)
	for _, other := range s.cluster.others(m) {
		s.cluster.net.reset(way{m.name, other.name})
	}
	if s.rng.IntN(2) == 0 {
		s.cluster.net.reset(way{outside, m.name})
	}
	return nil
}

func (s *striker) readdress() error {
	s.note("all names get other addresses")
	return s.cluster.net.moveDoors()
}

// counted is how often things happened, over all rounds.
var counted = struct {
	mu sync.Mutex // guards by
	by map[string]int
}{by: map[string]int{}}

func count(name string, times int) {
	counted.mu.Lock()
	defer counted.mu.Unlock()
	counted.by[name] += times
}
