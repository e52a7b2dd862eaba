package utl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// unfinished are flags with which a compaction does not come to its end while a test runs.
var unfinished = []string{"--compaction-batch-limit=5", "--compaction-sleep-interval=1h"}

// place makes room for a server whose data a tool is to make.
func place(t *testing.T, binary string) *run.Server {
	t.Helper()
	s, err := run.Place(run.Config{Binary: binary, Dir: t.TempDir(), Args: unfinished})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// launch starts a server on the data that is there.
func launch(t *testing.T, s *run.Server) *client {
	t.Helper()
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	return dial(t, s)
}

// mustEqual compares what two servers hold.
func mustEqual(t *testing.T, stop, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s: it holds\n%.2000s\nand not\n%.2000s", stop, g[i], w[i])
		}
	}
	t.Fatalf("%s: it holds %d lines, not %d", stop, len(g), len(w))
}

// TestThereAndBack takes one of everything from etcd to Holdfast and back, first by data directories of members that were killed,
// then by snapshots: at each stop everything is equal, HashKV above all, and with directories the member is the same one.
func TestThereAndBack(t *testing.T) {
	theirs, mine := etcd.Binary(t, "etcd"), run.Holdfast(t)
	etcdutl, utl, etcdctl := etcd.Binary(t, "etcdutl"), ours(t, "etcdutl"), etcd.Binary(t, "etcdctl")
	dir := t.TempDir()

	a := place(t, theirs)
	c := launch(t, a)
	c.populate()
	want, member := c.fingerprint(), c.member()
	if answer := call(t, dir, utl, "hashkv", a.Data, "--timeout=100ms"); answer.code != 1 || !strings.Contains(answer.err, "in use by another process") {
		t.Errorf("hashkv of an etcd that runs: %+v", answer)
	}
	a.Kill()

	b := place(t, mine)
	must(t, dir, utl, "import", a.Data, "--data-dir", b.Data)
	c = launch(t, b)
	mustEqual(t, "imported from etcd", c.fingerprint(), want)
	mustEqual(t, "imported from etcd", c.member(), member)
	c.alarm(pb.AlarmRequest_DEACTIVATE)
	c.history("ours")
	c.alarm(pb.AlarmRequest_ACTIVATE)
	want = c.fingerprint()
	hash := c.hash()
	if answer := call(t, dir, utl, "hashkv", b.Data, "--timeout=100ms"); answer.code != 1 || !strings.Contains(answer.err, "in use by another process") {
		t.Errorf("hashkv of a Holdfast that runs: %+v", answer)
	}
	b.Kill()
	for _, path := range []string{b.Data, filepath.Join(b.Data, "member", "snap", "db")} {
		mustEqual(t, "utl hashkv "+path, strings.TrimSpace(must(t, dir, utl, "hashkv", path)), hash)
	}

	e := place(t, theirs)
	must(t, dir, utl, "export", b.Data, "--data-dir", e.Data)
	c = launch(t, e)
	mustEqual(t, "exported to etcd", c.fingerprint(), want)
	mustEqual(t, "exported to etcd", c.member(), member)
	saved := filepath.Join(dir, "etcd.db")
	must(t, dir, etcdctl, "--endpoints", e.Client, "--user", "root:"+password, "snapshot", "save", saved)
	e.Kill()

	f := place(t, mine)
	if err := os.CopyFS(f.Data, os.DirFS(e.Data)); err != nil {
		t.Fatal(err)
	}
	must(t, dir, utl, "import", "--in-place", f.Data)
	c = launch(t, f)
	mustEqual(t, "taken over in place", c.fingerprint(), want)
	mustEqual(t, "taken over in place", c.member(), member)
	f.Kill()

	byUs := restored(t, dir, mine, utl, saved)
	mustEqual(t, "etcd's snapshot, restored by us, on Holdfast", byUs.fingerprint(), want)
	mustEqual(t, "etcd's snapshot, restored by us, on etcd", restored(t, dir, theirs, utl, saved).fingerprint(), want)
	mustEqual(t, "etcd's snapshot, restored by etcd, on Holdfast", restored(t, dir, mine, etcdutl, saved).fingerprint(), want)
	again := filepath.Join(dir, "holdfast.db")
	must(t, dir, etcdctl, "--endpoints", byUs.conn.Target(), "--user", "root:"+password, "snapshot", "save", again)
	mustEqual(t, "our snapshot, restored by etcd, on etcd", restored(t, dir, theirs, etcdutl, again).fingerprint(), want)

	raised := make(map[string]string)
	for name, binary := range map[string]string{"etcd": theirs, "Holdfast": mine} {
		raised[name] = restored(t, dir, binary, utl, again, "--bump-revision=1000", "--mark-compacted").fingerprint()
	}
	mustEqual(t, "restored by us with a bump, on Holdfast", raised["Holdfast"], raised["etcd"])
	if raised["etcd"] == want {
		t.Error("a bump changes nothing")
	}
}

