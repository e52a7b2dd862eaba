package ctl

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/run"
)

// cluster is two voters, with two learners that know what they know. Both tools work on the one cluster.
type cluster struct {
	founders, learners []*run.Server
	tools              [2]*cli.Tool // etcd's and ours
	d                  differences
}

// startCluster starts it of servers of one kind.
func startCluster(t *testing.T, binary, ours string) *cluster {
	t.Helper()
	c := &cluster{d: readDifferences(t)}
	place := func(name string) *run.Server {
		state := "existing"
		if strings.HasPrefix(name, "f") {
			state = "new"
		}
		s, err := run.Place(run.Config{Binary: binary, Name: name, Dir: t.TempDir(), Args: []string{"--initial-cluster-state=" + state,
			"--max-learners=2", "--strict-reconfig-check=false", "--quota-backend-bytes=2147483648"}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var pairs []string
	for _, name := range []string{"f1", "f2"} {
		s := place(name)
		c.founders, pairs = append(c.founders, s), append(pairs, name+"="+s.PeerURL())
	}
	for _, s := range c.founders {
		s.Join(strings.Join(pairs, ","))
		start(t, s)
	}
	for _, s := range c.founders {
		c.await(t, s)
	}
	for i, path := range []string{etcd.Binary(t, "etcdctl"), ours} {
		c.tools[i] = cli.New(t, path, c.founders[0])
		c.tools[i].Drop = c.d.texts
	}
	for i, name := range []string{"l1", "l2"} {
		s := place(name)
		added := c.tools[i].OK(t, "member", "add", name, "--learner", "--peer-urls="+s.PeerURL())
		s.Join(regexp.MustCompile(`ETCD_INITIAL_CLUSTER="([^"]*)"`).FindStringSubmatch(added)[1]) // what the tool says is what a member starts from
		start(t, s)
		c.learners = append(c.learners, s)
		c.await(t, s)
	}
	return c
}

func start(t *testing.T, s *run.Server) {
	t.Helper()
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last words:\n%s", s.LogTail(5))
		}
		s.Kill()
	})
}

// await returns once a server answers and knows a leader.
func (c *cluster) await(t *testing.T, s *run.Server) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if status, ok := c.status(t, s); ok && status.GetLeader() != 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has no leader after a minute:\n%s", s.Client, s.LogTail(10))
		}
	}
}

// status asks a server about itself.
func (c *cluster) status(t *testing.T, s *run.Server) (*pb.StatusResponse, bool) {
	t.Helper()
	conn, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	status, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
	return status, err == nil
}

// id is that of a member, in hexadecimal; leads tells whether it leads.
func (c *cluster) id(t *testing.T, s *run.Server) (id string, leads bool) {
	t.Helper()
	status, ok := c.status(t, s)
	if !ok {
		t.Fatalf("%s does not answer", s.Client)
	}
	return fmt.Sprintf("%x", status.GetHeader().GetMemberId()), status.GetLeader() == status.GetHeader().GetMemberId()
}

// byRole returns the founder that leads and the one that follows.
func (c *cluster) byRole(t *testing.T) (leader, follower *run.Server) {
	t.Helper()
	leader, follower = c.founders[0], c.founders[1]
	if _, leads := c.id(t, leader); !leads {
		leader, follower = follower, leader
	}
	return leader, follower
}

func (c *cluster) all() string {
	var all []string
	for _, s := range slices.Concat(c.founders, c.learners) {
		all = append(all, s.Client)
	}
	return strings.Join(all, ",")
}

// twice makes a change with one tool, and its like with the other, and compares what they say.
func (c *cluster) twice(t *testing.T, what string, change func(tool *cli.Tool, i int) string) {
	t.Helper()
	var said [2]string
	for i, tool := range c.tools {
		said[i] = change(tool, i)
	}
	if said[0] != said[1] {
		t.Errorf("%s\n--- etcd's etcdctl\n%s\n--- ours\n%s", what, said[0], said[1])
	}
}

// fill is what makes columns and padded ids as wide as they are.
var fill = regexp.MustCompile(` {2,}|-{2,}`)

// named puts a name in the place of an id, hexadecimal or decimal, and takes out what depends on how long the id is: one in
// sixteen has fewer digits than the others.
func named(text, id, name string) string {
	var n uint64
	if _, err := fmt.Sscanf(id, "%x", &n); err != nil {
		return text
	}
	text = fill.ReplaceAllStringFunc(text, func(run string) string { return run[:1] })
	return strings.NewReplacer(id, name, fmt.Sprint(n), name).Replace(text)
}

// TestNamed: what is said of two members is the same but for their ids, whatever their lengths.
func TestNamed(t *testing.T) {
	for _, form := range []string{"Leadership transferred from %x to %x", "Member %16x updated in cluster %16x", "| %-18x | %-18x |", "%d, %d"} {
		var said [2]string
		for i, id := range []uint64{0x20d81517072872b, 0xcb1f2cac962b2cce} {
			said[i] = named(fmt.Sprintf(form, id, id), fmt.Sprintf("%x", id), "ID")
		}
		if said[0] != said[1] || strings.Count(said[0], "ID") != 2 {
			t.Errorf("%q and %q", said[0], said[1])
		}
	}
}

