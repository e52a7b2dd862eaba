package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/raftlog"
)

// testBump is how much a test raises the revision.
const testBump = 1000

// founderOf describes the member that a place in a new cluster is for.
func founderOf(m *clusterMember) membership.Member {
	return membership.Member{ID: membership.MemberID(m.cfg.PeerURLs, "new", 0), Name: m.cfg.Name, PeerURLs: m.cfg.PeerURLs}
}

// refound makes of the state in data the directory "new" of one of the founders, on the same disk.
func refound(t *testing.T, disk vfs.FS, founders []membership.Member, self int, bump uint64) *Offline {
	t.Helper()
	r := Refounding{DataDir: "new", Founders: founders, Self: founders[self].ID, Bump: bump}
	work, err := WorkFor(disk, r)
	if err != nil {
		t.Fatal(err)
	}
	o, err := OpenOffline(OfflineConfig{FS: disk, DataDir: "data", Work: work, Log: testConfig("").Log})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Apply(o.State().Last); err != nil {
		t.Fatal(err)
	}
	if err := o.Refound(r); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestRefound loses two of three members and makes of what the third has the beginning of a new cluster of two, whose members start,
// have what was acknowledged under a higher revision, hide all that was before, and send the state to a third one that joins
// later. What the lost one left is as it was.
func TestRefound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := startCluster(t, 3)
		survivor := old.follower()
		m := old.members[survivor]
		m.grant(7, 1000)
		m.putLeased("leased", 7)
		for i := range 30 {
			m.put(fmt.Sprint("k", i%10), fmt.Sprint(i))
		}
		last := m.put("last", "v")
		cluster := m.ClusterID()
		for i := range old.members {
			old.kill(i)
		}
		before := listing(t, m.fs, "data")

		c := newCluster(t, 2, func(_ int, cfg *Config) { cfg.DataDir, cfg.Founders = "new", nil })
		founders := []membership.Member{founderOf(c.members[0]), founderOf(c.members[1])}
		for i, place := range c.members {
			place.fs = m.fs.CrashClone(vfs.CrashCloneCfg{})
			o := refound(t, place.fs, founders, i, testBump)
			if s := o.State(); s.ClusterID != cluster || s.Member == 0 || s.Committed == 0 || s.LastTerm == 0 {
				t.Errorf("the log says %+v", s)
			}
			if after := listing(t, place.fs, "data"); after != before {
				t.Errorf("the original has changed from\n%s\nto\n%s", before, after)
			}
			c.start(i)
		}
		c.awaitReady()
		first := c.members[0]
		if first.ClusterID() == cluster || first.ID() != founders[0].ID {
			t.Errorf("it came up as %v of %x", first.ID(), first.ClusterID())
		}
		for key, want := range map[string]string{"last": "v", "leased": "x", "k0": "20", "k9": "29"} {
			if got := first.get(key); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		if got := first.put("new", "v"); got != last+testBump+1 {
			t.Errorf("the first put makes revision %d; the last before was %d", got, last)
		}
		_, err := first.Range(t.Context(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k0")}, Revision: last})
		if err == nil || !strings.Contains(err.Error(), "compacted") {
			t.Errorf("history of the old cluster can be read: %v", err)
		}
		if _, found := first.leases.Lookup(7); !found {
			t.Error("the lease is gone")
		}
		c.awaitHealthy()
		late := c.mustJoin(0, false)
		if got := c.members[late].get("last"); got != "v" {
			t.Errorf("who joined later reads %q", got)
		}
		c.awaitEqual()
		members, err := first.Members(t.Context(), true)
		if err != nil || len(members) != 3 {
			t.Errorf("members %+v, %v", members, err)
		}
		c.stop(0)
		c.start(0)
		c.awaitReady()
		if got := c.members[0].get("new"); got != "v" {
			t.Errorf("after a restart it reads %q", got)
		}
		c.awaitEqual()
	})
}

// listing writes out all files below a directory with their content's sum.
func listing(t *testing.T, disk vfs.FS, dir string) string {
	t.Helper()
	var lines []string
	var walk func(path string)
	walk = func(path string) {
		info, err := disk.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !info.IsDir() {
			f, err := disk.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(f)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%s %x", path, sha256.Sum256(content)))
			return
		}
		names, err := disk.List(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			walk(disk.PathJoin(path, name))
		}
	}
	walk(dir)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestRefoundSurvivesCrashes crashes at each operation on the disk while a directory is put together: it is not there, or whole.
func TestRefoundSurvivesCrashes(t *testing.T) {
	disk := newCrashingFS(drawSeed(t))
	cfg, _ := threeWithTail(t, disk)
	disk.crashes = nil
	founders := []membership.Member{founderOf(&clusterMember{cfg: cfg})}
	refound(t, disk, founders, 0, testBump)
	crashes := disk.crashes[:disk.crash()+2]
	cfg.DataDir, cfg.Founders = "new", nil
	whole, absent := 0, 0
	for i, fs := range crashes {
		if _, err := fs.Stat("new"); err != nil {
			absent++
			continue
		}
		whole++
		if whole > 1 && i < len(crashes)-2 { // they are alike; starting takes a while
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			cfg.FS = fs
			m := start(t, cfg)
			if m.get("known") != "yes" || m.get("tail") != "yes" || m.ID() != founders[0].ID {
				t.Errorf("crash %d: %q, %q as %v", i, m.get("known"), m.get("tail"), m.ID())
			}
		})
	}
	if whole == 0 || absent == 0 {
		t.Errorf("%d whole, %d absent: the test shows nothing", whole, absent)
	}
	for _, at := range []int{0, len(crashes) / 2} { // what a crash left is no obstacle to the next try
		if fs := crashes[at]; absentIn(fs, "new") {
			refound(t, fs, founders, 0, 0)
		}
	}
}

func absentIn(fs vfs.FS, path string) bool {
	_, err := fs.Stat(path)
	return err != nil
}

// TestOfflineAppliesInPieces: up to what is known to be committed, then the rest.
func TestOfflineAppliesInPieces(t *testing.T) {
	disk := newCrashingFS(drawSeed(t))
	cfg, _ := threeWithTail(t, disk)
	before := listing(t, disk, "data")
	o, err := OpenOffline(OfflineConfig{FS: disk, DataDir: "data", Work: "work", Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	s := o.State()
	if s.Committed != 4 || s.Last != 6 || s.LastTerm != 2 || s.ClusterID != cfg.clusterID() || s.Member != cfg.Founders[0].ID {
		t.Errorf("the log says %+v", s)
	}
	for _, c := range []struct {
		upTo     uint64
		revision kv.Revision
	}{{s.Committed, 2}, {5, 3}, {s.Last, 4}, {s.Last, 4}} {
		if err := o.Apply(c.upTo); err != nil || o.Revision() != c.revision || o.Applied() != c.upTo {
			t.Errorf("up to %d: %v, revision %d, applied %d", c.upTo, err, o.Revision(), o.Applied())
		}
	}
	if members := o.Cluster().Members(); len(members) != 3 {
		t.Errorf("%+v", members)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadLog(disk, "data", ""); err != nil || got != s {
		t.Errorf("the log alone says %+v, %v", got, err)
	}
	if after := listing(t, disk, "data"); after != before {
		t.Errorf("the original has changed from\n%s\nto\n%s", before, after)
	}
}

// TestOfflineRefuses is the table of what is no member that could be worked with.
func TestOfflineRefuses(t *testing.T) {
	running := testConfig(t.TempDir())
	start(t, running)
	disk := vfs.NewMem()
	writeFile(t, disk, "etcd/member/snap/db", "x")
	writeFile(t, disk, "strange/member/FORMAT", "99\n")
	writeFile(t, disk, "half/member/FORMAT", "1\n")
	writeFile(t, disk, "there/x", "")
	for _, c := range []struct {
		disk vfs.FS
		dir  string
		want string
	}{
		{nil, running.DataDir, "is running: stop it first"},
		{disk, "nowhere", "no data directory of a member"},
		{disk, "etcd", "belongs to etcd"},
		{disk, "strange", `has format "99"`},
		{disk, "half", raftlog.ErrNotFound.Error()},
	} {
		o, err := OpenOffline(OfflineConfig{FS: c.disk, DataDir: c.dir, Work: t.TempDir() + "/work", Log: running.Log})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.dir, err, c.want)
		}
		if o != nil {
			t.Errorf("%s: a state beside an error", c.dir)
		}
		if c.disk == nil {
			continue // the look has taken the lock from the member, as any that ends does within one process
		}
		if _, err := ReadLog(c.disk, c.dir, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("the log of %s: %v, want %q", c.dir, err, c.want)
		}
	}
	if _, err := WorkFor(disk, Refounding{DataDir: "there"}); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a directory that is there: %v", err)
	}
}
