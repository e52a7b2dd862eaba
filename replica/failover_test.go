package replica

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"
)

// runOptions say what the calm driver leaves out.
type runOptions struct {
	noTicks   bool
	stuckDisk uint64 // id of the member whose log writer hangs
	stuckApp  uint64 // id of the member whose applier hangs
	noRead    bool   // nobody reads old entries back
	lose      func(*raftpb.Message) bool
}

// run drives all members without faults until want holds, at most ticks heartbeat intervals.
func (c *cluster) run(o runOptions, ticks int, want func() bool) {
	c.t.Helper()
	for range ticks {
		for range 20 {
			for _, n := range c.nodes {
				if n.r != nil {
					n.drive(o)
				}
			}
			c.net = slices.DeleteFunc(c.net, func(m *raftpb.Message) bool { return o.lose != nil && o.lose(m) })
			for range len(c.net) {
				c.deliver(true)
			}
			c.checkReads()
			if want() {
				return
			}
		}
		for _, n := range c.nodes {
			if n.r != nil && !o.noTicks {
				n.r.Tick()
			}
		}
	}
	for _, n := range c.nodes {
		if n.r != nil {
			c.t.Logf("member %d: %+v", n.id, n.r.Status())
		}
	}
	c.t.Fatalf("not within %d ticks", ticks)
}

func (n *node) drive(o runOptions) {
	n.r.Advance()
	var err error
	if o.stuckDisk != n.id {
		err = n.r.WriteLog()
	}
	if o.stuckApp != n.id {
		err = errors.Join(err, n.r.ApplyCommitted())
	}
	if !o.noRead {
		err = errors.Join(err, n.r.ReadLog())
	}
	if err != nil {
		n.c.t.Fatal(err)
	}
}

// leader returns the member that leads in the highest term.
func (c *cluster) leader() (leader *node) {
	var term uint64
	for _, n := range c.nodes {
		if n.r == nil {
			continue
		}
		if s := n.r.Status(); s.Role == Leader && s.Settled && s.Term > term {
			leader, term = n, s.Term
		}
	}
	return leader
}

// led returns a cluster of three with a leader.
func led(t *testing.T) (*cluster, *node) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newCluster(t, 1, 3, 3)
	c.run(runOptions{}, 50, func() bool { return c.leader() != nil && c.level() })
	return c, c.leader()
}

// otherLeads returns the condition that someone else leads and old knows.
func (c *cluster) otherLeads(old *node) func() bool {
	return func() bool {
		l := c.leader()
		return l != nil && l != old && (old.r == nil || old.r.Status().Role != Leader)
	}
}

// TestStuckDiskHandsOver checks that a leader whose disk or machine hangs gives the leadership away within two election
// timeouts, and that nobody who proposed later is lost.
func TestStuckDiskHandsOver(t *testing.T) {
	for name, stuck := range map[string]func(id uint64) runOptions{
		"disk":    func(id uint64) runOptions { return runOptions{stuckDisk: id} },
		"machine": func(id uint64) runOptions { return runOptions{stuckApp: id} },
	} {
		t.Run(name, func(t *testing.T) {
			c, old := led(t)
			old.propose()
			c.run(stuck(old.id), 20, c.otherLeads(old))
			if !old.r.Status().Stalled {
				t.Fatal("the stall does not show")
			}
			c.run(runOptions{}, 30, c.level)
		})
	}
}

// TestStuckDiskGoesMute checks that a leader that cannot hand over, because its request gets lost, stops leading all the
// same, and that the others then elect someone.
func TestStuckDiskGoesMute(t *testing.T) {
	c, old := led(t)
	old.propose()
	noTransfer := func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgTimeoutNow }
	stillLeads := 0
	c.run(runOptions{stuckDisk: old.id, lose: noTransfer}, 100, func() bool {
		if old.r.Status().Role == Leader {
			stillLeads = int(old.r.loop.handover.age)
		}
		return c.otherLeads(old)()
	})
	if stillLeads < 20 {
		t.Fatalf("went mute after %d ticks, want two election timeouts", stillLeads)
	}
	c.run(runOptions{}, 30, c.level)
}

// TestStuckFollowerDoesNotCampaign checks that a follower whose disk hangs stays where it is when the leader is gone.
func TestStuckFollowerDoesNotCampaign(t *testing.T) {
	c, old := led(t)
	stuck := c.nodes[old.id%3]
	old.propose()
	o := runOptions{stuckDisk: stuck.id}
	c.run(o, 20, func() bool { return stuck.r.loop.stalled(10) })
	term := stuck.r.Status().Term
	old.r = nil
	for range 60 {
		stuck.r.Tick()
		stuck.drive(o)
	}
	if s := stuck.r.Status(); s.Term != term || s.Role != Follower {
		t.Fatalf("a stuck follower became %+v", s)
	}
}

