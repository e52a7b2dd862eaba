package main

import (
	"context"
	"time"
)

// values are what one measurement found: a name that ends in its unit, and a number.
type values map[string]float64

// meter compares two moments of a server, its client and their machine.
type meter struct {
	pid    int
	at     time.Time
	server usage
	client time.Duration
	busy   time.Duration
}

func readMeter(pid int) (m meter, err error) {
	m = meter{pid: pid, at: time.Now()}
	if m.server, err = usageOf(pid); err != nil {
		return m, err
	}
	if m.client, err = ownCPU(); err != nil {
		return m, err
	}
	m.busy, err = busy()
	return m, err
}

// spent is what happened between two readings.
type spent struct {
	wall, server, client time.Duration
	written              int64
	others               float64 // cores that neither server nor client used: the noise
}

// since reads the meter again.
func (m meter) since() (spent, error) {
	now, err := readMeter(m.pid)
	if err != nil {
		return spent{}, err
	}
	s := spent{
		wall:    now.at.Sub(m.at),
		server:  now.server.cpu - m.server.cpu,
		client:  now.client - m.client,
		written: now.server.written - m.server.written,
	}
	s.others = max(0, (now.busy-m.busy-s.server-s.client).Seconds()/s.wall.Seconds())
	return s, nil
}

// perOp puts what ops operations cost into v.
func (s spent) perOp(ops int, v values) {
	v["ops_per_s"] = float64(ops) / s.wall.Seconds()
	v["server_us_per_op"] = us(s.server) / float64(ops)
	v["client_us_per_op"] = us(s.client) / float64(ops)
	v["written_bytes_per_op"] = float64(s.written) / float64(ops)
	v["server_cores"] = s.server.Seconds() / s.wall.Seconds()
	v["others_cores"] = s.others
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// sampleEvery is how often memory is looked at: often enough for a peak of a second, too rarely to be felt.
const sampleEvery = 200 * time.Millisecond

// samples are the anonymous memory of a process over time.
type samples struct {
	stop context.CancelFunc
	done chan struct{}
	mb   []float64 // owned by the sampling goroutine until done is closed
	err  error
	note func(mb float64)
}

// sample looks at pid until end is called; note, if given, hears of every look.
func sample(ctx context.Context, pid int, note func(mb float64)) *samples {
	ctx, stop := context.WithCancel(ctx)
	s := &samples{stop: stop, done: make(chan struct{}), note: note}
	go func() {
		defer close(s.done)
		s.run(ctx, pid)
	}()
	return s
}

func (s *samples) run(ctx context.Context, pid int) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		m, err := memoryOf(pid)
		if err != nil {
			s.err = err
			return
		}
		s.mb = append(s.mb, m.anonymous)
		if s.note != nil {
			s.note(m.anonymous)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// end stops the sampling and returns what was seen, at least one value.
func (s *samples) end() ([]float64, error) {
	s.stop()
	<-s.done
	return s.mb, s.err
}
