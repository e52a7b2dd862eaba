package replica

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// BenchmarkPropose asks what the replica itself costs per proposal, from Propose to the caller's wake-up, when log and
// machine cost next to nothing, and when each append waits for the disk. Expected: raft copies an entry (about 1 µs with reflection) and measures it some four
// times (0.2 µs each); the rest is shared by everything that travels together. With few callers the goroutine switches
// dominate: caller, loop, log writer, loop, applier, caller.
func BenchmarkPropose(b *testing.B) {
	for _, callers := range []int{1, 16, 1000} {
		b.Run(fmt.Sprintf("callers=%d/free", callers), func(b *testing.B) { benchPropose(b, callers, false) })
		b.Run(fmt.Sprintf("callers=%d/disk", callers), func(b *testing.B) { benchPropose(b, callers, true) })
	}
}

func benchPropose(b *testing.B, callers int, disk bool) {
	m := &benchMachine{conf: &raftpb.ConfState{Voters: []uint64{1}}}
	log := &benchLog{}
	if disk {
		log.open(b)
	}
	r, err := New(testConfig(1, log, m), State{ConfState: m.conf})
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		if err := r.Run(b.Context(), nil); err != nil {
			b.Error(err)
		}
	}()
	for !r.Status().Settled {
		<-r.LeadershipChange()
	}
	benchCallers(b, r, m, callers)
	b.ReportMetric(float64(b.N)/float64(max(log.appends, 1)), "entries/append")
}

// benchCallers proposes b.N entries and waits until the machine that answers the callers has applied them.
func benchCallers(b *testing.B, r *Replica, m *benchMachine, callers int) {
	m.waiting.New = func() any { return make(chan struct{}, 1) }
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				w := &benchWaiter{done: m.waiting.Get().(chan struct{})}
				data := make([]byte, 300)
				m.add(data, w)
				if err := r.Propose(b.Context(), data); err != nil {
					b.Error(err)
					return
				}
				<-w.done
				m.waiting.Put(w.done)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N)/1e3, "cpu-µs/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchLog writes nothing, or one block per append, which it syncs.
type benchLog struct {
	appends int
	file    *os.File // nil: nothing is written
	block   [4096]byte
}

// benchBlocks is the length of the file, written beforehand so that a sync is one of data only.
const benchBlocks = 1000

func (l *benchLog) open(b *testing.B) {
	file, err := os.CreateTemp(b.TempDir(), "")
	if err == nil {
		_, err = file.Write(make([]byte, benchBlocks*len(l.block)))
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	l.file = file
}

func (l *benchLog) Append(saves []Save, _ bool) error {
	l.appends++
	if l.file == nil {
		return nil
	}
	if _, err := l.file.WriteAt(l.block[:], int64(l.appends%benchBlocks)*int64(len(l.block))); err != nil {
		return err
	}
	return syscall.Fdatasync(int(l.file.Fd()))
}

func (l *benchLog) Entries(uint64, uint64, uint64) ([]*raftpb.Entry, error) { return nil, nil }

type benchWaiter struct{ done chan struct{} }

// benchMachine wakes the caller whose number stands in the entry.
type benchMachine struct {
	conf    *raftpb.ConfState
	waiting sync.Pool
	mute    bool // answers nobody

	mu    sync.Mutex // guards the fields below
	calls []*benchWaiter
	free  []int
}

func (m *benchMachine) add(data []byte, w *benchWaiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := len(m.calls)
	if n := len(m.free); n > 0 {
		i = m.free[n-1]
		m.free = m.free[:n-1]
	} else {
		m.calls = append(m.calls, nil)
	}
	m.calls[i] = w
	data[0], data[1] = byte(i), byte(i>>8)
}

func (m *benchMachine) Apply(entries []*raftpb.Entry) error {
	if m.mute {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if d := e.GetData(); len(d) > 0 {
			i := int(d[0]) | int(d[1])<<8
			m.calls[i].done <- struct{}{}
			m.free = append(m.free, i)
		}
	}
	return nil
}

func (m *benchMachine) CheckConfChange(*raftpb.Entry, *raftpb.ConfChange) error { return nil }

func (m *benchMachine) ApplyConfChange(*raftpb.Entry, *raftpb.ConfChange, *raftpb.ConfState, error) error {
	return nil
}

// BenchmarkThree asks what a proposal costs three members together, in one process without a network: what the followers
// and the messages add. Expected: each follower measures, stores and applies an entry as the leader does but does not copy
// it, about half the leader's cost each; messages are shared by everything that travels together.
func BenchmarkThree(b *testing.B) {
	for _, callers := range []int{16, 1000} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchThree(b, callers) })
	}
}

func benchThree(b *testing.B, callers int) {
	net := &benchNet{}
	voters := []uint64{1, 2, 3}
	var leads *benchMachine
	for _, id := range voters {
		m := &benchMachine{conf: &raftpb.ConfState{Voters: voters}, mute: id != 1}
		if id == 1 {
			leads = m
		}
		log := &benchLog{}
		log.open(b)
		cfg := testConfig(id, log, m)
		cfg.Transport = net
		r, err := New(cfg, State{ConfState: m.conf})
		if err != nil {
			b.Fatal(err)
		}
		net.members = append(net.members, r)
	}
	for _, r := range net.members {
		go func() {
			if err := r.Run(b.Context(), nil); err != nil {
				b.Error(err)
			}
		}()
	}
	leader := net.members[0]
	leader.Campaign(leader.Status().Term)
	for !leader.Status().Settled {
		<-leader.LeadershipChange()
	}
	benchCallers(b, leader, leads, callers)
}

// benchNet hands messages over without copying: neither side changes them.
type benchNet struct{ members []*Replica }

func (n *benchNet) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		n.members[m.GetTo()-1].inbox.Put(event{message: m})
	}
}

// BenchmarkWindow asks what it costs to carry an entry through the window: in, read once for the applier, out.
func BenchmarkWindow(b *testing.B) {
	w := &window{base: 1, first: 1, terms: termRuns{{}}, conf: &raftpb.ConfState{}}
	data := make([]byte, 300)
	batch := make([]*raftpb.Entry, 100)
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(batch) {
		for i := range batch {
			batch[i] = &raftpb.Entry{Index: new(w.last() + 1 + uint64(i)), Term: new(uint64(1)), Type: normalEntry, Data: data}
		}
		w.append(slices.Clone(batch))
		if got, err := w.Entries(w.applied+1, w.last()+1, 1<<30); err != nil || len(got) != len(batch) {
			b.Fatal(len(got), err)
		}
		w.applied = w.last()
		w.trim(4096, 16<<20)
	}
}
