package metrics

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config says what a Set shows.
type Config struct {
	// Extensive adds the histograms of calls' durations.
	Extensive bool
	// Old adds the names that etcd has given up.
	Old bool
}

// Set is what one member shows.
type Set struct {
	cfg      Config
	registry *prometheus.Registry
	handler  http.Handler

	mu       sync.Mutex // guards the fields below
	held     map[*Family]bool
	samplers []func(*Sample)
}

// New makes a set that shows every family without labels as 0, and what the Go runtime and the operating system say of the
// process.
func New(cfg Config) *Set {
	s := &Set{cfg: cfg, registry: prometheus.NewRegistry(), held: map[*Family]bool{}}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), (*collector)(s))
	s.handler = promhttp.InstrumentMetricHandler(s.registry, promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	s.Sample(sampleProcess)
	return s
}

// Extensive tells whether the histograms of calls' durations are wanted.
func (s *Set) Extensive() bool { return s.cfg.Extensive }

// Handler answers whoever looks, in the text form of Prometheus.
func (s *Set) Handler() http.Handler { return s.handler }

// Sample has read called whenever somebody looks. It is called from any goroutine, and must not wait for requests.
func (s *Set) Sample(read func(*Sample)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samplers = append(s.samplers, read)
}

// hold notes that f is counted as things happen, and how it is shown.
func (s *Set) hold(f *Family, show func(*Sample)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[f] {
		panic(fmt.Sprintf("metrics: %s is held twice", f.Name))
	}
	s.held[f] = true
	s.samplers = append(s.samplers, show)
}
