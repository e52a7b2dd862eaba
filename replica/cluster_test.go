package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// cluster runs several replicas in one goroutine, over a network and disks that fail as rnd says.
// It checks at every step that
//   - every member applies the same entry at the same index, forever;
//   - a read index is at or above everything that any member had applied when the read began.
type cluster struct {
	t      testing.TB
	rnd    *rand.Rand
	nodes  []*node // nodes[0] has id 1
	net    []*raftpb.Message
	cut    map[[2]uint64]bool // directions in which nothing gets through
	states stateStore

	history []record // what was applied at each index by whoever was first; [0] unused
	reads   []*pendingRead
	serial  int // proposals made
	counts  map[string]int
	trace   *strings.Builder // what happened, to compare two runs
}

type node struct {
	c       *cluster
	id      uint64
	r       *Replica // nil while it is down
	log     *memLog
	machine *memMachine
	stuck   int // calls of the log writer that do nothing: the disk hangs
}

type pendingRead struct {
	question *Read
	floor    uint64 // highest index applied anywhere when it was asked
	at       uint64
}

// newCluster starts size members, of which the first ones have votes. The others wait to be added.
func newCluster(t testing.TB, seed uint64, size, voting int) *cluster {
	c := &cluster{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), cut: map[[2]uint64]bool{}, counts: map[string]int{},
		history: make([]record, 1), trace: new(strings.Builder),
	}
	var voters []uint64
	for i := range voting {
		voters = append(voters, uint64(i+1))
	}
	for i := range size {
		n := &node{c: c, id: uint64(i + 1), log: &memLog{}, machine: newMemMachine(voters...)}
		n.machine.states, n.machine.votersMin = &c.states, 2
		n.machine.onApply = n.applied
		c.nodes = append(c.nodes, n)
		n.start()
	}
	return c
}

func (n *node) start() {
	cfg := testConfig(n.id, n.log, n.machine)
	cfg.Transport, cfg.Snapshots = n, n.machine
	cfg.ReadSeed = n.c.rnd.Uint64() >> 1
	cfg.Limits = Limits{KeptEntries: 5, ApplyingBytes: 200, UncommittedBytes: 1000}
	if os.Getenv("REPLICA_TEST_LOG") != "" {
		h := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})
		cfg.Logger = slog.New(h).With("node", n.id)
	}
	r, err := New(cfg, n.log.state(n.machine))
	if err != nil {
		n.c.t.Fatalf("start member %d: %v", n.id, err)
	}
	n.r = r
}

// Send implements Transport: messages lie in the network until it delivers or loses them.
func (n *node) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		forwarded := m.GetType() == raftpb.MsgProp || m.GetType() == raftpb.MsgReadIndex
		if m.GetFrom() != n.id && !forwarded {
			n.c.t.Fatalf("member %d sends %v", n.id, m)
		}
		n.c.net = append(n.c.net, proto.Clone(m).(*raftpb.Message))
	}
}

// applied compares what a member applied with what others have applied at that index.
func (n *node) applied(r record) {
	c := n.c
	if r.index < uint64(len(c.history)) {
		if h := c.history[r.index]; h.term != r.term || h.data != r.data || h.refused != r.refused || !proto.Equal(h.conf, r.conf) {
			c.t.Fatalf("member %d applied %+v, others %+v", n.id, r, h)
		}
		return
	}
	c.history = append(c.history, r)
}

func (c *cluster) note(format string, args ...any) { fmt.Fprintf(c.trace, format+"\n", args...) }

// step does one thing at random. calm leaves out what harms.
func (c *cluster) step(calm bool) {
	n := c.nodes[c.rnd.IntN(len(c.nodes))]
	switch p := c.rnd.IntN(1000); {
	case p < 300:
		c.deliver(calm)
	case p < 700:
		n.work(p)
	case p < 760:
		if n.r != nil {
			n.r.Tick()
		}
	case p < 860:
		n.propose()
	case p < 920:
		n.read()
	case p < 940:
		n.machine.flush()
	case calm:
	case p < 950:
		n.checkpoint()
	case p < 953:
		n.crash()
	case p < 960:
		if n.r == nil {
			c.note("restart %d", n.id)
			n.start()
		}
	case p < 964:
		c.partition()
	case p < 972:
		clear(c.cut)
	case p < 975:
		n.transfer()
	case p < 980:
		n.change()
	case p < 983:
		n.campaign()
	case p < 984:
		n.stuck = c.rnd.IntN(300)
	}
	c.checkReads()
}

