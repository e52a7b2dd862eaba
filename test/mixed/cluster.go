package mixed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/test/run"
)

// A Kind is the program a member runs.
type Kind int

// The kinds of members.
const (
	Etcd Kind = iota
	Holdfast
)

func (k Kind) String() string { return [...]string{"etcd", "holdfast"}[k] }

// settleTimeout bounds each wait for the members to come to terms: a leader, an entry applied everywhere, a snapshot taken in.
const settleTimeout = 60 * time.Second

// A Member is one member of the cluster and the process that runs it, if one does.
type Member struct {
	*run.Server
	Name string
	Kind Kind
	ID   uint64 // 0 until it was heard from

	conn *grpc.ClientConn
}

func (m *Member) String() string { return fmt.Sprintf("%s (%s)", m.Name, m.Kind) }

// url is what a member advertises to its peers.
func (m *Member) url() string { return "http://" + m.Peer }

func (m *Member) up() bool { return m.Pid() != 0 }

// Cluster is a cluster of members of both kinds. It is a side of an episode of test/peer. It is used by one goroutine.
type Cluster struct {
	Members []*Member // those of the cluster, whether they run or not

	dir      string
	binaries [2]string // by Kind
	flags    []string
	skip     *regexp.Regexp // nil, or leaves out questions whose name it matches
	named    int            // members named so far
	gone     []*Member      // those removed, whose logs are still of interest
}

// Open starts a cluster of new members on empty folders under dir and waits until all serve.
func Open(ctx context.Context, dir string, binaries [2]string, flags []string, kinds ...Kind) (*Cluster, error) {
	c := &Cluster{dir: dir, binaries: binaries, flags: flags}
	for _, k := range kinds {
		m, err := c.place(k, "new")
		if err != nil {
			return nil, err
		}
		c.Members = append(c.Members, m)
	}
	for _, m := range c.Members {
		m.Join(c.initial(c.Members...))
	}
	if err := c.Restart(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// place makes a member that does not run yet.
func (c *Cluster) place(k Kind, state string) (*Member, error) {
	name := fmt.Sprintf("m%d", c.named)
	c.named++
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a place for member %s: %w", name, err)
	}
	server, err := run.Place(run.Config{
		Binary: c.binaries[k], Dir: dir, Name: name,
		Args: append(slices.Clone(c.flags), "--initial-cluster-state="+state),
	})
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(server.Client, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, fmt.Errorf("connect to member %s: %w", name, err)
	}
	return &Member{Server: server, Name: name, Kind: k, conn: conn}, nil
}

// initial is the value of --initial-cluster for members.
func (c *Cluster) initial(members ...*Member) string {
	var pairs []string
	for _, m := range members {
		pairs = append(pairs, m.Name+"="+m.url())
	}
	return strings.Join(pairs, ",")
}

// Clients returns the client addresses of the members that run.
func (c *Cluster) Clients() []string {
	var addresses []string
	for _, m := range c.running() {
		addresses = append(addresses, m.Client)
	}
	return addresses
}

func (c *Cluster) running() []*Member {
	return slices.DeleteFunc(slices.Clone(c.Members), func(m *Member) bool { return !m.up() })
}

// Kill ends all processes at once.
func (c *Cluster) Kill() {
	for _, m := range c.Members {
		m.Kill()
	}
}

// Stop asks all processes to end, one after the other and the leader last: one that hands leadership to a member which is
// ending, too, waits for long. An etcd that is left alone is killed: its check of hashes asks for a majority, in vain and
// again and again, before it ends.
func (c *Cluster) Stop() error {
	leader, err := c.Leader(context.Background())
	if err != nil {
		return fmt.Errorf("stop all members: %w", err)
	}
	for _, m := range c.Members {
		if m != leader {
			err = errors.Join(err, m.Stop())
		}
	}
	if leader.Kind == Etcd {
		leader.Kill()
		return err
	}
	return errors.Join(err, leader.Stop())
}

// Restart starts every member that does not run and waits until all agree.
func (c *Cluster) Restart(ctx context.Context) error {
	for _, m := range c.Members {
		if m.up() {
			continue
		}
		if err := m.Launch(); err != nil {
			return err
		}
	}
	return c.settle(ctx)
}

// Close ends all processes and connections.
func (c *Cluster) Close() {
	c.Kill()
	for _, m := range append(c.gone, c.Members...) {
		_ = m.conn.Close() // only ever refused when closed already
	}
}

// LogTail returns the last lines each member wrote.
func (c *Cluster) LogTail(lines int) string {
	var b strings.Builder
	for _, m := range append(slices.Clone(c.gone), c.Members...) {
		fmt.Fprintf(&b, "-- %s\n%s\n", m, m.Server.LogTail(lines))
	}
	return b.String()
}

// status asks a member for its status.
func (m *Member) status(ctx context.Context) (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := pb.NewMaintenanceClient(m.conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", m, err)
	}
	m.ID = r.Header.MemberId
	return r, nil
}

// settle waits until the members that run know the same leader, among them, and have applied the same entries.
func (c *Cluster) settle(ctx context.Context) error {
	return c.await(ctx, "the members to agree on leader and log", func() error {
		_, err := c.settled(ctx)
		return err
	})
}

// settled returns the leader when the members that run agree on it and on the entries applied, twice in a row: a first look
// may fall into a moment when none has heard of what is to come.
func (c *Cluster) settled(ctx context.Context) (*Member, error) {
	var seen []*pb.StatusResponse
	var leader *Member
	for _, m := range c.running() {
		r, err := m.status(ctx)
		if err != nil {
			return nil, err
		}
		if r.Leader == m.ID && r.Leader != 0 {
			leader = m
		}
		seen = append(seen, r)
	}
	for i, r := range seen {
		if r.Leader != seen[0].Leader || r.RaftTerm != seen[0].RaftTerm || r.RaftAppliedIndex != seen[0].RaftAppliedIndex {
			return nil, fmt.Errorf("%s has leader %x, term %d, entry %d; %s leader %x, term %d, entry %d",
				c.running()[0], seen[0].Leader, seen[0].RaftTerm, seen[0].RaftAppliedIndex,
				c.running()[i], r.Leader, r.RaftTerm, r.RaftAppliedIndex)
		}
	}
	if leader == nil {
		return nil, errors.New("no member that runs says it is the leader")
	}
	return leader, nil
}

// await tries until ready, for settleTimeout at most. It gives up when a member ends by itself.
func (c *Cluster) await(ctx context.Context, what string, try func() error) error {
	end := time.Now().Add(settleTimeout)
	for {
		err := try()
		if err == nil {
			return nil
		}
		for _, m := range c.running() {
			select {
			case <-m.Ended():
				return fmt.Errorf("%s ended while waiting for %s:\n%s", m, what, m.Server.LogTail(20))
			default:
			}
			m.conn.Connect() // an idle or failed connection tries again at once
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w\n%s", what, err, c.LogTail(8))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Leader returns the leader once all members that run know it.
func (c *Cluster) Leader(ctx context.Context) (leader *Member, err error) {
	err = c.await(ctx, "a leader", func() (err error) { leader, err = c.settled(ctx); return err })
	return leader, err
}

// MoveLeader moves leadership to a member.
func (c *Cluster) MoveLeader(ctx context.Context, to *Member) error {
	from, err := c.Leader(ctx)
	if err != nil || from == to {
		return err
	}
	if _, err := pb.NewMaintenanceClient(from.conn).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: to.ID}); err != nil {
		return fmt.Errorf("move leadership from %s to %s: %w", from, to, err)
	}
	now, err := c.Leader(ctx)
	if err == nil && now != to {
		err = fmt.Errorf("leadership was moved to %s and is with %s", to, now)
	}
	return err
}

// another returns a member that runs and is not m, the leader if there is a choice.
func (c *Cluster) another(ctx context.Context, m *Member) (*Member, error) {
	for _, other := range c.running() {
		if r, err := other.status(ctx); other != m && err == nil && r.Leader == other.ID {
			return other, nil
		}
	}
	for _, other := range c.running() {
		if other != m {
			return other, nil
		}
	}
	return nil, fmt.Errorf("no member runs beside %s", m)
}

// Add adds a member of a kind to the cluster, starts it and waits until it is level; learner says what it begins as. The
// strict check refuses that until the members have been connected for 5 s.
func (c *Cluster) Add(ctx context.Context, k Kind, learner bool) (*Member, error) {
	via, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	m, err := c.place(k, "existing")
	if err != nil {
		return nil, err
	}
	err = c.await(ctx, fmt.Sprintf("%s to be added", m), func() error {
		r, err := pb.NewClusterClient(via.conn).MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{m.url()}, IsLearner: learner})
		m.ID = r.GetMember().GetID()
		return err
	})
	if err != nil {
		return nil, err
	}
	c.Members = append(c.Members, m)
	m.Join(c.initial(c.Members...))
	if err := m.Launch(); err != nil {
		return nil, err
	}
	return m, c.settle(ctx)
}

