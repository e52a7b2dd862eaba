package bench

import (
	"context"
	"time"
)

// values are what one measurement found: a name that ends in its unit, and a number.
type values map[string]float64

// meter compares two moments of servers, their client and their machine.
type meter struct {
	pids   []int
	at     time.Time
	server usage // of all together
	client time.Duration
	busy   time.Duration
}

func readMeter(pids ...int) (m meter, err error) {
	m = meter{pids: pids, at: time.Now()}
	for _, pid := range pids {
		one, err := usageOf(pid)
		if err != nil {
			return m, err
		}
		m.server = m.server.plus(one)
	}
	if m.client, err = ownCPU(); err != nil {
		return m, err
	}
	m.busy, err = busy()
	return m, err
}

// spent is what happened between two readings.
type spent struct {
	wall, user, system, client time.Duration // user and system: of the servers
	written                    int64
	others                     float64 // cores that neither servers nor client used: the noise
}

// since reads the meter again.
func (m meter) since() (spent, error) {
	now, err := readMeter(m.pids...)
	if err != nil {
		return spent{}, err
	}
	s := spent{
		wall:    now.at.Sub(m.at),
		user:    now.server.user - m.server.user,
		system:  now.server.system - m.server.system,
		client:  now.client - m.client,
		written: now.server.written - m.server.written,
	}
	s.others = max(0, (now.busy-m.busy-s.server()-s.client).Seconds()/s.wall.Seconds())
	return s, nil
}

func (s spent) server() time.Duration { return s.user + s.system }

// perOp puts what ops operations cost into v.
func (s spent) perOp(ops int, v values) {
	n := float64(ops)
	v["ops_per_s"] = n / s.wall.Seconds()
	v["server_us_per_op"] = us(s.server()) / n
	v["server_user_us_per_op"], v["server_system_us_per_op"] = us(s.user)/n, us(s.system)/n
	v["client_us_per_op"] = us(s.client) / n
	v["written_bytes_per_op"] = float64(s.written) / n
	s.perTime(v)
}

// perTime puts what the time cost into v, whatever was done in it.
func (s spent) perTime(v values) {
	v["server_cores"] = s.server().Seconds() / s.wall.Seconds()
	v["written_bytes_per_s"] = float64(s.written) / s.wall.Seconds()
	v["others_cores"] = s.others
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// sampleEvery is how often memory is looked at: often enough for a peak of a second, too rarely to be felt.
const sampleEvery = 200 * time.Millisecond

// samples are the anonymous memory of processes, together, over time.
type samples struct {
	stop context.CancelFunc
	done chan struct{}
	mb   []float64 // owned by the sampling goroutine until done is closed
	err  error
	note func(mb float64)
}

// sample looks at pids until end is called; note, if given, hears of every look.
func sample(ctx context.Context, pids []int, note func(mb float64)) *samples {
	ctx, stop := context.WithCancel(ctx)
	s := &samples{stop: stop, done: make(chan struct{}), note: note}
	go func() {
		defer close(s.done)
		s.run(ctx, pids)
	}()
	return s
}

func (s *samples) run(ctx context.Context, pids []int) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		total := 0.0
		for _, pid := range pids {
			m, err := memoryOf(pid)
			if err != nil {
				s.err = err
				return
			}
			total += m.anonymous
		}
		s.mb = append(s.mb, total)
		if s.note != nil {
			s.note(total)
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

// When a member that was just started or filled counts as settled: it takes next to nothing for a moment. It is not waited for without end.
const (
	settledFor   = 300 * time.Millisecond
	settledCores = 0.1
	settleMost   = 20 * time.Second
)

// settle waits until the members have done what starting and filling leave to be done, so that it is not counted as the cost of calls: etcd
// reads all keys before it answers, Holdfast after.
func (t *task) settle(ctx context.Context, m *members) error {
	t.status("letting it settle")
	began := time.Now()
	for time.Since(began) < t.span(settleMost, 0) {
		before, err := readMeter(m.pids()...)
		if err != nil {
			return err
		}
		if err := pause(ctx, settledFor); err != nil {
			return err
		}
		cost, err := before.since()
		if err != nil {
			return err
		}
		if cost.server().Seconds() < settledCores*cost.wall.Seconds() {
			break
		}
	}
	return nil
}
