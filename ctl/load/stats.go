package load

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Stats is what a load has measured. Only writes that succeeded have times.
type Stats struct {
	Writes  int            // that succeeded
	Errors  map[string]int // the others, by text
	Total   time.Duration  // from the first to the end of the last
	Rate    float64        // writes a second that succeeded
	Slowest time.Duration
	Stddev  time.Duration   // standard deviation of the time of a write
	Times   []time.Duration // of each write, ascending
}

// Quantile returns the time that the share q of all writes did not exceed, 0 when there were none.
func (s Stats) Quantile(q float64) time.Duration { return Quantile(s.Times, q) }

// Quantile returns the smallest of the ascending times that the share q of them, 0 to 1, does not exceed; 0 if there are none.
func Quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	i := int(math.Ceil(q*float64(len(times)))) - 1
	return times[min(max(i, 0), len(times)-1)]
}

// meter collects times from many goroutines.
type meter struct {
	began time.Time
	wrote func(total int)

	mu     sync.Mutex // guards the fields below
	times  []time.Duration
	errors map[string]int
	total  int
}

func (m *meter) add(took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	if err == nil {
		m.times = append(m.times, took)
	} else {
		if m.errors == nil {
			m.errors = make(map[string]int)
		}
		m.errors[err.Error()]++
	}
	if m.wrote != nil {
		m.wrote(m.total)
	}
}

// stats judges what was collected, once nothing is added any more.
func (m *meter) stats(now time.Time) Stats {
	slices.Sort(m.times)
	s := Stats{Writes: len(m.times), Errors: m.errors, Total: now.Sub(m.began), Times: m.times}
	if s.Total > 0 {
		s.Rate = float64(s.Writes) / s.Total.Seconds()
	}
	if s.Writes > 0 {
		s.Slowest = s.Times[s.Writes-1]
		s.Stddev = deviation(s.Times)
	}
	return s
}

func deviation(times []time.Duration) time.Duration {
	var sum, squares float64
	for _, took := range times {
		sum += float64(took)
	}
	mean := sum / float64(len(times))
	for _, took := range times {
		squares += (float64(took) - mean) * (float64(took) - mean)
	}
	return time.Duration(math.Sqrt(squares / float64(len(times))))
}