// deliver takes one message out of the network, in any order; it may lose or double it.
func (c *cluster) deliver(calm bool) {
	if len(c.net) == 0 {
		return
	}
	i := 0
	if c.rnd.IntN(4) == 0 {
		i = c.rnd.IntN(len(c.net))
	}
	m := c.net[i]
	chance := c.rnd.IntN(100)
	if calm || chance > 2 {
		c.net = slices.Delete(c.net, i, i+1)
	}
	to := c.nodes[m.GetTo()-1]
	if !calm && chance > 90 || c.cut[[2]uint64{m.GetFrom(), m.GetTo()}] || to.r == nil {
		c.counts["lost"]++
		c.reportSnapshot(m, false)
		return
	}
	m = proto.Clone(m).(*raftpb.Message)
	if m.GetType() == raftpb.MsgSnap {
		if m = c.attach(m); m == nil {
			return
		}
	}
	c.note("%d -> %d %v %d/%d", m.GetFrom(), m.GetTo(), m.GetType(), m.GetTerm(), m.GetIndex())
	c.counts["delivered"]++
	if err := to.r.Step(m); err != nil {
		c.t.Fatal(err)
	}
}

// reportSnapshot does the transport's part when a snapshot has arrived or not.
func (c *cluster) reportSnapshot(m *raftpb.Message, arrived bool) {
	if from := c.nodes[m.GetFrom()-1]; m.GetType() == raftpb.MsgSnap && from.r != nil {
		from.r.ReportSnapshot(m.GetTo(), arrived)
	}
}

// attach does the transport's part for a snapshot: the sender's present state goes with the message.
func (c *cluster) attach(m *raftpb.Message) *raftpb.Message {
	from := c.nodes[m.GetFrom()-1]
	if from.r == nil || from.machine.applied() < m.GetSnapshot().GetMetadata().GetIndex() {
		c.reportSnapshot(m, false)
		return nil
	}
	c.counts["snapshots"]++
	m.Snapshot = from.machine.snapshot()
	c.reportSnapshot(m, true)
	return m
}

// work makes one of the replica's calls.
func (n *node) work(p int) {
	if n.r == nil {
		return
	}
	var err error
	switch p % 8 {
	case 0, 1, 2, 3:
		n.r.Advance()
	case 4, 5:
		if n.stuck--; n.stuck < 0 {
			err = n.r.WriteLog()
		}
	case 6:
		err = n.r.ApplyCommitted()
	case 7:
		err = n.r.ReadLog()
	}
	if err != nil {
		n.c.t.Fatalf("member %d: %v", n.id, err)
	}
}

func (n *node) propose() {
	if n.r == nil {
		return
	}
	n.c.serial++
	err := n.r.Propose(context.Background(), fmt.Appendf(nil, "p%d by %d", n.c.serial, n.id))
	if err != nil && !errors.Is(err, ErrTooManyRequests) {
		n.c.t.Fatal(err)
	}
}

func (n *node) read() {
	if n.r != nil {
		floor := uint64(len(n.c.history) - 1)
		n.c.reads = append(n.c.reads, &pendingRead{question: n.r.AskReadIndex(), floor: floor, at: n.id})
	}
}

// checkReads judges the reads that were answered.
func (c *cluster) checkReads() {
	c.reads = slices.DeleteFunc(c.reads, func(p *pendingRead) bool {
		if !isDone(p.question) {
			return false
		}
		index, err := p.question.Index()
		switch {
		case err == nil && index < p.floor:
			c.t.Fatalf("member %d read at %d, but %d was applied somewhere before it asked", p.at, index, p.floor)
		case err == nil:
			c.counts["reads"]++
		case errors.Is(err, ErrLeaderChanged), errors.Is(err, ErrTimeout):
			c.counts["failed reads"]++
		default:
			c.t.Fatal(err)
		}
		return true
	})
}