// TestCluster makes the commands of administration on members that lead, follow and learn.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and tools")
	}
	ours := oursAsEtcdctl(t)
	for _, kind := range kinds(t) {
		t.Run(kind.name, func(t *testing.T) {
			c := startCluster(t, kind.binary, ours)
			c.inspect(t)
			c.moveLeader(t)
			c.changeMembers(t)
		})
	}
}

// inspect asks each member, and all.
func (c *cluster) inspect(t *testing.T) {
	leader, follower := c.byRole(t)
	for _, s := range []*run.Server{leader, follower, c.learners[0]} {
		at := " --endpoints=" + s.Client
		var lines []string
		for _, line := range inspect {
			lines = append(lines, line+at)
		}
		c.d.compare(t, c.tools, inEach(lines...))
		c.d.compare(t, c.tools, once("defrag"+at, "snapshot save DIR/s.db"+at, "user list"+at, "role list"+at, "get a"+at))
	}
	all := " --endpoints=" + c.all()
	c.d.compare(t, c.tools, inEach("endpoint status"+all, "endpoint status --cluster"))
	c.d.compare(t, c.tools, once("defrag"+all, "defrag --cluster", "snapshot save x"+all))
	// Ours asks all at once: warnings of the client come before what is said of the first. etcd's tells health in the order of the answers.
	for _, call := range inEach("endpoint hashkv"+all, "endpoint hashkv --cluster", "endpoint health"+all, "endpoint health --cluster", "endpoint health --hex"+all) {
		want, got := cli.Both(t, c.tools, call, call)
		if want, got = inAnyOrder(want), inAnyOrder(got); want != got {
			t.Errorf("%s\n--- etcd's etcdctl\n%s\n--- ours\n%s", call, want, got)
		}
	}
}

// inAnyOrder sorts what is said, where the order is chance.
func inAnyOrder(text string) string {
	parts := regexp.MustCompile(`[\n,{}\[\]"]+`).Split(text, -1)
	slices.Sort(parts)
	return strings.TrimSpace(strings.Join(parts, "\n"))
}

// readable are the formats in which an id can be told from the rest.
var readable = []string{"simple", "json", "fields", "table"}

// moveLeader lets the leadership go to and fro.
func (c *cluster) moveLeader(t *testing.T) {
	learner, _ := c.id(t, c.learners[0])
	_, follower := c.byRole(t)
	c.d.compare(t, c.tools, once("move-leader "+learner+" --endpoints="+c.all(), "move-leader 1234 --endpoints="+follower.Client))
	for _, format := range readable {
		c.twice(t, "move-leader -w "+format, func(tool *cli.Tool, _ int) string {
			leader, follower := c.byRole(t)
			from, _ := c.id(t, leader)
			to, _ := c.id(t, follower)
			said := tool.Run(t, cli.Call{Args: []string{"move-leader", to, "-w", format, "--endpoints=" + c.all()}})
			return regexp.MustCompile(`"?(raft_term|RaftTerm)"? ?: ?[0-9]+`).ReplaceAllString(named(named(said, from, "FROM"), to, "TO"), "TERM")
		})
	}
}

// changeMembers moves and promotes the learners, one with each tool, and adds and removes members that never start.
func (c *cluster) changeMembers(t *testing.T) {
	at := "--endpoints=" + c.founders[0].Client
	change := func(args ...string) {
		c.twice(t, strings.Join(args, " "), func(tool *cli.Tool, i int) string {
			id, _ := c.id(t, c.learners[i])
			call := cli.Call{Args: append(slices.Clone(args), at)}
			for k, arg := range call.Args {
				call.Args[k] = strings.ReplaceAll(strings.ReplaceAll(arg, "LEARNER", id), "PEER", c.learners[i].PeerURL())
			}
			return named(tool.Run(t, call), id, "LEARNER")
		})
	}
	change("member", "update", "LEARNER", "--peer-urls=PEER")
	change("member", "promote", "LEARNER")
	change("member", "promote", "LEARNER") // it votes already
	url := 1000                            // a server makes the id of the URL and the second, and an id that was removed does not come back
	for _, flags := range []string{"--peer-urls=URL", "--peer-urls=URL,http://127.0.0.8:1", "--peer-urls=URL --learner", "--peer-urls=URL --hex"} {
		for _, format := range readable {
			line := flags + " -w " + format + " " + at
			c.twice(t, "member add m, promote, update, remove: "+line, func(tool *cli.Tool, _ int) string {
				url++
				name := fmt.Sprintf("http://127.0.0.9:%d", url)
				line := strings.ReplaceAll(line, "URL", name)
				said := tool.Run(t, cli.Call{Args: append([]string{"member", "add", "m"}, strings.Fields(line)...)})
				listed := tool.OK(t, "member", "list", at)
				found := regexp.MustCompile(`(?m)^([0-9a-f]+), unstarted`).FindStringSubmatch(listed)
				if found == nil {
					t.Fatalf("%s: %s\n%s", line, said, listed)
				}
				for _, do := range []string{"promote ID", "update ID --peer-urls=" + name + ",http://127.0.0.8:2", "remove ID"} {
					call := strings.ReplaceAll("member "+do+" -w "+format+" "+at, "ID", found[1])
					said += tool.Run(t, cli.Call{Args: strings.Fields(call)})
				}
				return inAnyOrder(strings.ReplaceAll(named(said, found[1], "NEW"), name, "URL"))
			})
		}
	}
}