// Promote makes a learner a voter.
func (c *Cluster) Promote(ctx context.Context, m *Member) error {
	via, err := c.another(ctx, m)
	if err != nil {
		return err
	}
	err = c.await(ctx, fmt.Sprintf("%s to be promoted", m), func() error {
		_, err := pb.NewClusterClient(via.conn).MemberPromote(ctx, &pb.MemberPromoteRequest{ID: m.ID})
		return err
	})
	if err != nil {
		return err
	}
	return c.settle(ctx)
}

// Move gives a member another address for its peers.
func (c *Cluster) Move(ctx context.Context, m *Member) error {
	via, err := c.another(ctx, m)
	if err != nil {
		return err
	}
	elsewhere, err := run.Place(run.Config{})
	if err != nil {
		return err
	}
	peers := []string{"http://" + elsewhere.Peer}
	if _, err := pb.NewClusterClient(via.conn).MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: m.ID, PeerURLs: peers}); err != nil {
		return fmt.Errorf("move %s via %s: %w", m, via, err)
	}
	if err := m.Stop(); err != nil {
		return err
	}
	m.Peer = elsewhere.Peer
	m.Join(c.initial(c.Members...))
	return c.Restart(ctx)
}

// Remove takes a member out of the cluster. When it still runs it has to end by itself.
func (c *Cluster) Remove(ctx context.Context, m *Member) error {
	via, err := c.another(ctx, m)
	if err != nil {
		return err
	}
	if _, err := pb.NewClusterClient(via.conn).MemberRemove(ctx, &pb.MemberRemoveRequest{ID: m.ID}); err != nil {
		return fmt.Errorf("remove %s via %s: %w", m, via, err)
	}
	c.Members = slices.DeleteFunc(c.Members, func(other *Member) bool { return other == m })
	c.gone = append(c.gone, m)
	if m.up() {
		select {
		case <-m.Ended():
		case <-time.After(settleTimeout):
			m.Kill()
			return fmt.Errorf("%s was removed and runs on:\n%s", m, m.Server.LogTail(10))
		}
		m.Kill() // forgets the process
	}
	return c.settle(ctx)
}
