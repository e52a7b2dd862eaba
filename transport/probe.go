package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// probeInterval is below ioTimeout, so that an etcd keeps the connection for the next probe. etcd's number.
	probeInterval = ioTimeout - time.Second
	// skewMax is the difference between two clocks that is worth a warning. etcd's number.
	skewMax = time.Second
	// probeLogInterval stands between two warnings of the same kind about a peer. etcd's number.
	probeLogInterval = 30 * time.Second
)

// probe measures the way to the peer and the difference of the clocks until ctx ends.
func (p *peer) probe(ctx context.Context) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	var unhealthy, drifting complaint
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		trip, skew, err := p.probeOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		now := p.t.cfg.Now()
		if unhealthy.due(err != nil, now) {
			p.log.Warn("prober detected unhealthy status", "error", err)
		}
		if err != nil {
			continue
		}
		p.count.roundTrips.observe(trip)
		p.count.skew.Store(int64(skew))
		if drifting.due(skew.Abs() > skewMax, now) {
			p.log.Warn("prober found high clock drift", "clock-drift", skew, "rtt", trip)
		}
	}
}

// complaint is when something was last complained about.
type complaint struct{ last time.Time }

// due reports whether to complain now, given that something is wrong or is not.
func (c *complaint) due(wrong bool, now time.Time) bool {
	switch {
	case !wrong:
		c.last = time.Time{}
		return false
	case !c.last.IsZero() && now.Sub(c.last) < probeLogInterval:
		return false
	}
	c.last = now
	return true
}

// probeOnce returns how long a request to the peer takes and how far our clock is ahead of the peer's.
func (p *peer) probeOnce(ctx context.Context) (trip, skew time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeInterval)
	defer cancel()
	u, err := p.urls.pick(pathProbing)
	if err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, 0, err
	}
	began := p.t.cfg.Now()
	resp, err := p.t.clients.posts.RoundTrip(req)
	if err != nil {
		p.urls.failed(u)
		return 0, 0, err
	}
	if err := checkAnswer(resp, http.StatusOK); err != nil {
		return 0, 0, err
	}
	var h health
	err = json.NewDecoder(io.LimitReader(resp.Body, answerBytes)).Decode(&h)
	_, rest := io.Copy(io.Discard, io.LimitReader(resp.Body, answerBytes)) // lets the connection be used again
	ended := p.t.cfg.Now()
	switch err = errors.Join(err, rest, resp.Body.Close()); {
	case err != nil:
		return 0, 0, fmt.Errorf("probe %s: %w", u.Host, err)
	case !h.OK:
		return 0, 0, fmt.Errorf("probe %s: it says that it is not well", u.Host)
	}
	trip = ended.Sub(began)
	return trip, ended.Sub(h.Now) - trip/2, nil
}
