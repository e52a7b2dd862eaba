package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Sample is one look at everything that is sampled.
type Sample struct {
	set  *Set
	out  chan<- prometheus.Metric
	seen map[*Family]bool
}

// Set shows a number of a gauge or counter, with the values of the labels in the family's order.
func (s *Sample) Set(f *Family, v float64, labels ...string) {
	s.seen[f] = true
	if f.Old && !s.set.cfg.Old {
		return
	}
	kind := prometheus.GaugeValue
	if f.Type == TypeCounter {
		kind = prometheus.CounterValue
	}
	s.out <- prometheus.MustNewConstMetric(f.desc, kind, v, labels...)
}

// Bool shows 1 or 0.
func (s *Sample) Bool(f *Family, v bool, labels ...string) {
	if v {
		s.Set(f, 1, labels...)
	} else {
		s.Set(f, 0, labels...)
	}
}

// Histogram shows how often what was observed fell where: counts[i] are those of at most Buckets[i] and above the bound before,
// the last are those above all bounds.
func (s *Sample) Histogram(f *Family, counts []uint64, sum float64, labels ...string) {
	if len(counts) != len(f.Buckets)+1 {
		panic(fmt.Sprintf("metrics: %d counts for the %d buckets of %s", len(counts), len(f.Buckets), f.Name))
	}
	s.seen[f] = true
	upTo, all := make(map[float64]uint64, len(f.Buckets)), uint64(0)
	for i, n := range counts {
		all += n
		if i < len(f.Buckets) {
			upTo[f.Buckets[i]] = all
		}
	}
	s.out <- prometheus.MustNewConstHistogram(f.desc, all, sum, upTo, labels...)
}

// rest shows 0 for the families without labels that nobody has shown. Those of calls have a mode of their own.
func (s *Sample) rest(held map[*Family]bool) {
	for _, f := range families {
		switch {
		case s.seen[f] || held[f] || len(f.Labels) > 0:
		case f.Type == TypeHistogram:
			s.Histogram(f, make([]uint64, len(f.Buckets)+1), 0)
		default:
			s.Set(f, 0)
		}
	}
}

// collector is the sampled part of a set.
type collector Set

// Describe implements prometheus.Collector. It says nothing: what there is depends on who samples.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	set := (*Set)(c)
	s := &Sample{set: set, out: out, seen: map[*Family]bool{}}
	set.mu.Lock()
	samplers, held := set.samplers[:len(set.samplers):len(set.samplers)], make(map[*Family]bool, len(set.held))
	for f := range set.held {
		held[f] = true
	}
	set.mu.Unlock()
	for _, read := range samplers {
		read(s)
	}
	s.rest(held)
}
