package sim

import (
	"container/heap"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"holdfast/membership"
)

// A run is some time with faults and some without, in which everything must come level again.
const (
	faultyTime = 60 * time.Second
	calmTime   = 30 * time.Second
)

// world is one simulated cluster with its clients and its judge.
type world struct {
	seed   uint64
	slips  slips
	rnd    *rand.Rand
	now    time.Duration
	queue  events
	serial int64 // counts events in the queue, and moments of the history
	log    strings.Builder
	counts map[string]int
	logger *slog.Logger
	tuning tuning

	founders []membership.Member
	members  []*member
	net      *network
	clients  []*client
	watchers []*watcher
	judge    *judge
	calm     bool // no faults any more
}

// event is something to be done at a time. Of two at the same time the one that was planned first comes first.
type event struct {
	at  time.Duration
	seq int64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push is heap.Interface's.
func (e *events) Push(x any) { *e = append(*e, x.(event)) }

// Pop is heap.Interface's.
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}

// violation is what a run panics with when something is wrong.
type violation struct{ text string }

// fail ends the run.
func (w *world) fail(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}

// note writes a line of the event log.
func (w *world) note(format string, args ...any) {
	fmt.Fprintf(&w.log, "%10.4f ", w.now.Seconds())
	fmt.Fprintf(&w.log, format, args...)
	w.log.WriteByte('\n')
}

// after plans do.
func (w *world) after(d time.Duration, do func()) {
	w.serial++
	heap.Push(&w.queue, event{at: w.now + d, seq: w.serial, do: do})
}

// every calls do again and again, as long as it says so.
func (w *world) every(d time.Duration, do func() bool) {
	w.after(d, func() {
		if do() {
			w.every(d, do)
		}
	})
}

// moment numbers a point in time so that no two are equal.
func (w *world) moment() int64 {
	w.serial++
	return w.serial
}

// between draws a duration.
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rnd.Int64N(int64(hi-lo)+1))
}

// chance is true in percent of 100 cases.
func (w *world) chance(percent int) bool { return w.rnd.IntN(100) < percent }

func (w *world) runUntil(t time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= t {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = t
}

// outcome is what became of a run.
type outcome struct {
	seed   uint64
	wrong  string // empty if nothing is
	log    string
	counts map[string]int
}

// run simulates one seed.
func run(seed uint64, mistake slips, size int) (o outcome) {
	w := &world{
		seed: seed, slips: mistake, rnd: rand.New(rand.NewPCG(seed, 7)), counts: map[string]int{}, logger: slog.New(slog.DiscardHandler),
	}
	defer func() {
		if r := recover(); r != nil {
			v, planned := r.(violation)
			if !planned {
				v.text = fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
			}
			o.wrong = v.text
			w.note("VIOLATION %s", v.text)
		}
		w.shutDown()
		o.seed, o.log, o.counts = seed, w.log.String(), w.counts
	}()
	w.begin(size)
	w.planFaults()
	w.runUntil(faultyTime)
	w.heal()
	w.runUntil(faultyTime + calmTime)
	w.judge.finish()
	return o
}

// begin founds the cluster and lets clients in.
func (w *world) begin(size int) {
	w.judge, w.tuning = newJudge(w), w.drawTuning()
	w.note("%d members, %+v", size, w.tuning)
	w.net = newNetwork(w, membersMax)
	w.founders = foundersOf(size)
	for i := range size {
		w.members = append(w.members, newMember(w, i, w.founders))
	}
	for _, m := range w.members {
		w.after(w.between(0, 100*time.Millisecond), m.start)
	}
	for i := range clientsPerRun {
		c := &client{w: w, id: i, member: w.rnd.IntN(size)}
		if hasUsers(w.seed) {
			c.user = userName(i % usersPerRun)
		}
		w.clients = append(w.clients, c)
		w.after(w.between(0, time.Second), c.next)
	}
	if hasUsers(w.seed) {
		a := &administrator{w: w, id: clientsPerRun}
		w.after(w.between(0, time.Second), a.next)
	}
	for i := range watchersPerRun {
		wt := newWatcher(w, i)
		w.watchers = append(w.watchers, wt)
		w.after(w.between(0, 3*time.Second), wt.connect)
	}
	w.every(3*time.Second, w.judge.compareHashes)
}

// heal ends all faults and starts whoever is down.
func (w *world) heal() {
	w.calm = true
	w.note("calm")
	w.net.heal()
	for _, m := range w.members {
		m.heal()
	}
}

func (w *world) shutDown() {
	for _, m := range w.members {
		if m.life != nil {
			m.life.end()
		}
	}
}