// TestLeaderGone checks that members who know that the leader is down elect another without letting time pass.
func TestLeaderGone(t *testing.T) {
	c, old := led(t)
	old.r = nil
	for _, n := range c.nodes {
		if n.r != nil {
			n.r.LeaderGone(old.id)
		}
	}
	next := c.nodes[old.id%3].r
	next.Campaign(next.Status().Term)
	c.run(runOptions{noTicks: true}, 3, c.otherLeads(old))
}

// TestCampaignRespectsVote has a member try to become leader when it has just voted for another. The vote has to reach the disk first,
// so that the question whether it may campaign would arrive before it. The one it voted for leads all the same, in the first term after
// the old leader's.
func TestCampaignRespectsVote(t *testing.T) {
	c, old := led(t)
	term := old.r.Status().Term
	first, second := c.nodes[old.id%3], c.nodes[(old.id+1)%3]
	old.r = nil
	first.r.LeaderGone(old.id)
	second.r.LeaderGone(old.id)
	first.r.Campaign(term)
	writing := runOptions{noTicks: true, stuckDisk: second.id}
	c.run(writing, 3, func() bool { return second.r.Status().Term > term })
	second.r.Campaign(term)
	for _, o := range []runOptions{writing, {}} {
		rounds := 0
		c.run(o, 5, func() bool { rounds++; return rounds == 60 })
	}
	if s := first.r.Status(); s.Role != Leader || s.Term != term+1 {
		t.Fatalf("after term %d the one who was voted for became %+v", term, s)
	}
}

// TestCampaignRespectsLeader checks that a call that came too late disturbs nobody.
func TestCampaignRespectsLeader(t *testing.T) {
	c, old := led(t)
	term := old.r.Status().Term
	for _, n := range c.nodes {
		n.r.LeaderGone(n.id%3 + 100) // not the leader
		n.r.Campaign(term)
	}
	old.propose()
	c.run(runOptions{}, 20, c.level)
	if s := old.r.Status(); s.Role != Leader || s.Term != term {
		t.Fatalf("the leader became %+v", s)
	}
}

// TestRemovedLeader removes the leader of two. It hands over to the other, which may not know yet that it is alone, and
// while that is under way it answers no reads: raft would let it do so by itself.
func TestRemovedLeader(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newCluster(t, 1, 2, 2)
	for _, n := range c.nodes {
		n.machine.votersMin = 1
	}
	c.run(runOptions{}, 50, func() bool { return c.leader() != nil && c.level() })
	old := c.leader()
	remove := &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(old.id)}
	if err := old.r.ProposeConfChange(t.Context(), remove); err != nil {
		t.Fatal(err)
	}
	removed := func() bool {
		return len(old.machine.conf().GetVoters()) == 1 && old.r.loop.window.conf == old.machine.conf()
	}
	c.run(runOptions{}, 50, removed)
	if old.r.Status().Role != Leader {
		t.Fatal("the removed leader is gone already; the test shows nothing")
	}
	if q := old.r.AskReadIndex(); isDone(q) {
		t.Fatal("a removed leader answered a read")
	}
	other := c.nodes[old.id%2]
	question := &raftpb.Message{
		Type: raftpb.MsgReadIndex.Enum(), From: new(other.id), To: new(old.id), Entries: []*raftpb.Entry{{Data: []byte("12345678")}},
	}
	if err := old.r.Step(question); err != nil {
		t.Fatal(err)
	}
	old.r.Advance()
	answer := func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgReadIndexResp }
	if slices.ContainsFunc(c.net, answer) {
		t.Fatal("a removed leader answered another member's read")
	}
	other.read()
	c.run(runOptions{}, 50, c.otherLeads(old))
	c.run(runOptions{}, 50, func() bool { return c.leader().r.Status().Sole })
}