// checkpoint releases the log below what is durable in the store.
func (n *node) checkpoint() {
	if n.r == nil || n.machine.durable <= n.log.before.Index || n.machine.durable > n.log.last() {
		return
	}
	n.c.note("checkpoint %d at %d", n.id, n.machine.durable)
	n.c.counts["checkpoints"]++
	n.log.release(n.machine.durable)
	n.r.Compact(n.machine.durable)
}

// crash stops a member. Its log loses what was not synced; sometimes a last sync came through that it did not hear of.
// Its store goes back to some state since the last durable one.
func (n *node) crash() {
	if n.r == nil {
		return
	}
	if n.c.rnd.IntN(2) == 0 {
		if err := n.r.WriteLog(); err != nil {
			n.c.t.Fatal(err)
		}
	}
	n.log.crash()
	back := n.machine.durable
	if n.machine.durable < n.machine.applied() {
		back += n.c.rnd.Uint64N(n.machine.applied() - n.machine.durable + 1)
	}
	n.machine.crash(back, n.log.snapshot)
	n.c.note("crash %d, back to %d", n.id, n.machine.applied())
	n.c.counts["crashes"]++
	n.c.reads = slices.DeleteFunc(n.c.reads, func(p *pendingRead) bool { return p.at == n.id })
	n.r = nil
}

// partition cuts some directions.
func (c *cluster) partition() {
	clear(c.cut)
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			if c.rnd.IntN(3) == 0 {
				c.cut[[2]uint64{a.id, b.id}] = true
			}
		}
	}
	c.counts["partitions"]++
}

func (n *node) transfer() {
	if n.r != nil {
		to := uint64(n.c.rnd.IntN(len(n.c.nodes)) + 1)
		n.r.inbox.Put(event{call: func() {
			if n.r.loop.transfer(to) == nil {
				n.c.counts["transfers"]++
			}
		}})
	}
}

// campaign gives up on a leader, with reason or without.
func (n *node) campaign() {
	if n.r != nil && n.c.rnd.IntN(5) == 0 {
		n.r.LeaderGone(n.r.Status().Leader)
		n.r.Campaign(n.r.Status().Term)
		n.c.counts["campaigns"]++
	}
}

// change proposes to take a member out, or to put one back as a learner or a voter.
func (n *node) change() {
	if n.r == nil {
		return
	}
	kind := []raftpb.ConfChangeType{raftpb.ConfChangeAddNode, raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeRemoveNode}[n.c.rnd.IntN(4)]
	change := &raftpb.ConfChange{Type: kind.Enum(), NodeId: new(uint64(n.c.rnd.IntN(len(n.c.nodes)) + 1))}
	if err := n.r.ProposeConfChange(context.Background(), change); err != nil && !errors.Is(err, ErrTooManyRequests) {
		n.c.t.Fatal(err)
	}
}

// heal repairs everything and runs all members until they agree on a new entry.
func (c *cluster) heal() {
	clear(c.cut)
	for _, n := range c.nodes {
		n.stuck = 0
		if n.r == nil {
			n.start()
		}
	}
	before := len(c.history)
	for round := range 3000 {
		for _, n := range c.nodes {
			n.r.Advance()
			if err := errors.Join(n.r.WriteLog(), n.r.ApplyCommitted(), n.r.ReadLog()); err != nil {
				c.t.Fatal(err)
			}
			if round%10 == 0 {
				n.r.Tick()
			}
			if round%100 == 50 {
				n.propose()
			}
		}
		for range len(c.net) {
			c.deliver(true)
		}
		c.checkReads()
		if round > 1000 && len(c.history) > before+5 && c.level() && len(c.reads) == 0 {
			return
		}
	}
	for _, n := range c.nodes {
		c.t.Logf("member %d: %+v, %d applied", n.id, n.r.Status(), n.machine.applied())
	}
	c.t.Fatalf("no progress after everything was repaired: %d entries, %d reads open", len(c.history)-1, len(c.reads))
}

// level says whether all members of the last configuration have applied everything.
func (c *cluster) level() bool {
	last := c.history[len(c.history)-1]
	for _, n := range c.nodes {
		member := slices.Contains(last.conf.GetVoters(), n.id) || slices.Contains(last.conf.GetLearners(), n.id)
		if member && n.machine.applied() != last.index {
			return false
		}
	}
	return true
}
