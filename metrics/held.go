package metrics

import (
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Histogram counts how often a number fell where. It may be used from any goroutine. Prometheus's own does twice the atomic
// operations, for an exactness between sum and counts that nobody can see.
type Histogram struct {
	bounds []float64
	counts []atomic.Uint64 // one more than bounds
	sum    atomic.Uint64   // bits of a float64
}

func newHistogram(f *Family) *Histogram {
	return &Histogram{bounds: f.Buckets, counts: make([]atomic.Uint64, len(f.Buckets)+1)}
}

// Observe counts v.
func (h *Histogram) Observe(v float64) { h.observe(v, 1) }

func (h *Histogram) observe(v float64, times int) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.counts[i].Add(uint64(times))
	v *= float64(times)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Took counts a duration in seconds.
func (h *Histogram) Took(d time.Duration) { h.Observe(d.Seconds()) }

// TookEach counts so many equal durations.
func (h *Histogram) TookEach(d time.Duration, times int) { h.observe(d.Seconds(), times) }

func (h *Histogram) show(s *Sample, f *Family, labels ...string) {
	counts := make([]uint64, len(h.counts))
	for i := range counts {
		counts[i] = h.counts[i].Load()
	}
	s.Histogram(f, counts, math.Float64frombits(h.sum.Load()), labels...)
}

// Histogram holds a family without labels.
func (s *Set) Histogram(f *Family) *Histogram {
	h := newHistogram(f)
	s.hold(f, func(out *Sample) { h.show(out, f) })
	return h
}

// vector is what a family with labels holds: a T for each combination of their values.
type vector[T any] struct {
	fresh func() *T

	mu sync.Mutex // guards the field below
	by map[string]*T
}

// labelsEnd separates the values of labels; no value has it.
const labelsEnd = "\x00"

func (v *vector[T]) with(values []string) *T {
	key := strings.ToValidUTF8(strings.Join(values, labelsEnd), "?")
	v.mu.Lock()
	defer v.mu.Unlock()
	one := v.by[key]
	if one == nil {
		one = v.fresh()
		v.by[key] = one
	}
	return one
}

func (v *vector[T]) each(show func(one *T, values ...string)) {
	v.mu.Lock()
	known := maps.Clone(v.by)
	v.mu.Unlock()
	for key, one := range known {
		show(one, strings.Split(key, labelsEnd)...)
	}
}

// Histograms are those of a family with labels.
type Histograms struct{ vector[Histogram] }

// Histograms holds a family with labels.
func (s *Set) Histograms(f *Family) *Histograms {
	h := &Histograms{vector[Histogram]{fresh: func() *Histogram { return newHistogram(f) }, by: map[string]*Histogram{}}}
	s.hold(f, func(out *Sample) {
		h.each(func(one *Histogram, values ...string) { one.show(out, f, values...) })
	})
	return h
}

// With is the histogram of the values of the labels, in the family's order. It is shown from the first call on. It is not for hot
// paths.
func (h *Histograms) With(values ...string) *Histogram { return h.with(values) }

// Counters are those of a family with labels.
type Counters struct{ vector[atomic.Uint64] }

// Counters holds a family with labels of which few values are known before.
func (s *Set) Counters(f *Family) *Counters {
	c := &Counters{vector[atomic.Uint64]{fresh: func() *atomic.Uint64 { return new(atomic.Uint64) }, by: map[string]*atomic.Uint64{}}}
	s.hold(f, func(out *Sample) {
		c.each(func(one *atomic.Uint64, values ...string) { out.Set(f, float64(one.Load()), values...) })
	})
	return c
}

// Inc counts one for the values of the labels, in the family's order. It is not for hot paths.
func (c *Counters) Inc(values ...string) { c.with(values).Add(1) }

// Outcomes are the durations of operations by name and success. What is known is found without a lock.
type Outcomes struct {
	in     *Histograms
	labels func(op, success string) []string

	mu    sync.Mutex // taken to make a histogram known
	known atomic.Pointer[map[outcome]*Histogram]
}

type outcome struct {
	op      string
	success bool
}

// Outcomes holds a family whose labels follow from an operation's name and its success. A histogram is shown from its first
// duration on.
func (s *Set) Outcomes(f *Family, labels func(op, success string) []string) *Outcomes {
	o := &Outcomes{in: s.Histograms(f), labels: labels}
	o.known.Store(&map[outcome]*Histogram{})
	return o
}

// Took counts an operation. op is one of a few names.
func (o *Outcomes) Took(op string, success bool, d time.Duration) {
	h, found := (*o.known.Load())[outcome{op, success}]
	if !found {
		h = o.learn(outcome{op, success})
	}
	h.Took(d)
}

func (o *Outcomes) learn(one outcome) *Histogram {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.in.With(o.labels(one.op, strconv.FormatBool(one.success))...)
	more := maps.Clone(*o.known.Load())
	more[one] = h
	o.known.Store(&more)
	return h
}
