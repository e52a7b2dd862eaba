package peer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestMembership changes the members of a cluster of etcds and of one of ours in the same way, step by step, and compares what
// they say: the lists, every refusal, what a learner answers, and which processes end.
func TestMembership(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	sides := []*crew{{name: "etcd", binary: etcd.Binary(t, "etcd")}, {name: "ours", binary: oursFor(t)}}
	errs := make([]error, len(sides))
	var both sync.WaitGroup
	for i, c := range sides {
		c.dir = filepath.Join(t.TempDir(), c.name)
		both.Go(func() {
			defer c.close()
			errs[i] = c.play(t.Context())
		})
	}
	both.Wait()
	for i, c := range sides {
		if errs[i] != nil {
			t.Errorf("%s: %v; so far:\n%s", c.name, errs[i], strings.Join(c.said, "\n"))
		}
	}
	if t.Failed() {
		return
	}
	for i := range max(len(sides[0].said), len(sides[1].said)) {
		want, got := line(sides[0].said, i), line(sides[1].said, i)
		if want != got {
			t.Errorf("step %d:\netcd %s\nours %s", i, want, got)
		}
	}
	t.Logf("%d steps agree:\n%s", len(sides[0].said), strings.Join(sides[0].said, "\n"))
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// crew is a cluster under comparison. Its members are known by names that are the same on both sides.
type crew struct {
	name, binary, dir string
	members           []*sailor
	said              []string // what was asked and answered, one line a step, the same on both sides
}

type sailor struct {
	name string
	id   uint64
	*run.Server
	conn *grpc.ClientConn
}

const (
	// healthyAfter is how long members must have been connected for etcd's strict checks to count on them, and a bit.
	healthyAfter = 6500 * time.Millisecond
	// stepTimeout bounds a step.
	stepTimeout = 20 * time.Second
)

func (c *crew) close() {
	for _, m := range c.members {
		if m.conn != nil {
			_ = m.conn.Close() // fails only when closed already
		}
		m.Kill()
	}
}

// place makes room for one more member.
func (c *crew) place(flags ...string) (*sailor, error) {
	m := &sailor{name: fmt.Sprint("m", len(c.members))}
	dir := filepath.Join(c.dir, m.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if m.Server, err = run.Place(run.Config{Binary: c.binary, Dir: dir, Name: m.name, Args: append(flags, "--log-level=warn")}); err != nil {
		return nil, err
	}
	if m.conn, err = grpc.NewClient(m.Client, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig()); err != nil {
		return nil, err
	}
	c.members = append(c.members, m)
	return m, nil
}

func (m *sailor) url() string { return "http://" + m.Peer }

// names replaces addresses by names.
func (c *crew) names(text string) string {
	for _, m := range c.members {
		text = strings.NewReplacer(m.url(), m.name, m.Client, m.name).Replace(text)
	}
	return text
}

// say writes down a step: what was asked, and what was answered.
func (c *crew) say(asked string, members []*pb.Member, err error) {
	answer := "OK"
	if err != nil {
		answer = fmt.Sprintf("%s %q", status.Code(err), status.Convert(err).Message())
	}
	var list []string
	for _, m := range members {
		kind := "voter"
		if m.IsLearner {
			kind = "learner"
		}
		if m.Name != "" { // names tell places; roles differ from side to side
			kind += ", started"
		}
		list = append(list, fmt.Sprintf("%s for clients at %s: %s", m.PeerURLs, m.ClientURLs, kind))
	}
	text := c.names(fmt.Sprintf("%s -> %s", asked, answer))
	for i := range list {
		list[i] = c.names(list[i])
	}
	slices.Sort(list)
	c.said = append(c.said, strings.Join(append([]string{text}, list...), "\n    "))
}

// step asks a member for something.
func (c *crew) step(ctx context.Context, asked string, m *sailor, call func(context.Context, *grpc.ClientConn) ([]*pb.Member, error)) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	members, err := call(ctx, m.conn)
	c.say(asked, members, err)
	return err
}

func (c *crew) add(ctx context.Context, at *sailor, as string, learner bool, urls ...string) (id uint64) {
	_ = c.step(ctx, fmt.Sprintf("%s: add %s, learner: %t", as, urls, learner), at, func(ctx context.Context, conn *grpc.ClientConn) ([]*pb.Member, error) {
		r, err := pb.NewClusterClient(conn).MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls, IsLearner: learner}, grpc.WaitForReady(true))
		if err == nil {
			id = r.Member.ID
		}
		return r.GetMembers(), err
	})
	return id
}

