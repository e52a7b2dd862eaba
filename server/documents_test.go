package server

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/config"
	"holdfast/kv"
)

// parsed is memoryConfig with what flags and variables say about compaction and quota.
func parsed(t *testing.T, args, environ []string) Config {
	t.Helper()
	settings, _, err := config.Parse(config.Sources{Args: args, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	cfg, _ := memoryConfig()
	cfg.Heartbeat, cfg.UpkeepInterval = time.Second, time.Hour // fewer wake-ups to simulate
	if cfg.AutoCompaction.Period, cfg.AutoCompaction.Revisions, err = settings.Compaction(); err != nil {
		t.Fatal(err)
	}
	cfg.Quota, _ = settings.Quota()
	return cfg
}

// TestB5Environment: the variables that the public instructions for a cluster in Kubernetes set bound the store, and keep the last
// 1000 revisions. Method: a member under a simulated time, with half as much again written.
func TestB5Environment(t *testing.T) {
	for _, c := range []struct {
		quota     string
		retention int64
	}{{"2147483648", 1000}, {"2589934592", 100}} {
		synctest.Test(t, func(t *testing.T) {
			m := start(t, parsed(t, nil, []string{
				"ETCD_QUOTA_BACKEND_BYTES=" + c.quota, fmt.Sprint("ETCD_AUTO_COMPACTION_RETENTION=", c.retention), "ETCD_AUTO_COMPACTION_MODE=revision",
			}))
			if got := fmt.Sprint(m.Status().Quota); got != c.quota {
				t.Errorf("the quota is %s, want %s", got, c.quota)
			}
			m.putMany("k", int(c.retention)*3/2)
			time.Sleep(compactEvery + time.Second)
			if got, want := m.keys.Compacted(), m.keys.Revision()-kv.Revision(c.retention); got != want {
				t.Errorf("compacted at %v, want %v, %d below the head", got, want, c.retention)
			}
		})
	}
}

// TestD1Retention is the table of retentions by time: a number alone is hours, a duration is what it says, 0 keeps everything.
// Method: a revision a minute under a simulated time; the expectations follow etcd's schedule (TestAutoCompaction).
func TestD1Retention(t *testing.T) {
	for retention, want := range map[string]string{
		"1": "1h0m at 1, 2h0m at 55", "1h": "1h0m at 1, 2h0m at 55", "30m": "30m at 1, 1h0m at 28, 1h30m at 58, 2h0m at 88", "0": "", "0h": "",
	} {
		t.Run(retention, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := parsed(t, []string{"--auto-compaction-mode=periodic", "--auto-compaction-retention=" + retention}, nil)
				testAutoCompaction(t, cfg.AutoCompaction, 130*time.Minute, want)
			})
		})
	}
}
