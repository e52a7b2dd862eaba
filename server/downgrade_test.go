package server

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/membershippb"

	"holdfast/transport"
)

// TestLowerVersion is the table of what the leader proposes while a downgrade is under way.
func TestLowerVersion(t *testing.T) {
	for _, c := range []struct {
		now, target string
		members     []string
		want        string // empty: no change
		err         bool
	}{
		{"3.7.0", "3.6.0", []string{"3.7.3", "3.7.0"}, "3.6.0", false},
		{"3.7.0", "3.6.0", []string{"3.7.3", ""}, "", false},
		{"3.7.0", "3.6.0", []string{"3.7.3", "3.6.9"}, "", true},
		{"3.7.0", "3.5.0", []string{"3.7.3"}, "", true},
		{"3.6.0", "3.6.0", []string{"3.7.3", "3.6.9"}, "", false},
		{"3.7.0", "nothing", []string{"3.7.3"}, "", true},
	} {
		got, change, err := lowerVersion(c.now, c.target, c.members)
		if got != c.want || change != (c.want != "") || (err != nil) != c.err {
			t.Errorf("from %s to %s with %q: %q, %t, %v", c.now, c.target, c.members, got, change, err)
		}
	}
}

// TestFileVersion: a database is written in the form of the cluster's version once that is known.
func TestFileVersion(t *testing.T) {
	for _, c := range []struct{ cluster, file, recorded string }{
		{"", "3.7.0", "3.7.0"}, {"3.0.0", "3.7.0", "3.7.0"}, {"3.7.0", "3.7.0", "3.7.0"}, {"3.6.0", "3.6.0", "3.6.0"}, {"3.5.0", "3.5.0", ""},
	} {
		if file, recorded := fileVersion(c.cluster), recordedVersion(c.cluster); file != c.file || recorded != c.recorded {
			t.Errorf("in a cluster at %q: %q, which says %q", c.cluster, file, recorded)
		}
	}
}

// words is a log that several members write.
type words struct {
	mu   sync.Mutex // guards the field below
	text strings.Builder
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *words) count(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.text.String(), text)
}

// TestDowngrade goes back and changes its mind: all members say so, what they store and hand out follows, one that was away and
// one that joins hear of it, and the version rises again when it is cancelled.
func TestDowngrade(t *testing.T) {
	var said words
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3, func(_ int, cfg *Config) {
			cfg.DowngradeCheck, cfg.Log = time.Second, slog.New(slog.NewTextHandler(&said, nil))
		}, shortLog, inForm(transport.Database))
		at := func(v string, enabled bool) {
			t.Helper()
			c.eventually("every member is at "+v, func() bool {
				for _, m := range c.running() {
					s := m.Status()
					if m.ClusterVersion() != v || s.StorageVersion != v || s.Downgrade.Enabled != enabled {
						return false
					}
				}
				return true
			})
		}
		at("3.7.0", false)
		away := c.follower()
		m := c.members[away]
		for target, want := range map[string]error{
			"3.6": nil, "3.6.8": nil, "3.6.0-rc.1": nil, "3.5": ErrDowngradeTarget, "3.7": ErrDowngradeTarget, "3.8.0": ErrDowngradeTarget,
			"2.6": ErrDowngradeTarget, "": ErrDowngradeFormat, "3": ErrDowngradeFormat, "v3.6": ErrDowngradeFormat, "3.6.1.2": ErrDowngradeFormat,
		} {
			if cluster, err := m.DowngradeValidate(patient(t), target); !errors.Is(err, want) || (err == nil) != (cluster == "3.7.0") {
				t.Errorf("validate %q: %q, %v", target, cluster, err)
			}
		}
		if cluster, err := m.DowngradeCancel(patient(t)); err != nil || cluster != "3.7.0" {
			t.Errorf("cancel what is not: %q, %v", cluster, err)
		}
		c.stop(away)
		lead := c.members[c.leader()]
		if _, err := lead.DowngradeEnable(patient(t), "3.6"); err != nil {
			t.Fatal(err)
		}
		_, err := lead.DowngradeEnable(patient(t), "3.6")
		wants(t, "enable again", err, ErrDowngradeInProgress)
		_, err = lead.DowngradeEnable(patient(t), "3.5")
		wants(t, "enable another", err, ErrDowngradeTarget)
		time.Sleep(time.Minute)
		at("3.7.0", true) // as long as a member is not known
		lead.putMany("while", 100)
		letRelease()
		c.start(away)
		c.awaitReady()
		if got := c.members[away].CatchUpStats().Imported.Done; got != 1 {
			t.Errorf("%d databases were imported", got)
		}
		at("3.6.0", true)
		time.Sleep(time.Minute)
		at("3.6.0", true) // as long as a member is newer
		snap, err := c.members[away].Snapshot(patient(t))
		if err != nil || snap.Version != "3.6.0" {
			t.Fatalf("a snapshot says %q, %v", snap.Version, err)
		}
		if err := snap.Close(); err != nil {
			t.Error(err)
		}
		if on, err := c.members[away].DowngradeEnabled(patient(t)); !on || err != nil {
			t.Errorf("enabled: %t, %v", on, err)
		}
		if cluster, err := m.DowngradeCancel(patient(t)); err != nil || cluster != "3.6.0" {
			t.Errorf("cancel: %q, %v", cluster, err)
		}
		at("3.7.0", false)
		c.awaitEqual()
	})
	if got := said.count("The server is ready to downgrade"); got != 3 {
		t.Errorf("%d members of 3 say that they are ready to downgrade", got)
	}
	if said.count("the cluster has been downgraded") != 0 || said.count("failed to cancel downgrade") != 1 || said.count("reject downgrade request") != 2 {
		t.Error("the log does not say of every request what became of it")
	}
}

// TestDowngradeEnds: the leader ends a downgrade, begun by newer members, when all have the version that was aimed at.
func TestDowngradeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3, func(_ int, cfg *Config) { cfg.DowngradeCheck = time.Second })
		c.eventually("the version is known", func() bool { return c.members[0].ClusterVersion() == etcdStorage })
		_, err := c.members[0].proposeCold(patient(t), downgradeRequest(&membershippb.DowngradeInfoSetRequest{Enabled: true, Ver: etcdStorage}))
		if err != nil {
			t.Fatal(err)
		}
		c.eventually("it is over", func() bool {
			d, ever := c.members[0].cluster.Downgrade()
			return ever && !d.Enabled
		})
	})
	for server, want := range map[string]bool{"3.6.9": true, "3.6.0-rc.1": true, "3.7.0": false, "3.5.1": false, "": false} {
		if atVersion(server, "3.6.0") != want {
			t.Errorf("a server of version %q", server)
		}
	}
}
