package peer

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

var (
	seedFlag    = flag.Uint64("peer.seed", 0, "run the episode of this seed alone")
	opsFlag     = flag.Int("peer.ops", 1200, "operations drawn per episode")
	oursFlag    = flag.String("peer.ours", "", "server to hold against etcd: a path, or etcd for etcd itself; that of the sources when empty")
	shrinkFlag  = flag.Bool("peer.shrink", false, "drop operations from a failing list for as long as it fails")
	knownFlag   = flag.String("peer.known", "", "pass over differences whose line matches this expression")
	skipFlag    = flag.String("peer.skip", "", "leave out operations whose text matches this expression")
	tlsFlag     = flag.Bool("peer.tls", false, "have both servers make certificates for their client ports")
	jsonFlag    = flag.Bool("peer.json", false, "send calls through the JSON gateway of both servers")
	verboseFlag = flag.Bool("peer.v", false, "write every operation as it runs")
)

// TestPeer holds our server against etcd for as many episodes as give HOLDFAST_PEER_OPS operations (the long form has
// 200000; unset, two episodes: one with etcd's default limits and one with small ones).
//
//	go test ./test/peer -run TestPeer/episodes -peer.seed=7 -peer.ops=1200    repeats one episode
func TestPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	cfg := config(t, oursFor(t))
	tally, whole := NewTally(cfg), false
	t.Run("episodes", func(t *testing.T) { whole = episodes(t, cfg, tally) })
	t.Run("gateway", func(t *testing.T) {
		cfg := cfg
		cfg.JSON = true
		for _, seed := range []uint64{1, 2} { // with etcd's default limits, and with small ones
			e := Episode{Seed: seed, Ops: *opsFlag / 2}
			count, err := Run(t.Context(), cfg, e, tally)
			if err != nil {
				report(t, cfg, e, err)
			}
			t.Logf("seed %d in JSON: nothing differs in %d operations", e.Seed, count)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		for seed, json := range map[uint64]bool{1: false, 2: true} {
			cfg := cfg
			cfg.TLS, cfg.JSON = true, json
			e := Episode{Seed: seed, Ops: *opsFlag / 2}
			count, err := Run(t.Context(), cfg, e, tally)
			if err != nil {
				report(t, cfg, e, err)
			}
			t.Logf("seed %d with TLS, in JSON %v: nothing differs in %d operations", e.Seed, json, count)
		}
	})
	t.Run("downgrade", func(t *testing.T) {
		for _, json := range []bool{false, true} {
			cfg := cfg
			cfg.JSON = json
			if err := RunDowngrade(t.Context(), cfg, tally); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("quota", func(t *testing.T) {
		if err := RunQuota(t.Context(), cfg, tally); err != nil {
			t.Fatal(err)
		}
		if whole {
			tally.count(t)
		}
	})
}

// episodes runs the episode the flags ask for, or as many as make up the number of operations asked for; in the latter
// case it returns true, and nothing of the catalogue may be missing.
func episodes(t *testing.T, cfg Config, tally *Tally) bool {
	want, err := strconv.Atoi(cmp.Or(os.Getenv("HOLDFAST_PEER_OPS"), "0"))
	if err != nil {
		t.Fatalf("HOLDFAST_PEER_OPS: %v", err)
	}
	more := func(n, ran int) bool { return n < 2 || ran < want }
	first := uint64(1)
	if *seedFlag != 0 {
		first, more = *seedFlag, func(n, _ int) bool { return n < 1 }
	}
	ran, began := 0, time.Now()
	for n := 0; more(n, ran); n++ {
		e := Episode{Seed: first + uint64(n), Ops: *opsFlag}
		count, err := Run(t.Context(), cfg, e, tally)
		ran += count
		if err != nil {
			report(t, cfg, e, err)
		}
		t.Logf("seed %d: nothing differs in %d operations", e.Seed, count)
	}
	took := time.Since(began)
	t.Logf("%d operations in %s, %.0f a second", ran, took.Round(time.Second), float64(ran)/took.Seconds())
	return *seedFlag == 0
}

// count prints the table and fails the test when something of the catalogue was never met.
func (t *Tally) count(tb testing.TB) {
	tb.Helper()
	t.Print(tb.Output())
	for _, name := range t.Missing() {
		tb.Errorf("never met: %s", name)
	}
}

// report fails the test with the difference, what repeats it and, when asked, the shortest list found that shows it.
func report(t *testing.T, cfg Config, e Episode, err error) {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatal(err)
	}
	again := fmt.Sprintf("go test ./test/peer -count=1 -run TestPeer/episodes -peer.seed=%d -peer.ops=%d", e.Seed, e.Ops)
	if cfg.JSON {
		again += " -peer.json"
	}
	if cfg.TLS {
		again += " -peer.tls"
	}
	if *oursFlag != "" {
		again += " -peer.ours=" + *oursFlag
	}
	if !*shrinkFlag {
		t.Fatalf("%v\n\nagain: %s\nsmaller: add -peer.shrink", f, again)
	}
	small := Shrink(t.Context(), cfg, e, f, t.Output())
	t.Fatalf("%v\n\nthe shortest list found:\n%v\n\nagain: %s", f, small, again)
}

// oursFor returns the server to test: the flag's, or that of the sources, which is built.
func oursFor(t *testing.T) string {
	t.Helper()
	switch *oursFlag {
	case "etcd":
		return etcd.Binary(t, "etcd")
	case "":
		return run.Holdfast(t)
	}
	return *oursFlag
}

func config(t *testing.T, ours string) Config {
	t.Helper()
	cfg := Config{Etcd: etcd.Binary(t, "etcd"), Ours: ours, Etcdutl: etcd.Binary(t, "etcdutl"), Dir: t.TempDir(), JSON: *jsonFlag, TLS: *tlsFlag}
	if *knownFlag != "" {
		cfg.Known = regexp.MustCompile(*knownFlag)
	}
	if *skipFlag != "" {
		cfg.Skip = regexp.MustCompile(*skipFlag)
	}
	if *verboseFlag {
		cfg.Log = t.Output()
	}
	return cfg
}

// TestEtcdAgainstItself runs the comparison with etcd on both sides, which must find nothing and meet the whole catalogue.
// It is the proof that what the comparison finds is not of its own making.
func TestEtcdAgainstItself(t *testing.T) {
	if testing.Short() || os.Getenv("HOLDFAST_PEER_SELF") == "" {
		t.Skip("HOLDFAST_PEER_SELF is not set")
	}
	cfg := config(t, etcd.Binary(t, "etcd"))
	tally := NewTally(cfg)
	for seed := range uint64(2) {
		e := Episode{Seed: 1000 + seed, Ops: *opsFlag}
		if _, err := Run(t.Context(), cfg, e, tally); err != nil {
			report(t, cfg, e, err)
		}
	}
	for _, run := range []func(context.Context, Config, *Tally) error{RunDowngrade, RunQuota} {
		if err := run(t.Context(), cfg, tally); err != nil {
			t.Fatal(err)
		}
	}
	tally.count(t)
}