func (c *crew) promote(ctx context.Context, at *sailor, as, who string, id uint64) error {
	return c.step(ctx, as+": promote "+who, at, func(ctx context.Context, conn *grpc.ClientConn) ([]*pb.Member, error) {
		r, err := pb.NewClusterClient(conn).MemberPromote(ctx, &pb.MemberPromoteRequest{ID: id})
		return r.GetMembers(), err
	})
}

func (c *crew) remove(ctx context.Context, at *sailor, as, who string, id uint64) {
	_ = c.step(ctx, as+": remove "+who, at, func(ctx context.Context, conn *grpc.ClientConn) ([]*pb.Member, error) {
		r, err := pb.NewClusterClient(conn).MemberRemove(ctx, &pb.MemberRemoveRequest{ID: id})
		return r.GetMembers(), err
	})
}

func (c *crew) update(ctx context.Context, at *sailor, as, who string, id uint64, url string) {
	_ = c.step(ctx, as+": move "+who+" to "+url, at, func(ctx context.Context, conn *grpc.ClientConn) ([]*pb.Member, error) {
		r, err := pb.NewClusterClient(conn).MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{url}})
		return r.GetMembers(), err
	})
}

func (c *crew) list(ctx context.Context, at *sailor, as string, linearizable bool) {
	_ = c.step(ctx, fmt.Sprintf("%s: list, linearizable: %t", as, linearizable), at, func(ctx context.Context, conn *grpc.ClientConn) ([]*pb.Member, error) {
		r, err := pb.NewClusterClient(conn).MemberList(ctx, &pb.MemberListRequest{Linearizable: linearizable})
		return r.GetMembers(), err
	})
}

func (c *crew) move(ctx context.Context, at *sailor, as, who string, id uint64) {
	_ = c.step(ctx, as+": let "+who+" lead", at, func(ctx context.Context, conn *grpc.ClientConn) ([]*pb.Member, error) {
		_, err := pb.NewMaintenanceClient(conn).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: id})
		return nil, err
	})
}

// leader waits for a leader on whom the members given agree.
func (c *crew) leader(ctx context.Context, among ...*sailor) (*sailor, error) {
	var found *sailor
	err := c.await(ctx, "a leader", func(ctx context.Context) bool {
		var led []uint64
		for _, m := range among {
			r, err := pb.NewMaintenanceClient(m.conn).Status(ctx, &pb.StatusRequest{})
			if err != nil {
				return false
			}
			m.id = r.Header.MemberId
			led = append(led, r.Leader)
		}
		for _, m := range among {
			if m.id == led[0] && len(slices.Compact(led)) == 1 {
				found = m
			}
		}
		return found != nil
	})
	return found, err
}

// await waits until something holds.
func (c *crew) await(ctx context.Context, what string, holds func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for !holds(ctx) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: waited %v", what, stepTimeout)
		}
	}
	return nil
}

