package sim

import (
	"context"
	"time"

	"holdfast/replica"
)

// fault is one kind of harm.
type fault struct {
	name string
	do   func(w *world)
}

// faults are all kinds; each kind is drawn as often as another.
var faults = []fault{
	{"loss", func(w *world) { w.harmNetwork(func(n *network) { n.lossPercent = 5 + w.rnd.IntN(40) }) }},
	{"delay", func(w *world) {
		w.harmNetwork(func(n *network) { n.delay = w.between(20*time.Millisecond, time.Second) })
	}},
	{"duplication", func(w *world) { w.harmNetwork(func(n *network) { n.doublePercent = 10 + w.rnd.IntN(60) }) }},
	{"reordering", func(w *world) { w.harmNetwork(func(n *network) { n.shuffle = true }) }},
	{"one-way partition", (*world).cutOneWay},
	{"partition", (*world).cutApart},
	{"leadership transfer", (*world).transfer},
	{"crash", (*world).crashSome},
	{"torn write", (*world).tearWrite},
	{"bit flip in the log", (*world).flipLog},
	{"bit flip in the store", (*world).flipStore},
	{"full disk", (*world).fillDisk},
	{"stalled log", func(w *world) {
		m := w.some()
		m.logStuckUntil = w.now + w.between(300*time.Millisecond, 6*time.Second)
	}},
	{"stalled applier", func(w *world) {
		m := w.some()
		m.applyStuckUntil = w.now + w.between(300*time.Millisecond, 6*time.Second)
	}},
	{"clock jump", (*world).jumpClock},
	{"membership change", (*world).reconfigure},
	{"stop", (*world).stopSome},
	{"pause", func(w *world) { m := w.some(); m.pausedUntil = w.now + w.between(300*time.Millisecond, 8*time.Second) }},
}

// planFaults draws what will go wrong.
func (w *world) planFaults() {
	order := w.rnd.Perm(len(faults))
	for i := range 12 + w.rnd.IntN(8) {
		f := faults[order[i%len(order)]]
		w.after(w.between(2*time.Second, faultyTime-2*time.Second), func() {
			w.note("fault: %s", f.name)
			w.counts["fault: "+f.name]++
			f.do(w)
		})
	}
}

// some is any member that takes part, or takes part no longer but does not know yet.
func (w *world) some() *member {
	for {
		if m := w.members[w.rnd.IntN(len(w.members))]; !m.absent && !m.gone {
			return m
		}
	}
}

// harmNetwork makes the network bad for a while.
func (w *world) harmNetwork(harm func(*network)) {
	harm(w.net)
	w.after(w.between(time.Second, 6*time.Second), func() {
		w.net.lossPercent, w.net.delay, w.net.doublePercent, w.net.shuffle = 0, 0, 0, false
	})
}

// cutOneWay lets some member hear nothing of some, while they hear it.
func (w *world) cutOneWay() {
	a := w.some()
	for _, b := range w.members {
		if a != b && w.chance(60) {
			w.net.cut[b.index][a.index] = true
		}
	}
	w.after(w.between(time.Second, 8*time.Second), w.net.mend)
}

// cutApart makes two groups.
func (w *world) cutApart() {
	side := make([]bool, len(w.members))
	for i := range side {
		side[i] = w.chance(50)
	}
	for i := range side {
		for k := range side {
			if side[i] != side[k] {
				w.net.cut[i][k] = true
			}
		}
	}
	w.after(w.between(time.Second, 10*time.Second), w.net.mend)
}

// crashSome ends one or more members: between two steps, or at some operation of the disk; sometimes again at the next start.
func (w *world) crashSome() {
	for range 1 + w.rnd.IntN(len(w.members)) {
		m := w.some()
		switch {
		case m.fullUntil > w.now:
		case w.chance(40):
			m.failAfter(1+w.rnd.IntN(60), false)
		default:
			m.crash(loss(w.rnd.IntN(3)), w.between(100*time.Millisecond, 15*time.Second))
			if w.chance(40) {
				m.failAfter(1+w.rnd.IntN(25), false)
			}
		}
	}
}

// tearWrite lets the power fail while a member writes to its raft log, soon.
func (w *world) tearWrite() {
	for range 1 + w.rnd.IntN(2) {
		if m := w.some(); m.fullUntil <= w.now {
			m.failAfter(1+w.rnd.IntN(12), true)
		}
	}
}

// fillDisk takes the room from a member's disk for a while.
func (w *world) fillDisk() {
	m := w.some()
	m.fullUntil = w.now + w.between(500*time.Millisecond, 6*time.Second)
	m.disk.setFull(true)
	w.after(m.fullUntil-w.now, func() {
		if m.fullUntil <= w.now {
			m.disk.setFull(false)
		}
	})
}

// jumpClock sets a member's clock, forward or back.
func (w *world) jumpClock() {
	m := w.some()
	by := w.between(-4*time.Second, 4*time.Second)
	m.clockAhead += by
	if by > 0 {
		w.judge.forwards = append(w.judge.forwards, jump{w.now, by})
	}
}

// transfer has a leader give the leadership to anybody.
func (w *world) transfer() {
	for _, m := range w.members {
		if m.life == nil || m.life.led == 0 {
			continue
		}
		m.life.handOver(w.some().id)
	}
}

// handOver gives the leadership away; nobody waits for it.
func (l *life) handOver(to uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.replica.TransferLeader(ctx, to); err != nil {
		l.w.note("%s was asked to give the leadership to m%d: %v", l.member, to, err)
	}
	l.poke(&l.loop)
}

func statusOf(l *life) *replica.Status {
	s := l.replica.Status()
	return &s
}
