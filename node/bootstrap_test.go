package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/api/port"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/server"
	"holdfast/util/version"
)

// TestLobby: while a member waits to begin, others hear that it has no data; then the same address serves the member.
func TestLobby(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "d"))
	cfg.PeerURLs = []url.URL{free(t)}
	at := "http://" + cfg.PeerURLs[0].Host + "/members"
	cfg.Bootstrap = func(_ context.Context, to *server.Config) error {
		for range 3 {
			r, err := http.Get(at)
			if err != nil {
				return err
			}
			r.Body.Close()
			if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get(server.StartingHeader) != server.StartingNew {
				t.Errorf("status %d, %v", r.StatusCode, r.Header)
			}
		}
		return nil
	}
	runNode(t, cfg, func(*Node) {
		if code, body := get(t, http.DefaultClient, at); code != http.StatusOK {
			t.Errorf("%d %s", code, body)
		}
	})
	// With data nobody is asked, and those who ask are told to wait.
	cfg.Bootstrap = func(context.Context, *server.Config) error { return errors.New("asked again") }
	runNode(t, cfg, func(*Node) {})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lobby := openLobby([]port.Door{{Listener: l}}, true)
	r, err := http.Get("http://" + l.Addr().String() + "/members")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.Header.Get(server.StartingHeader) != server.StartingData {
		t.Errorf("with data: %v", r.Header)
	}
	code, body := get(t, http.DefaultClient, "http://"+l.Addr().String()+"/version")
	if want := `{"etcdserver":"` + version.EtcdVersion + `","etcdcluster":"not_decided","storage":"unknown"}`; code != http.StatusOK || body != want {
		t.Errorf("the version while it starts: %d %s", code, body)
	}
	if err := lobby.close(); err != nil {
		t.Error(err)
	}
}

// TestOpenEndsWithItsContext: a member that waits for others can be told to end.
func TestOpenEndsWithItsContext(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "d"))
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Bootstrap = func(ctx context.Context, _ *server.Config) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	if n, err := Open(ctx, cfg); n != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("opened %v: %v", n, err)
	}
	if _, err := os.Stat(cfg.Server.DataDir); err == nil {
		t.Error("there is data of a member that never began")
	}
}

// runNode runs a member while during runs.
func runNode(t *testing.T, cfg Config, during func(*Node)) {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	select {
	case <-n.Member().Ready():
		during(n)
	case err := <-ended:
		t.Fatalf("ended: %v", err)
	}
	cancel()
	if err := errors.Join(<-ended, n.Close()); err != nil {
		t.Error(err)
	}
}

// place is where a member of a test's cluster runs, or has run.
type place struct {
	name, dir string
	peer      url.URL
	node      *Node
	cancel    context.CancelFunc
	ended     chan error
}

func newPlace(t *testing.T, name string) *place {
	p := &place{name: name, dir: filepath.Join(t.TempDir(), name), peer: free(t)}
	t.Cleanup(p.stop)
	return p
}

func (p *place) founder() membership.Member {
	urls := []string{p.peer.String()}
	return membership.Member{ID: membership.MemberID(urls, "token", 0), Name: p.name, PeerURLs: urls}
}

// start runs a member there whose settings name the others, to found a cluster with them or to join theirs.
func (p *place) start(ctx context.Context, join bool, others ...*place) error {
	cfg := testConfig(p.dir)
	cfg.PeerURLs = []url.URL{p.peer}
	cfg.Server.Name, cfg.Server.PeerURLs, cfg.Server.Founders = p.name, p.founder().PeerURLs, nil
	cfg.Server.ClientURLs = []string{"http://" + p.name + ":2379"}
	cfg.Server.Heartbeat = 20 * time.Millisecond
	cfg.Bootstrap = func(ctx context.Context, to *server.Config) (err error) {
		b := &server.Bootstrap{
			Self: p.founder(), LearnersMax: 1, Log: slog.New(slog.DiscardHandler),
			SameURLs: func(context.Context, []string, []string) error { return errors.New("other URLs") },
		}
		to.Founders = []membership.Member{b.Self}
		for _, o := range others {
			b.Others = append(b.Others, o.founder())
			to.Founders = append(to.Founders, o.founder())
		}
		if join {
			to.Joined, err = b.Join(ctx)
			return err
		}
		return b.MayFound(ctx)
	}
	n, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.Background())
	p.node, p.cancel, p.ended = n, cancel, make(chan error, 1)
	go func() { p.ended <- n.Run(running) }() // ends with stop
	return nil
}

// stop ends the member, if one runs.
func (p *place) stop() {
	if p.node == nil {
		return
	}
	p.cancel()
	<-p.ended // what it says is the test's only where the test waits for it
	_ = p.node.Close()
	p.node = nil
}

func (p *place) wipe(t *testing.T) {
	t.Helper()
	p.stop()
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
}

func (p *place) ready(t *testing.T) {
	t.Helper()
	select {
	case <-p.node.Member().Ready():
	case err := <-p.ended:
		t.Fatalf("%s ended: %v", p.name, err)
	case <-time.After(time.Minute):
		t.Fatalf("%s does not become ready", p.name)
	}
}

