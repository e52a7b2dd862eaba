package ctl

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"holdfast/ctl/load"
)

// workload is one size of the checks.
type workload struct {
	clients int
	rate    int // check perf: writes a second
	keys    int // check datascale: how many keys
}

// workloads are etcd's sizes, by each of the names they have.
var workloads = map[string]workload{
	"s": small, "small": small,
	"m": medium, "medium": medium,
	"l": large, "large": large,
	"xl": xLarge, "xLarge": xLarge,
}

var (
	small  = workload{clients: 50, rate: 150, keys: 10_000}
	medium = workload{clients: 200, rate: 1000, keys: 100_000}
	large  = workload{clients: 500, rate: 8000, keys: 1_000_000}
	xLarge = workload{clients: 1000, rate: 15000, keys: 3_000_000}
)

const (
	perfTime       = time.Minute
	perfKeyBytes   = 256
	perfValueBytes = 1024

	// scaleKeyBytes and scaleValueBytes make up the kilobyte that each pair of check datascale is said to have.
	scaleKeyBytes   = 512
	scaleValueBytes = 512
)

// What a cluster must not exceed, or fall short of, to pass check perf: etcd's limits.
const (
	perfShareMin   = 0.9
	perfSlowestMax = 500 * time.Millisecond
	perfStddevMax  = 100 * time.Millisecond
)

// sayErrors lists the writes that failed, if any did, in etcd's words, and says whether none did.
func sayErrors(w io.Writer, failed map[string]int) bool {
	if len(failed) == 0 {
		return true
	}
	fmt.Fprintln(w, "FAIL: too many errors")
	for _, text := range slices.Sorted(maps.Keys(failed)) {
		fmt.Fprintf(w, "FAIL: ERROR(%s) -> %d\n", text, failed[text])
	}
	return false
}

// sayPerf judges a load of so many writes a second in etcd's words, and says whether the cluster has passed.
func sayPerf(w io.Writer, s load.Stats, rate int) bool {
	pass := sayErrors(w, s.Errors)
	judge := func(ok bool, good, bad string, value any) {
		if ok {
			fmt.Fprintf(w, good, value)
		} else {
			fmt.Fprintf(w, bad, value)
			pass = false
		}
	}
	judge(s.Rate/float64(rate) > perfShareMin, "PASS: Throughput is %d writes/s\n", "FAIL: Throughput too low: %d writes/s\n", int(s.Rate)+1)
	judge(s.Slowest <= perfSlowestMax, "PASS: Slowest request took %fs\n", "Slowest request took too long: %fs\n", s.Slowest.Seconds())
	judge(s.Stddev <= perfStddevMax, "PASS: Stddev is %fs\n", "Stddev too high: %fs\n", s.Stddev.Seconds())
	if pass {
		fmt.Fprintln(w, "PASS")
	} else {
		fmt.Fprintln(w, "FAIL")
	}
	return pass
}
