package server

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRenumber stops three members, moves all of them to other addresses, two of which belonged to another member before, and
// starts them there: the same cluster with the same data, that goes on.
func TestRenumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		c.members[0].put("k", "v")
		c.awaitEqual()
		cluster := c.members[0].ClusterID()
		moved := []string{clusterAddress(1), clusterAddress(0), "elsewhere:2380"}
		urls := map[string][]string{}
		for i := range c.members {
			urls[c.members[i].cfg.Name] = []string{"http://" + moved[i]}
		}
		id := c.members[2].ID().String()
		urls[id] = urls["m2"]
		delete(urls, "m2")
		for i := range c.members {
			c.stop(i)
		}
		for i, m := range c.members {
			members, at, err := Renumbering{FS: m.fs, DataDir: m.cfg.DataDir, PeerURLs: urls, Log: m.cfg.Log}.Run()
			if err != nil || len(members) != 3 || at == 0 {
				t.Fatalf("m%d: %+v at %d, %v", i, members, at, err)
			}
			m.address, m.cfg.PeerURLs = moved[i], []string{"http://" + moved[i]}
		}
		for i := range c.members {
			c.start(i)
		}
		c.awaitReady()
		for i, m := range c.members {
			if got := m.get("k"); got != "v" || m.ClusterID() != cluster {
				t.Errorf("m%d reads %q in cluster %x", i, got, m.ClusterID())
			}
			members, err := m.Members(t.Context(), true)
			if err != nil || len(members) != 3 {
				t.Fatalf("%+v, %v", members, err)
			}
			for _, one := range members {
				if want := "http://" + moved[one.Name[1]-'0']; one.PeerURLs[0] != want {
					t.Errorf("m%d knows %s at %v, not %s", i, one.Name, one.PeerURLs, want)
				}
			}
		}
		c.members[1].put("after", "v")
		c.awaitEqual()
	})
}

// TestRenumberRefuses is the table of what would leave a cluster that does not find itself.
func TestRenumberRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		c.awaitEqual()
		fs, unapplied := c.members[0].fs, newCrashingFS(drawSeed(t))
		threeWithTail(t, unapplied)
		c.stop(0)
		try := func(disk vfs.FS, dir, wal string, urls map[string][]string) error {
			_, _, err := Renumbering{FS: disk, DataDir: dir, WALDir: wal, PeerURLs: urls, Log: c.members[0].cfg.Log}.Run()
			return err
		}
		to := func(url string) map[string][]string { return map[string][]string{"m1": {url}} }
		for i, c := range []struct {
			err  error
			want string
		}{
			{try(fs, "data", "", map[string][]string{"m9": {"http://a:1"}}), `no member "m9"; there are`},
			{try(fs, "data", "", to("http://"+clusterAddress(2))), "would be the address of both"},
			{try(fs, "nowhere", "", to("http://a:1")), "no data directory of a member"},
			{try(fs, "data", "elsewhere", to("http://a:1")), "--wal-dir"},
			{try(unapplied, "data", "", to("http://a:1")), errUnapplied.Error()},
		} {
			if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
				t.Errorf("case %d: %v, want %q", i, c.err, c.want)
			}
		}
		if names, err := fs.List(""); err != nil || fmt.Sprint(names) != "[data]" {
			t.Errorf("%v, %v", names, err)
		}
	})
}
