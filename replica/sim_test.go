package replica

import (
	"os"
	"strconv"
	"testing"
	"testing/cryptotest"
	"time"
)

// TestClusters runs clusters through random faults and checks what cluster checks at every step, and that they come back
// to work when the faults end. REPLICA_SEED replays one run, REPLICA_RUNS makes more of them.
func TestClusters(t *testing.T) {
	first, runs := uint64(time.Now().UnixNano()), 12
	if s := os.Getenv("REPLICA_SEED"); s != "" {
		first, runs = mustParse(t, s), 1
	} else if s := os.Getenv("REPLICA_RUNS"); s != "" {
		runs = int(mustParse(t, s))
	}
	total := map[string]int{}
	for i := range runs {
		seed := first + uint64(i)
		t.Run("seed="+strconv.FormatUint(seed, 10), func(t *testing.T) {
			for what, n := range runCluster(t, seed).counts {
				total[what] += n
			}
		})
	}
	t.Log(total)
}

func runCluster(t *testing.T, seed uint64) *cluster {
	cryptotest.SetGlobalRandom(t, seed) // raft draws its election timeouts there
	size := 3 + 2*int(seed%2)
	voting := size
	if seed%3 == 0 {
		voting = 1 // a new cluster that grows
	}
	c := newCluster(t, seed, size, voting)
	for range 20000 {
		c.step(false)
	}
	c.heal()
	c.counts["entries"] = len(c.history) - 1
	return c
}

// TestSameSeedSameRun checks that a seed decides everything, so that a failure can be replayed.
func TestSameSeedSameRun(t *testing.T) {
	trace := func(name string) (text string) {
		t.Run(name, func(t *testing.T) { text = runCluster(t, 5).trace.String() })
		return text
	}
	if trace("first") != trace("second") {
		t.Fatal("two runs of one seed differ")
	}
}

func mustParse(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