// restored starts a server on what a tool makes of a snapshot.
func restored(t *testing.T, dir, server, tool, snapshot string, flags ...string) *client {
	t.Helper()
	s := place(t, server)
	must(t, dir, tool, append([]string{"snapshot", "restore", snapshot, "--data-dir", s.Data}, flags...)...)
	return launch(t, s)
}

// TestOldCompareAfterRestore replays a compare with a revision from after the snapshot, as a client that was away makes it (ABA).
// Restored without a bump, another write can have that revision, and the compare holds where it must not; holdfast utl raises the
// revision unless it is told otherwise.
func TestOldCompareAfterRestore(t *testing.T) {
	mine, utl, dir := run.Holdfast(t), ours(t, "holdfast"), t.TempDir()
	a, err := run.Start(t.Context(), run.Config{Binary: mine, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Kill)
	c := dial(t, a)
	c.put("leader", "a", 0)
	saved := filepath.Join(dir, "saved.db")
	must(t, dir, etcd.Binary(t, "etcdctl"), "--endpoints", a.Client, "snapshot", "save", saved)
	for range 49 {
		c.put("other", "v", 0)
	}
	seen := c.put("leader", "b", 0) // what the client remembers
	a.Kill()
	for _, step := range []struct {
		flags  []string
		misled bool
	}{{[]string{"--bump-revision=0"}, true}, {nil, false}} {
		s := place(t, mine)
		must(t, dir, utl, append([]string{"utl", "snapshot", "restore", saved, "--data-dir", s.Data}, step.flags...)...)
		c := launch(t, s)
		for range 49 {
			c.put("other", "v", 0)
		}
		c.put("leader", "c", 0) // another leader's
		r := ask(c, pb.NewKVClient(c.conn).Txn, &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte("leader"), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: seen}}},
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("leader"), Value: []byte("d")}}}},
		})
		if r.Succeeded != step.misled {
			t.Errorf("restored with %q: the old compare holds: %v", step.flags, r.Succeeded)
		}
		s.Kill()
	}
}

// TestRestoreThree restores a cluster of three from one snapshot: two members of Holdfast and one of etcd, the directories made by
// either tool. They find each other, hold what was saved, and go on.
func TestRestoreThree(t *testing.T) {
	dir := t.TempDir()
	golden(t, "example", dir, "example.db")
	etcdutl := etcd.Binary(t, "etcdutl")
	var cluster []string
	var servers []*run.Server
	for i, binary := range []string{run.Holdfast(t), etcd.Binary(t, "etcd"), run.Holdfast(t)} {
		name := string(rune('a' + i))
		s, err := run.Place(run.Config{Binary: binary, Dir: t.TempDir(), Name: name, Args: unfinished})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		servers, cluster = append(servers, s), append(cluster, name+"="+s.PeerURL())
	}
	for i, tool := range []string{ours(t, "etcdutl"), ours(t, "etcdutl"), etcdutl} {
		must(t, dir, tool, "snapshot", "restore", "example.db", "--data-dir", servers[i].Data, "--name", string(rune('a'+i)),
			"--initial-cluster", strings.Join(cluster, ","), "--initial-advertise-peer-urls", servers[i].PeerURL(),
			"--bump-revision", "1000", "--mark-compacted")
		servers[i].Join(strings.Join(cluster, ","))
		if err := servers[i].Launch(); err != nil {
			t.Fatal(err)
		}
	}
	var clients []*client
	for _, s := range servers {
		clients = append(clients, dial(t, s))
	}
	rev := clients[2].put("after", "v", 0)
	want := clients[0].fingerprint()
	for i, c := range clients {
		mustEqual(t, cluster[i], c.fingerprint(), want)
	}
	if members := ask(clients[1], pb.NewClusterClient(clients[1].conn).MemberList, &pb.MemberListRequest{}).Members; len(members) != 3 || rev != 1012 {
		t.Errorf("%d members, at revision %d", len(members), rev)
	}
}
