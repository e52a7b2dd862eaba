package ctl

import (
	"strings"
	"testing"
	"time"

	"holdfast/ctl/load"
)

// Each limit fails a cluster by itself; the limits themselves are passed, but for the rate.
func TestSayPerf(t *testing.T) {
	good := load.Stats{Rate: 149.5, Slowest: perfSlowestMax, Stddev: perfStddevMax}
	for what, test := range map[string]struct {
		change func(*load.Stats)
		want   string
	}{
		"good": {func(*load.Stats) {}, "PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.500000s\nPASS: Stddev is 0.100000s\nPASS\n"},
		"few":  {func(s *load.Stats) { s.Rate = 135 }, "FAIL: Throughput too low: 136 writes/s\nPASS: Slowest request took 0.500000s\nPASS: Stddev is 0.100000s\nFAIL\n"},
		"slow": {func(s *load.Stats) { s.Slowest += time.Millisecond }, "PASS: Throughput is 150 writes/s\nSlowest request took too long: 0.501000s\nPASS: Stddev is 0.100000s\nFAIL\n"},
		"odd":  {func(s *load.Stats) { s.Stddev *= 2 }, "PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.500000s\nStddev too high: 0.200000s\nFAIL\n"},
		"failing": {func(s *load.Stats) { s.Errors = map[string]int{"b": 1, "a": 2} },
			"FAIL: too many errors\nFAIL: ERROR(a) -> 2\nFAIL: ERROR(b) -> 1\nPASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.500000s\nPASS: Stddev is 0.100000s\nFAIL\n"},
	} {
		s := good
		test.change(&s)
		var said strings.Builder
		if pass := sayPerf(&said, s, 150); said.String() != test.want || pass != strings.HasSuffix(test.want, "PASS\n") {
			t.Errorf("%s: passed %v, said\n%s", what, pass, said.String())
		}
	}
}
