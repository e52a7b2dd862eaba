package transport

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats is what a transport has counted.
type Stats struct {
	// Peers has everyone who ever was a peer or a remote, by member id. Under 0 is what came from senders that never were.
	Peers map[uint64]PeerStats
}

// PeerStats counts what happened with one peer.
type PeerStats struct {
	Known, Active  bool          // is a peer now; can be reached
	Attached       bool          // has connected to this member, to hear from it
	Disconnections uint64        // times it became unreachable
	ClockSkew      time.Duration // how far our clock is ahead of its, as of the last probe

	SentBytes, ReceivedBytes       uint64
	SentFailures, ReceivedFailures uint64 // messages lost on our side, and requests or messages that were no good

	SnapshotsSent, SnapshotsReceived SnapshotStats
	RoundTrips                       Histogram // of probes; bounds are RoundTripBounds
}

// SnapshotStats counts snapshots in one direction.
type SnapshotStats struct {
	Inflight  int64
	Succeeded uint64
	Failed    uint64
	Took      Histogram // of those that succeeded; bounds are SnapshotBounds
}

// Histogram says how often a duration fell where. Counts[i] are those of at most bound i and above the one before; the
// last are those above all bounds.
type Histogram struct {
	Counts []uint64
	Sum    time.Duration
}

// Bounds of the histograms in seconds, etcd's buckets: each twice the one before.
var (
	RoundTripBounds = doubling(0.0001, 16)
	SnapshotBounds  = doubling(0.1, 10)
)

func doubling(first float64, n int) []float64 {
	bounds := make([]float64, n)
	for i := range bounds {
		bounds[i] = first
		first *= 2
	}
	return bounds
}

// histogram is a Histogram in the making.
type histogram struct {
	bounds []float64

	mu     sync.Mutex // guards the fields below
	counts []uint64
	sum    time.Duration
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

func (h *histogram) observe(d time.Duration) {
	i, _ := slices.BinarySearch(h.bounds, d.Seconds())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[i]++
	h.sum += d
}

func (h *histogram) snapshot() Histogram {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Histogram{Counts: slices.Clone(h.counts), Sum: h.sum}
}

// counter is a PeerStats in the making.
type counter struct {
	disconnections, sentBytes, receivedBytes, sentFailures, receivedFailures atomic.Uint64

	skew           atomic.Int64 // ns
	sent, received snapshotCounter
	roundTrips     *histogram
}

type snapshotCounter struct {
	inflight          atomic.Int64
	succeeded, failed atomic.Uint64
	took              *histogram
}

// begin counts a snapshot on its way. done counts how it ended.
func (c *snapshotCounter) begin(now func() time.Time) (done func(error)) {
	began := now()
	c.inflight.Add(1)
	return func(err error) {
		c.inflight.Add(-1)
		if err != nil {
			c.failed.Add(1)
			return
		}
		c.succeeded.Add(1)
		c.took.observe(now().Sub(began))
	}
}

func (c *snapshotCounter) snapshot() SnapshotStats {
	return SnapshotStats{
		Inflight: c.inflight.Load(), Succeeded: c.succeeded.Load(), Failed: c.failed.Load(), Took: c.took.snapshot(),
	}
}

func newCounter() *counter {
	c := &counter{roundTrips: newHistogram(RoundTripBounds)}
	c.sent.took, c.received.took = newHistogram(SnapshotBounds), newHistogram(SnapshotBounds)
	return c
}

func (c *counter) snapshot() PeerStats {
	return PeerStats{
		Disconnections: c.disconnections.Load(), ClockSkew: time.Duration(c.skew.Load()),
		SentBytes: c.sentBytes.Load(), ReceivedBytes: c.receivedBytes.Load(),
		SentFailures: c.sentFailures.Load(), ReceivedFailures: c.receivedFailures.Load(),
		SnapshotsSent: c.sent.snapshot(), SnapshotsReceived: c.received.snapshot(),
		RoundTrips: c.roundTrips.snapshot(),
	}
}

// counters has a counter for everyone who was a peer. It outlives them: what is counted never falls.
type counters struct {
	mu sync.Mutex // guards the field below
	by map[uint64]*counter
}

func newCounters() *counters { return &counters{by: map[uint64]*counter{0: newCounter()}} }

// of returns the counter of a peer, which it makes if there is none.
func (c *counters) of(id uint64) *counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[id] == nil {
		c.by[id] = newCounter()
	}
	return c.by[id]
}

// from returns the counter for a request. Whatever id it claims, no more counters come of it.
func (c *counters) from(id uint64) *counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.by[id]; found != nil {
		return found
	}
	return c.by[0]
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Peers: make(map[uint64]PeerStats, len(c.by))}
	for id, counter := range c.by {
		s.Peers[id] = counter.snapshot()
	}
	return s
}
