package sim

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 1, "the first seed")
	roundsFlag = flag.Int("rounds", 4, "how many seeds, from the first on")
	plantFlag  = flag.String("plant", "", "make this mistake on purpose, which a build tag has compiled in")
	logFlag    = flag.String("eventlog", "", "write the event log of the last seed into this file")
)

// requestsMin is how many requests a run makes at least; a run with fewer tests too little.
const requestsMin = 2000

// progressEvery is after how many seeds a long run says how far it is.
const progressEvery = 50

// sizeOf is how many members the cluster of a seed has.
func sizeOf(seed uint64) int { return []int{3, 5}[seed%2] }

// simulate runs a seed.
func simulate(t *testing.T, seed uint64, mistake slips) outcome {
	cryptotest.SetGlobalRandom(t, seed) // raft draws its election timeouts there
	return run(seed, mistake, sizeOf(seed))
}

// TestClusters runs seeds. Each must be judged right; together they show how often each fault struck.
func TestClusters(t *testing.T) {
	mistake, compiled := plants[*plantFlag]
	if *plantFlag != "" && !compiled {
		t.Fatalf("%s is not in this build, only %q; -tags plant_all", *plantFlag, sortedKeys(plants))
	}
	total, began := map[string]int{}, time.Now()
	for i := range *roundsFlag {
		seed := *seedFlag + uint64(i)
		o := simulate(t, seed, mistake)
		for what, n := range o.counts {
			total[what] += n
		}
		if n := o.counts["requests"]; n < requestsMin && o.wrong == "" {
			t.Errorf("seed %d: only %d requests", seed, n)
		}
		if *logFlag != "" {
			if err := os.WriteFile(*logFlag, []byte(o.log), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if o.wrong != "" {
			report(t, o)
		}
		if n := i + 1; n%progressEvery == 0 && n < *roundsFlag {
			t.Logf("%d seeds in %.0f s", n, time.Since(began).Seconds())
		}
	}
	t.Logf("%d seeds in %.1f s\n%s", *roundsFlag, time.Since(began).Seconds(), list(total))
	if *roundsFlag < 50 {
		return
	}
	for _, f := range faults {
		if total["fault: "+f.name] == 0 {
			t.Errorf("no %s in all of this", f.name)
		}
	}
	for _, what := range slices.Concat(slices.Collect(maps.Values(changes)), usersSeen) {
		if total[what] == 0 {
			t.Errorf("no %s in all of this", what)
		}
	}
}

// report says what was wrong, how to see it again, and where the event log is.
func report(t *testing.T, o outcome) {
	name := filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-sim-%d.log", o.seed))
	if err := os.WriteFile(name, []byte(o.log), 0o600); err != nil {
		t.Error(err)
	}
	t.Errorf("seed %d, %d members: %s\nagain: go test ./test/sim -run TestClusters -seed=%d -rounds=1\nevent log: %s", o.seed, sizeOf(o.seed), o.wrong, o.seed, name)
}

func list(counts map[string]int) string {
	var b strings.Builder
	for _, what := range sortedKeys(counts) {
		fmt.Fprintf(&b, "%8d %s\n", counts[what], what)
	}
	return b.String()
}

// TestSameSeedSameLog checks that a seed decides everything, so that what it finds can be looked at.
func TestSameSeedSameLog(t *testing.T) {
	seeds := uint64(2)
	if *roundsFlag >= 100 {
		seeds = 20
	}
	for seed := uint64(21); seed < 21+seeds; seed++ {
		a, b := simulate(t, seed, slips{}), simulate(t, seed, slips{})
		if a.log != b.log {
			t.Fatalf("seed %d gave two logs; they differ at\n%s", seed, difference(a.log, b.log))
		}
	}
}

func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d\n%s\n%s", i, x[i], y[i])
		}
	}
	return fmt.Sprintf("line %d: one ends", min(len(x), len(y)))
}