// TestTransferLeader checks who may become leader, and that the one asked for does.
func TestTransferLeader(t *testing.T) {
	c, old := led(t)
	if err := old.r.loop.transfer(9); !errors.Is(err, ErrBadTransferee) {
		t.Fatalf("transfer to a stranger: %v", err)
	}
	to := c.nodes[old.id%3]
	if err := to.r.loop.transfer(to.id); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("transfer by a follower: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- old.r.TransferLeader(t.Context(), to.id) }()
	c.run(runOptions{noTicks: true}, 100000, func() bool {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return true
		default:
			return false
		}
	})
	if s := old.r.Status(); s.Role == Leader {
		t.Fatalf("the old leader: %+v", s)
	}
	c.run(runOptions{noTicks: true}, 3, func() bool { return c.leader() == to })
}

// TestLeaderChangeEndsRead checks that a read whose question is with a leader that is gone ends when another one comes up,
// and that one who asks then gets an answer.
func TestLeaderChangeEndsRead(t *testing.T) {
	c, old := led(t)
	asker := c.nodes[old.id%3]
	q := asker.r.AskReadIndex()
	asker.r.Advance() // the question is on its way
	old.r = nil
	c.run(runOptions{}, 50, c.otherLeads(old))
	c.run(runOptions{}, 3, func() bool { return isDone(q) })
	if _, err := q.Index(); !errors.Is(err, ErrLeaderChanged) {
		t.Fatalf("error %v, want ErrLeaderChanged", err)
	}
	if s := asker.r.Stats(); s.ReadsFailed != 1 || s.ReadsSlow != 0 {
		t.Fatalf("counted %+v", s)
	}
	q = asker.r.AskReadIndex()
	c.run(runOptions{noTicks: true}, 3, func() bool { return isDone(q) })
	if _, err := q.Index(); err != nil {
		t.Fatal(err)
	}
}

// TestReadRetry checks that a question that got lost is asked again.
func TestReadRetry(t *testing.T) {
	c, old := led(t)
	asker := c.nodes[old.id%3]
	q := asker.r.AskReadIndex()
	lost := 0
	loseFirst := func(m *raftpb.Message) bool {
		if m.GetType() != raftpb.MsgReadIndex || lost > 0 {
			return false
		}
		lost++
		return true
	}
	c.run(runOptions{lose: loseFirst}, 8, func() bool { return isDone(q) })
	if _, err := q.Index(); err != nil || lost != 1 {
		t.Fatalf("%v, %d lost", err, lost)
	}
}

// TestCatchUpFromDisk checks that a follower far behind is fed from the log on disk, and no slower than it takes the
// entries: no heartbeat interval passes.
func TestCatchUpFromDisk(t *testing.T) {
	c, old := led(t)
	behind := c.nodes[old.id%3]
	behind.crash()
	for range 100 {
		old.propose()
		c.run(runOptions{noTicks: true}, 1, func() bool { return old.machine.applied() == old.r.Status().Last })
	}
	behind.start()
	quiet := 0
	c.run(runOptions{noRead: true}, 10, func() bool { // until everyone waits for the disk
		if quiet++; len(c.net) > 0 || behind.r.Status().Leader != old.id {
			quiet = 0
		}
		return quiet > 5
	})
	if behind.machine.applied() > 50 {
		t.Fatal("fed from memory; the test shows nothing")
	}
	c.run(runOptions{noTicks: true}, 20, c.level)
}

// TestProposalOfADeposedLeader lets a leader sleep until another one is elected and the news of that wait for it, and propose
// as it wakes, before it has looked at them. What it proposes for anybody to carry out is forwarded; what it proposes as the
// leader that it was is not.
func TestProposalOfADeposedLeader(t *testing.T) {
	c, old := led(t)
	term := old.r.Status().Term
	propose := func(term uint64, data string) {
		t.Helper()
		if err := old.r.ProposeInTerm(context.Background(), term, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	propose(term, "while it leads")
	c.run(runOptions{}, 10, func() bool { return c.has("while it leads") })

	asleep := old.r
	old.r = nil
	c.run(runOptions{}, 100, func() bool { return c.leader() != nil })
	successor := c.leader()
	old.r = asleep
	news := &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(successor.id), To: new(old.id), Term: new(successor.r.Status().Term), Commit: new(uint64(0)),
	}
	if err := old.r.Step(news); err != nil {
		t.Fatal(err)
	}
	propose(term, "as the old leader")
	propose(0, "as anybody")
	c.run(runOptions{}, 100, func() bool { return c.has("as anybody") && c.level() })
	if c.has("as the old leader") {
		t.Error("the deposed leader's proposal was carried out")
	}
}

// has says whether an entry with data was applied anywhere.
func (c *cluster) has(data string) bool {
	return slices.ContainsFunc(c.history, func(r record) bool { return r.data == data })
}
