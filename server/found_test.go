package server

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/membership"
)

// TestFoundingSurvivesCrashes crashes before each operation on the disk while a member founds its cluster and takes a
// put: it comes up as the same member of the same cluster with what it had acknowledged, or founds it then.
func TestFoundingSurvivesCrashes(t *testing.T) {
	seed := drawSeed(t)
	cfg := testConfig("data")
	disk := newCrashingFS(seed)
	acknowledged := 0
	synctest.Test(t, func(t *testing.T) {
		cfg.FS = disk
		m := start(t, cfg)
		m.put("k", "v")
		acknowledged = disk.crash()
		m.put("k2", "v")
	})
	for i, fs := range disk.crashes {
		synctest.Test(t, func(t *testing.T) {
			cfg.FS = fs
			m := start(t, cfg)
			if m.ID() != cfg.Founders[0].ID || m.ClusterID() != cfg.clusterID() {
				t.Errorf("crash %d: came up as %v of %x", i, m.ID(), m.ClusterID())
			}
			if got := m.get("k"); got != "v" && (got != "" || i >= acknowledged) {
				t.Errorf("crash %d: the key is %q", i, got)
			}
			m.put("after", "x")
			members, err := m.Members(t.Context(), true)
			if err != nil || len(members) != 1 || members[0].Name != "default" {
				t.Errorf("crash %d: members %v, %v", i, members, err)
			}
		})
	}
	t.Logf("%d crashes, the put was acknowledged before number %d", len(disk.crashes), acknowledged)
}

// TestMemberKeepsItsIdentity: with data present, the founding settings are not looked at.
func TestMemberKeepsItsIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := start(t, cfg)
		id, cluster := m.ID(), m.ClusterID()
		m.stop()
		cfg.Name = "renamed"
		cfg.Founders = []membership.Member{{ID: 99, Name: "renamed", PeerURLs: []string{"http://other:2380"}}}
		m = start(t, cfg)
		if m.ID() != id || m.ClusterID() != cluster {
			t.Errorf("came back as %v of %x, was %v of %x", m.ID(), m.ClusterID(), id, cluster)
		}
		members, err := m.Members(t.Context(), true)
		if err != nil || len(members) != 1 || members[0].Name != "renamed" || members[0].PeerURLs[0] != "http://localhost:2380" {
			t.Errorf("members %+v, %v", members, err)
		}
	})
}

// TestOpenRefusesStrangers: who is not among the founders has nothing to found.
func TestOpenRefusesStrangers(t *testing.T) {
	cfg, _ := memoryConfig()
	cfg.Name = "other"
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "--initial-cluster") {
		t.Errorf("opened as a member that is not there: %v", err)
	}
}

// TestKillsLoseNothing crashes a member again and again, in the middle of flushes and log releases: what it acknowledged
// is there after each crash, and nothing else but what was under way.
func TestKillsLoseNothing(t *testing.T) {
	seed := drawSeed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	cfg := testConfig("data")
	cfg.SnapshotEvery, cfg.CatchUpEntries, cfg.Memory.FlushBytes, cfg.SegmentBytes = 20, 5, 4<<10, 16<<10
	fs := vfs.NewCrashableMem()
	want := map[string]string{}
	rev := kv.Revision(1)
	for life := range 12 {
		synctest.Test(t, func(t *testing.T) {
			cfg.FS = fs
			m := start(t, cfg)
			for key, value := range want {
				if got := m.get(key); got != value {
					t.Errorf("life %d: %s is %q, was acknowledged as %q", life, key, got, value)
				}
			}
			if got := m.Header().Revision; got != rev {
				t.Errorf("life %d: begins at revision %v, want %v", life, got, rev)
			}
			for i := range 20 + rng.IntN(60) {
				key, value := fmt.Sprint("k", rng.IntN(20)), fmt.Sprint(life, ".", i, strings.Repeat("x", rng.IntN(400)))
				rev = m.put(key, value)
				want[key] = value
				if rng.IntN(10) == 0 {
					pause(cfg)
				}
			}
			fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(100), RNG: rng})
		})
	}
}
