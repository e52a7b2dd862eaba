package server

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAutoCompaction writes one revision a minute for hours, under a simulated time, and notes when the history was cut
// and where. The expectations follow etcd's schedule: the first cut comes after a whole period, then one every hour or
// every period if that is shorter, at what was noted a period ago (a tenth of the interval more at most); or every five
// minutes, so that a number of revisions stay.
func TestAutoCompaction(t *testing.T) {
	for _, c := range []struct {
		name string
		what AutoCompaction
		run  time.Duration
		want string
	}{
		{"nothing is asked for", AutoCompaction{}, time.Hour, ""},
		{"half an hour", AutoCompaction{Period: 30 * time.Minute}, 100 * time.Minute, "30m at 1, 1h0m at 28, 1h30m at 58"},
		{"two hours", AutoCompaction{Period: 2 * time.Hour}, 4*time.Hour + 30*time.Minute, "2h0m at 1, 3h0m at 55, 4h0m at 115"},
		{"a hundred revisions", AutoCompaction{Revisions: 100}, 2 * time.Hour, "1h40m at 1, 1h45m at 6, 1h50m at 11, 1h55m at 16, 2h0m at 21"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testAutoCompaction(t, c.what, c.run, c.want) })
		})
	}
}

func testAutoCompaction(t *testing.T, what AutoCompaction, run time.Duration, want string) {
	cfg, _ := memoryConfig()
	cfg.Heartbeat, cfg.UpkeepInterval = time.Second, time.Hour // fewer wake-ups to simulate
	cfg.AutoCompaction = what
	m := start(t, cfg)
	began, before := time.Now(), m.keys.Compacted()
	var cuts []string
	time.Sleep(time.Second) // so that writes and cuts do not meet
	for time.Since(began) < run {
		m.put("k", time.Since(began).String())
		time.Sleep(time.Minute)
		if now := m.keys.Compacted(); now != before {
			at := strings.TrimSuffix(time.Since(began).Truncate(time.Minute).String(), "0s")
			cuts, before = append(cuts, fmt.Sprintf("%s at %v", at, now)), now
		}
	}
	if got := strings.Join(cuts, ", "); got != want {
		t.Errorf("cut %s\nwant %s", got, want)
	}
}

// TestAutoCompactionTriesAgain: a cut that fails is made at the next sample, and none is made where nothing was written.
func TestAutoCompactionTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS, cfg.Heartbeat, cfg.UpkeepInterval = disk, time.Second, time.Hour
		cfg.AutoCompaction = AutoCompaction{Period: 10 * time.Minute}
		m := start(t, cfg)
		m.put("k", "1")
		time.Sleep(9*time.Minute + 30*time.Second)
		release := disk.stick()
		time.Sleep(time.Minute)
		if got := m.keys.Compacted(); got != -1 {
			t.Fatalf("compacted at %v with a disk that does not answer", got)
		}
		release()
		time.Sleep(time.Minute)
		if got := m.keys.Compacted(); got != 1 && got != 2 {
			t.Errorf("compacted at %v a minute after the disk answered", got)
		}
		time.Sleep(20 * time.Minute)
		cut := m.keys.Compacted()
		index := m.Status().Committed
		time.Sleep(time.Hour)
		if got := m.Status().Committed; got > index+1 {
			t.Errorf("%d entries while nothing was written, compacted at %v", got-index, cut)
		}
	})
}