// ends waits for a process to end by itself, and writes down that it did.
func (c *crew) ends(ctx context.Context, as string, m *sailor) error {
	select {
	case <-m.Ended():
		c.said = append(c.said, as+" ends")
		return nil
	case <-time.After(stepTimeout):
		return fmt.Errorf("%s was removed and does not end", as)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// play is the script. The roles depend on who leads, which differs between the sides; the steps do not.
func (c *crew) play(ctx context.Context) error {
	founders, err := c.found(ctx)
	if err != nil {
		return err
	}
	lead, err := c.leader(ctx, founders...)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(founders), func(m *sailor) bool { return m == lead })
	first, second := rest[0], rest[1]
	lead.name, first.name, second.name = "leader", "first", "second" // who leads differs between the sides
	time.Sleep(healthyAfter)

	learner, err := c.place("--initial-cluster-state=existing")
	if err != nil {
		return err
	}
	learner.name = "learner"
	learner.id = c.add(ctx, first, "first", true, learner.url())
	c.add(ctx, first, "first", true, "http://127.0.0.1:9", learner.url())
	c.add(ctx, lead, "leader", false, lead.url())
	c.add(ctx, lead, "leader", true, "http://127.0.0.1:9")
	c.add(ctx, lead, "leader", true, "http://127.0.0.1")
	for _, m := range []*sailor{first, lead} {
		as := m.name
		_ = c.promote(ctx, m, as, "the learner", learner.id)
		_ = c.promote(ctx, m, as, "nobody", 77)
		_ = c.promote(ctx, m, as, "the leader", lead.id)
		c.update(ctx, m, as, "the leader", lead.id, learner.url())
		c.update(ctx, m, as, "nobody", 77, "http://127.0.0.1:9")
		c.remove(ctx, m, as, "nobody", 77)
		c.list(ctx, m, as, true)
		c.move(ctx, m, as, "nobody", 77)
	}
	c.move(ctx, lead, "leader", "the learner", learner.id)

	learner.Join(c.initial(lead, first, second, learner))
	if err := learner.Launch(); err != nil {
		return err
	}
	err = c.await(ctx, "the learner knows the cluster", func(ctx context.Context) bool {
		r, err := pb.NewMaintenanceClient(learner.conn).Status(ctx, &pb.StatusRequest{})
		return err == nil && r.IsLearner && r.Leader != 0
	})
	if err != nil {
		return err
	}
	c.askLearner(ctx, learner)
	c.askLearnerHTTP(ctx, learner)
	err = c.await(ctx, "the learner is ready", func(ctx context.Context) bool {
		_, err := pb.NewClusterClient(first.conn).MemberPromote(ctx, &pb.MemberPromoteRequest{ID: learner.id})
		return err == nil || !strings.Contains(err.Error(), "in sync with leader")
	})
	if err != nil {
		return err
	}
	_ = c.promote(ctx, first, "first", "the learner again", learner.id)
	c.list(ctx, learner, "learner", true)
	c.list(ctx, lead, "leader", false)

	time.Sleep(healthyAfter)
	c.remove(ctx, lead, "leader", "first", first.id)
	if err := c.ends(ctx, "first", first); err != nil {
		return err
	}
	c.remove(ctx, lead, "leader", "first again", first.id)
	second.Kill()
	time.Sleep(healthyAfter)
	c.add(ctx, lead, "leader", false, "http://127.0.0.1:9")
	c.add(ctx, lead, "leader", true, "http://127.0.0.1:9")
	c.remove(ctx, lead, "leader", "the learner that votes now", learner.id)
	c.remove(ctx, lead, "leader", "second, which is down", second.id)
	c.add(ctx, lead, "leader", false, "http://127.0.0.1:9")
	c.add(ctx, lead, "leader", false, "http://127.0.0.1:8")
	c.add(ctx, lead, "leader", true, "http://127.0.0.1:8")
	c.list(ctx, lead, "leader", true)
	return nil
}

// found starts three members and waits until all answer.
func (c *crew) found(ctx context.Context) ([]*sailor, error) {
	for range 3 {
		if _, err := c.place(); err != nil {
			return nil, err
		}
	}
	errs := make([]error, 3)
	var all sync.WaitGroup
	for i, m := range c.members {
		m.Join(c.initial(c.members...))
		all.Go(func() { errs[i] = m.Restart(ctx) })
	}
	all.Wait()
	return slices.Clone(c.members), errors.Join(errs...)
}

// initial is the value of --initial-cluster. The names are those the members were placed with.
func (c *crew) initial(members ...*sailor) string {
	var pairs []string
	for _, m := range members {
		pairs = append(pairs, filepath.Base(filepath.Dir(m.Data))+"="+m.url())
	}
	return strings.Join(pairs, ",")
}

// askLearner asks a learner for one thing of each kind.
func (c *crew) askLearner(ctx context.Context, m *sailor) {
	kvs, leases, care, members := pb.NewKVClient(m.conn), pb.NewLeaseClient(m.conn), pb.NewMaintenanceClient(m.conn), pb.NewClusterClient(m.conn)
	key := []byte("k")
	for _, call := range []struct {
		name string
		call func(context.Context) error
	}{
		{"serializable range", func(ctx context.Context) error {
			_, err := kvs.Range(ctx, &pb.RangeRequest{Key: key, Serializable: true})
			return err
		}},
		{"range", func(ctx context.Context) error { _, err := kvs.Range(ctx, &pb.RangeRequest{Key: key}); return err }},
		{"put", func(ctx context.Context) error { _, err := kvs.Put(ctx, &pb.PutRequest{Key: key}); return err }},
		{"txn", func(ctx context.Context) error { _, err := kvs.Txn(ctx, &pb.TxnRequest{}); return err }},
		{"compact", func(ctx context.Context) error { _, err := kvs.Compact(ctx, &pb.CompactionRequest{}); return err }},
		{"lease grant", func(ctx context.Context) error {
			_, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 10})
			return err
		}},
		{"leases", func(ctx context.Context) error {
			_, err := leases.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
			return err
		}},
		{"member list", func(ctx context.Context) error {
			_, err := members.MemberList(ctx, &pb.MemberListRequest{})
			return err
		}},
		{"hash of keys", func(ctx context.Context) error { _, err := care.HashKV(ctx, &pb.HashKVRequest{}); return err }},
		{"defragment", func(ctx context.Context) error { _, err := care.Defragment(ctx, &pb.DefragmentRequest{}); return err }},
		{"move leader", func(ctx context.Context) error {
			_, err := care.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: m.id})
			return err
		}},
		{"snapshot", func(ctx context.Context) error {
			stream, err := care.Snapshot(ctx, &pb.SnapshotRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"watch", func(ctx context.Context) error {
			stream, err := pb.NewWatchClient(m.conn).Watch(ctx)
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
	} {
		_ = c.step(ctx, "learner: "+call.name, m, func(ctx context.Context, _ *grpc.ClientConn) ([]*pb.Member, error) {
			return nil, call.call(ctx)
		})
	}
}

// learnerExchanges are requests over HTTP to a learner that follows: what it says of its health, and calls through the gateway of each
// kind: those that it serves, and those that it does not.
var learnerExchanges = []exchange{
	get("/health"), get("/health?serializable=true"), get("/livez?verbose"), get("/readyz"), get("/readyz?verbose"),
	get("/readyz?verbose&exclude=non_learner"), get("/readyz/non_learner"), get("/readyz/linearizable_read?verbose"), get("/version"),
	post("/v3/kv/range", `{"key":"Zm9v","serializable":true}`), post("/v3/kv/range", `{"key":"Zm9v"}`),
	post("/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`), post("/v3/kv/txn", `{"success":[{"request_range":{"key":"Zm9v"}}]}`),
	post("/v3/maintenance/status", `{}`), post("/v3/maintenance/hash", `{}`), post("/v3/maintenance/alarm", `{}`),
	post("/v3/cluster/member/list", `{}`), post("/v3/lease/leases", `{}`), post("/v3/auth/status", `{}`),
	post("/v3/watch", `{"create_request":{"key":"Zm9v"}}`), post("/v3/lease/keepalive", `{"ID":"7"}`),
}

// ofEachSide are fields of JSON answers that the two clusters have for themselves besides those of freeNumbers: who they are, the quota
// (differences.txt), and the version of the storage, which a young etcd raises within half a minute.
var ofEachSide = []string{"cluster_id", "member_id", "leader", "dbSizeQuota", "storage", "storageVersion"}

// freeShown finds a field that is free as it is written down; one that is 0 is not there.
var freeShown = regexp.MustCompile(`\w+:free ?`)

// askLearnerHTTP asks a learner over HTTP, and writes down what it says.
func (c *crew) askLearnerHTTP(ctx context.Context, m *sailor) {
	free := freeNumbers(loadDifferences(differencesText))
	for _, name := range ofEachSide {
		free[name] = true
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, e := range learnerExchanges {
		got := e.send(ctx, client, m.ClientURL())
		body := strings.ReplaceAll(freeShown.ReplaceAllString(fmt.Sprint(plain(free, got.body)), ""), " ]", "]")
		c.said = append(c.said, c.names(fmt.Sprintf("learner: %s -> %d %s %s", e, got.status, got.head["Content-Type"], body)))
	}
}
