package sim

import "time"

// campaignTries is how often a member stands for election by itself before it leaves that to raft's timeout.
const campaignTries = 4

// mourn lets the others find that the member is down: as often as not their connections are refused, else they hear nothing.
func (m *member) mourn() {
	if !m.w.chance(50) {
		return
	}
	for _, other := range m.w.members {
		l := other.life
		if l == nil || m.w.net.cut[m.index][other.index] {
			continue
		}
		m.w.after(m.w.between(time.Millisecond, 50*time.Millisecond), func() {
			if l.ended || l.pausedUntil > m.w.now || m.life != nil || l.replica.Status().Leader != m.id {
				return
			}
			m.w.counts["leaders found to be down"]++
			l.replica.LeaderGone(m.id)
			l.poke(&l.loop)
			l.succeed(m.id, campaignTries)
		})
	}
}

// succeed stands for election after a while unless another leader than the one that is gone comes up, and again.
func (l *life) succeed(gone uint64, tries int) {
	led := func() bool {
		now := l.replica.Status().Leader
		return l.ended || now != 0 && now != gone
	}
	term := l.replica.Status().Term
	l.w.after(l.w.between(0, tick), func() {
		if tries == 0 || led() {
			return
		}
		l.w.note("%s stands for election", l.member)
		l.replica.Campaign(term)
		l.poke(&l.loop)
		l.w.after(tick, func() {
			if !led() {
				l.succeed(gone, tries-1)
			}
		})
	})
}

// stopSome stops a member as an operator does: it gives the leadership away if it has it, and leaves everything durable.
func (w *world) stopSome() {
	m := w.some()
	if m.life == nil || m.fullUntil > w.now || m.pausedUntil > w.now {
		return
	}
	l := m.life
	if l.led != 0 {
		l.handOver(w.some().id)
	}
	w.after(w.between(10*time.Millisecond, electionTicks*tick), func() {
		if l.ended || l.fullUntil > w.now {
			return
		}
		if err := l.store.Flush(); err != nil || l.ended {
			l.settle()
			return
		}
		m.crash(loseNothing, w.between(100*time.Millisecond, 5*time.Second))
	})
}