// TestEmptiedMembersFoundNothing is B14 (etcd #12227): one founder of three, then two, come back without their data, with
// the settings they were founded with. They are refused as long as one is there who remembers, and the cluster goes on as
// one when they have been replaced as they were told. The settings of the first start stay good for members with data.
func TestEmptiedMembersFoundNothing(t *testing.T) {
	places := []*place{newPlace(t, "a"), newPlace(t, "b"), newPlace(t, "c")}
	a, b, c := places[0], places[1], places[2]
	others := func(p *place) (o []*place) {
		for _, q := range places {
			if q != p {
				o = append(o, q)
			}
		}
		return o
	}
	began := time.Now()
	var g errgroup.Group
	for _, p := range places {
		g.Go(func() error { return p.start(t.Context(), false, others(p)...) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		p.ready(t)
	}
	t.Logf("three founders that start together were ready after %v", time.Since(began))
	awaitPublished(t, a, 3)
	awaitPublished(t, b, 3)
	cluster := a.node.Member().ClusterID()

	refuse := func(p *place) {
		t.Helper()
		err := p.start(t.Context(), false, others(p)...)
		want := fmt.Sprintf("member %v has already been bootstrapped: cluster %x", p.founder().ID, cluster)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "member remove "+p.founder().ID.String()) {
			t.Fatalf("%s came back without its data: %v", p.name, err)
		}
		if _, err := os.Stat(p.dir); err == nil {
			t.Fatalf("%s has data again", p.name)
		}
	}
	c.wipe(t)
	refuse(c)
	b.wipe(t)
	refuse(b) // a alone remembers, and has no quorum
	refuse(c)
	if err := c.start(t.Context(), true, others(c)...); err == nil || !strings.Contains(err.Error(), "has already been bootstrapped") {
		t.Fatalf("c joined under its old id: %v", err)
	}
	a.stop()
	if err := a.start(t.Context(), false, others(a)...); err != nil {
		t.Fatalf("a has its data: %v", err)
	}
	refuse(b)
	if id := a.node.Member().ClusterID(); id != cluster {
		t.Errorf("a came back in cluster %x, was in %x", id, cluster)
	}
}

// TestMembersAreReplaced: a founder lost its data, is removed, added anew and joins; then a fourth member joins as a learner.
// Both hear of everything by the log. Their settings may say "new" afterwards.
func TestMembersAreReplaced(t *testing.T) {
	a, b, c, d := newPlace(t, "a"), newPlace(t, "b"), newPlace(t, "c"), newPlace(t, "d")
	var g errgroup.Group
	g.Go(func() error { return a.start(t.Context(), false, b, c) })
	g.Go(func() error { return b.start(t.Context(), false, a, c) })
	g.Go(func() error { return c.start(t.Context(), false, a, b) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	awaitPublished(t, a, 3)
	awaitPublished(t, b, 3)
	c.wipe(t)
	insist(t, func(ctx context.Context) error {
		_, err := a.node.Member().MemberRemove(ctx, c.founder().ID)
		return err
	})
	awaitPublished(t, b, 2) // c asks it too, and it may hear of the removal a moment later
	if err := c.start(t.Context(), false, a, b); err == nil || !strings.Contains(err.Error(), "was removed from cluster") {
		t.Fatalf("c was removed and founds again: %v", err)
	}
	if err := c.start(t.Context(), true, a, b); err == nil || !strings.Contains(err.Error(), "member count is unequal") {
		t.Fatalf("c was not added and joins: %v", err)
	}
	insist(t, func(ctx context.Context) error {
		_, _, err := a.node.Member().MemberAdd(ctx, c.founder().PeerURLs, false)
		return err
	})
	if err := c.start(t.Context(), false, a, b); err == nil || !strings.Contains(err.Error(), "--initial-cluster-state=existing") {
		t.Fatalf("c was added and founds: %v", err)
	}
	if err := c.start(t.Context(), true, a, b); err != nil {
		t.Fatal(err)
	}
	c.ready(t)
	insist(t, func(ctx context.Context) error {
		_, _, err := b.node.Member().MemberAdd(ctx, d.founder().PeerURLs, true)
		return err
	})
	if err := d.start(t.Context(), true, a, b, c); err != nil {
		t.Fatal(err)
	}
	awaitPublished(t, d, 4)
	if id := d.node.Member().ClusterID(); id != a.node.Member().ClusterID() {
		t.Errorf("d is in cluster %x", id)
	}
	id := c.node.Member().ID()
	c.stop()
	if err := c.start(t.Context(), false, a, b); err != nil {
		t.Fatalf("c has its data: %v", err)
	}
	c.ready(t)
	if again := c.node.Member().ID(); again != id || id == c.founder().ID {
		t.Errorf("c came back as %v, was %v", again, id)
	}
}

// insist repeats a change of the membership that the cluster does not allow yet.
func insist(t *testing.T, change func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := change(ctx)
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// awaitPublished waits until a member sees n members at work.
func awaitPublished(t *testing.T, p *place, n int) {
	t.Helper()
	var at []kv.MemberID
	for range 600 {
		at = nil
		members, err := p.node.Member().Members(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			if len(m.ClientURLs) > 0 {
				at = append(at, m.ID)
			}
		}
		if len(at) == n {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s sees %v at work, want %d members", p.name, at, n)
}

// TestNamesThatNeverResolve is C7: a founder whose name never appears keeps the others neither from starting nor from serving,
// nor a fourth member from joining.
func TestNamesThatNeverResolve(t *testing.T) {
	a, b, c, d := newPlace(t, "a"), newPlace(t, "b"), newPlace(t, "c"), newPlace(t, "d")
	c.peer = url.URL{Scheme: "http", Host: "nobody.invalid:2380"}
	began := time.Now()
	var g errgroup.Group
	g.Go(func() error { return a.start(t.Context(), false, b, c) })
	g.Go(func() error { return b.start(t.Context(), false, a, c) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	a.ready(t)
	b.ready(t)
	t.Logf("two of three founders serve after %v", time.Since(began))
	insist(t, func(ctx context.Context) error {
		_, _, err := a.node.Member().MemberAdd(ctx, d.founder().PeerURLs, true)
		return err
	})
	if err := d.start(t.Context(), true, a, b, c); err != nil {
		t.Fatal(err)
	}
	awaitPublished(t, d, 3)
}
