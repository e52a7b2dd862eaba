package bench

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCPUOfStat(t *testing.T) {
	// The name of a program may hold whatever the format is made of.
	user, system, err := cpuOfStat("42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 99 99 20 0 1\n")
	if err != nil || user != 2500*time.Millisecond || system != 500*time.Millisecond {
		t.Errorf("%v, %v, %v", user, system, err)
	}
	for _, bad := range []string{"", "42 (a) S 1 2", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x 50 0"} {
		if _, _, err := cpuOfStat(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestBusyOfStat(t *testing.T) {
	got, err := busyOfStat("cpu  100 20 30 5000 600 7 8 35 999 999")
	if err != nil || got != 2*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := busyOfStat("intr 1 2 3 4 5 6 7 8 9"); err == nil {
		t.Error("another line accepted")
	}
}

// TestMeterSeesWork burns CPU, writes a file and expects the meter on this very process to notice. No upper bound: the
// machine may do what it likes beside.
func TestMeterSeesWork(t *testing.T) {
	m, err := readMeter(os.Getpid())
	if err != nil {
		t.Skip(err) // no /proc here
	}
	for n, until := 0, m.client+50*time.Millisecond; ; n++ {
		now, err := ownCPU()
		if err != nil {
			t.Fatal(err)
		}
		if now > until {
			break
		}
	}
	s, err := m.since()
	if err != nil {
		t.Fatal(err)
	}
	if s.client < 50*time.Millisecond || s.server() < 20*time.Millisecond || s.wall <= 0 || s.others < 0 {
		t.Errorf("%+v", s)
	}
	held, err := memoryOf(os.Getpid())
	if err != nil || held.anonymous <= 0 || held.resident < held.anonymous || held.peak < held.resident {
		t.Errorf("%+v, %v", held, err)
	}
}

func TestDiskOf(t *testing.T) {
	dir := t.TempDir()
	for path, size := range map[string]int{"member/wal/0": 1 << 20, "member/store/a/b": 2 << 20} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, noise()[:min(size, len(noise()))], 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(size)); err != nil { // what is not allocated does not count
			t.Fatal(err)
		}
	}
	total, parts, err := diskOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if total != parts["wal"]+parts["store"] || parts["wal"] < 1 || parts["store"] < 1 || parts["store"] >= 2 {
		t.Errorf("total %v, parts %v", total, parts)
	}
}
