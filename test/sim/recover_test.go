package sim

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/raftlog"
	"holdfast/server"
	"holdfast/storage"
)

var lossesFlag = flag.Int("losses", 0, "at how many moments of a run every majority is lost; 0 draws a few moments, and a few majorities at each")

// How often a run is stopped to lose a majority, and how many of the ways to lose it are tried each time, unless -losses says more.
const (
	lossesPerRun  = 10
	choicesPerRun = 3
	recoverBump   = 1000
	// recoverRounds is how many seeds are tried at least; more is a fifth of -rounds, for each takes some four times as long as a
	// run by itself.
	recoverRounds = 2
	// wrongRecoverySeeds is how many seeds a mistake may pass unnoticed.
	wrongRecoverySeeds = 20
	// stepsAfterMax is how many events at most are let happen, one by one, behind the time that was drawn: many of a cluster's share one.
	stepsAfterMax = 30
)

// TestRecoverFromAnyLoss runs clusters with all that goes wrong in them, and at moments that the seed draws takes what a
// minority of the members would leave on their disks if all lost power there and the others never came back. What is recovered
// from that is held against the history: see lost.check.
func TestRecoverFromAnyLoss(t *testing.T) {
	total, rounds := map[string]int{}, max(recoverRounds, *roundsFlag/5)
	for i := range rounds {
		seed := *seedFlag + uint64(i)
		cryptotest.SetGlobalRandom(t, seed)
		if wrong := loseMajorities(seed, total, server.Recovery.Run); wrong != "" {
			t.Fatalf("seed %d: %s\nagain: go test ./test/sim -run TestRecoverFromAnyLoss -seed=%d -rounds=1 -losses=%d", seed, wrong, seed, *lossesFlag)
		}
	}
	t.Logf("%d seeds\n%s", rounds, list(total))
	for _, what := range []string{"recoveries", "acknowledged and there", "acknowledged and lost", "kept beyond what is known to be committed"} {
		if total[what] == 0 {
			t.Errorf("%s: none, so the test shows less than it should", what)
		}
	}
}

// loseMajorities runs a seed and recovers again and again; the cluster itself goes on and never hears of it.
func loseMajorities(seed uint64, total map[string]int, how recovering) (wrong string) {
	w := &world{seed: seed, rnd: rand.New(rand.NewPCG(seed, 7)), counts: map[string]int{}, logger: slog.New(slog.DiscardHandler)}
	rnd := rand.New(rand.NewPCG(seed, 8)) // of its own, so that the run is that of TestClusters
	defer func() {
		if r := recover(); r != nil {
			v, planned := r.(violation)
			if !planned {
				panic(r)
			}
			wrong = v.text
		}
		w.shutDown()
	}()
	w.begin(sizeOf(seed))
	w.planFaults()
	moments := cmp.Or(*lossesFlag, lossesPerRun)
	for n := range moments {
		w.runUntil(faultyTime*time.Duration(n)/time.Duration(moments) + time.Duration(rnd.Int64N(int64(faultyTime)/int64(moments))))
		w.step(rnd.IntN(stepsAfterMax + 1))
		for _, left := range w.minorities(rnd) {
			l := w.lose(left, rnd)
			if l == nil {
				continue
			}
			l.total = total
			if err := l.check(how); err != nil {
				w.fail("at %v, with %v left: %v", w.now, l.left, err)
			}
		}
	}
	return ""
}

// step lets the next n events happen.
func (w *world) step(n int) {
	for ; n > 0 && len(w.queue) > 0; n-- {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
}

// minorities are the sets of members that the loss of a majority may leave: all of them if -losses asks for it, or some. A voter
// that is alone is what is left of itself.
func (w *world) minorities(rnd *rand.Rand) (sets [][]*member) {
	var voters []*member
	for _, id := range w.judge.roster.voters() {
		voters = append(voters, w.members[memberIndex(id)])
	}
	most := max(1, (len(voters)-1)/2)
	if *lossesFlag == 0 {
		for range choicesPerRun {
			rnd.Shuffle(len(voters), func(i, k int) { voters[i], voters[k] = voters[k], voters[i] })
			sets = append(sets, slices.Clone(voters[:min(len(voters), 1+rnd.IntN(most))]))
		}
		return sets
	}
	for chosen := 1; chosen < 1<<len(voters); chosen++ {
		if bits.OnesCount(uint(chosen)) > most {
			continue
		}
		var set []*member
		for i, m := range voters {
			if chosen>>i&1 == 1 {
				set = append(set, m)
			}
		}
		sets = append(sets, set)
	}
	return sets
}

// recovering makes a new cluster of what is left: server.Recovery's Run, or one with a mistake.
type recovering func(server.Recovery) (*server.Recovered, error)

// wrongRecoveries are mistakes made on purpose, each of which the history must show.
var wrongRecoveries = map[string]recovering{
	"takes a log that is behind": func(r server.Recovery) (*server.Recovered, error) {
		_, newest, err := r.Survey()
		if err != nil {
			return nil, err
		}
		if len(r.Survivors) > 1 {
			r.Survivors = slices.Delete(slices.Clone(r.Survivors), newest, newest+1)
		}
		return r.Run()
	},
	"drops what is not known to be committed": func(r server.Recovery) (*server.Recovered, error) {
		dry := r
		dry.DryRun = true
		found, err := dry.Run()
		if err != nil {
			return nil, err
		}
		return found, refoundAt(r, found.Survivors[found.Chosen], found.Committed)
	},
	"carries out nothing behind the store": func(r server.Recovery) (*server.Recovered, error) {
		dry := r
		dry.DryRun = true
		found, err := dry.Run()
		if err != nil {
			return nil, err
		}
		return found, refoundAt(r, found.Survivors[found.Chosen], 0)
	},
	"does not raise the revision": func(r server.Recovery) (*server.Recovered, error) {
		r.Into.Bump = 0
		return r.Run()
	},
}

// refoundAt makes the new directory of a survivor's state at an entry.
func refoundAt(r server.Recovery, s server.Survivor, at uint64) error {
	work, err := server.WorkFor(r.FS, r.Into)
	if err != nil {
		return err
	}
	o, err := server.OpenOffline(server.OfflineConfig{FS: r.FS, DataDir: s.DataDir, WALDir: s.WALDir, Work: work, Log: r.Log})
	if err != nil {
		return err
	}
	if err := o.Apply(at); err != nil {
		return errors.Join(err, o.Close())
	}
	return o.Refound(r.Into)
}

// TestWrongRecoveriesAreFound checks the check: each mistake made on purpose is found, within few seeds.
func TestWrongRecoveriesAreFound(t *testing.T) {
	for _, name := range sortedKeys(wrongRecoveries) {
		found := ""
		for seed := uint64(1); found == "" && seed <= wrongRecoverySeeds; seed++ {
			cryptotest.SetGlobalRandom(t, seed)
			if found = loseMajorities(seed, map[string]int{}, wrongRecoveries[name]); found != "" {
				t.Logf("%s: seed %d: %.300s", name, seed, found)
			}
		}
		if found == "" {
			t.Errorf("not found within %d seeds: whoever %s", wrongRecoverySeeds, name)
		}
	}
}

// lost is a cluster that has lost a majority.
type lost struct {
	w         *world
	left      []*member // who is left
	disk      joint
	survivors []server.Survivor
	logs      []raftlog.Recovered // of the survivors, all of each
	total     map[string]int
}

// lose takes the disks of those who are left as a failure of the power leaves them; nil if there is none that could be recovered
// from.
func (w *world) lose(left []*member, rnd *rand.Rand) *lost {
	l := &lost{w: w, disk: joint{vfs.NewMem()}}
	one := l.disk
	for _, m := range left {
		image := m.disk.image(loss(rnd.IntN(3)), rnd)
		name := fmt.Sprint("m", m.id)
		if found, err := raftlog.Exists(image.wal, walDir); err != nil || !found {
			continue // it was just added
		}
		if err := one.take(name, image); err != nil {
			w.fail("copy the disk of %s: %v", m, err)
		}
		rec, err := raftlog.ReadAfter(one, one.wal(name), 0)
		if err != nil {
			w.fail("read the log of %s: %v", m, err)
		}
		if rec.Last == 0 {
			continue // likewise
		}
		l.left, l.logs = append(l.left, m), append(l.logs, rec)
		l.survivors = append(l.survivors, server.Survivor{DataDir: name, WALDir: one.wal(name)})
	}
	if len(l.left) == 0 {
		return nil
	}
	return l
}

// joint is the disk on which all that is left was put together.
type joint struct{ vfs.FS }

// GetDiskUsage implements vfs.FS: small, so that segments are.
func (joint) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{TotalBytes: 32 << 20, AvailBytes: 32 << 20}, nil
}

func (joint) wal(name string) string { return name + "-wal" }

func (j joint) take(name string, d *disk) error {
	if err := j.MkdirAll(name+"/member", 0o700); err != nil {
		return err
	}
	f, err := j.Create(name+"/member/FORMAT", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("1\n"))
	_, wal := vfs.Clone(d.wal, j, walDir, j.wal(name))
	_, store := vfs.Clone(d.store, j, dataDir, name)
	return errors.Join(err, f.Close(), wal, store)
}

// check recovers and asks, by the history that the judge has kept:
//
//   - every request that was acknowledged and that any survivor has is in what is recovered,
//   - what is recovered is what the model makes of the chosen one's entries, keys with all they show, and leases,
//   - what is said to be committed is,
//   - the revisions that are reported are those of the model.
func (l *lost) check(how recovering) error {
	l.total["recoveries"]++
	l.total[fmt.Sprintf("recoveries from %d", len(l.survivors))]++
	self := membership.Member{ID: 77, Name: "new", PeerURLs: []string{"http://new:2380"}}
	r, err := how(server.Recovery{
		FS: l.disk, Survivors: l.survivors, Log: l.w.logger,
		Into: server.Refounding{DataDir: "new", Founders: []membership.Member{self}, Self: self.ID, Bump: recoverBump},
	})
	if err != nil {
		return err
	}
	chosen := l.logs[slices.IndexFunc(l.survivors, func(s server.Survivor) bool { return s.DataDir == r.Survivors[r.Chosen].DataDir })]
	if err := l.acknowledged(chosen); err != nil {
		return err
	}
	committed, end, err := l.expect(chosen, r)
	if err != nil {
		return err
	}
	if r.CommittedRevision != committed.revision || r.Revision != end.revision || r.NewRevision != end.revision+recoverBump {
		return fmt.Errorf("reported: revision %d committed, %d at the end, %d new; the model has %d and %d",
			r.CommittedRevision, r.Revision, r.NewRevision, committed.revision, end.revision)
	}
	if r.Committed < chosen.Last {
		l.total["kept beyond what is known to be committed"]++
	}
	return l.holds(end)
}

// acknowledged asks that the chosen log has every request that was acknowledged and is in any log that is left.
func (l *lost) acknowledged(chosen raftlog.Recovered) error {
	j := l.w.judge
	for _, o := range j.ops {
		at, applied := j.places[o.id]
		if o.payload == nil || o.answer == 0 || !applied {
			continue
		}
		entry := j.log[at-1]
		there := has(chosen, entry.Index, entry.Term)
		for i, log := range l.logs {
			if has(log, entry.Index, entry.Term) && !there {
				return fmt.Errorf("%v was acknowledged and is entry %d of %v, but not of the log that was chosen", o, at, l.left[i])
			}
		}
		if there {
			l.total["acknowledged and there"]++
		} else {
			l.total["acknowledged and lost"]++
		}
	}
	return nil
}

// has tells whether a log has an entry, or begins behind it: then it was committed.
func has(log raftlog.Recovered, index kv.Index, term kv.Term) bool {
	if uint64(index) < log.First {
		return true
	}
	if uint64(index) > log.Last {
		return false
	}
	return log.TermAt(uint64(index)) == uint64(term)
}

// expect is what the model makes of the entries of a log: up to what is said to be committed, and of all.
func (l *lost) expect(log raftlog.Recovered, r *server.Recovered) (committed, end *state, err error) {
	j, now := l.w.judge, emptyState()
	for index := uint64(1); index <= log.Last; index++ {
		var payload []byte
		known := index <= uint64(len(j.log))
		if index >= log.First {
			e := log.Entries[index-log.First]
			if e.GetType() == raftpb.EntryNormal {
				payload = e.GetData()
			}
			if index <= r.Committed && known && (j.log[index-1].Term != kv.Term(e.GetTerm()) || !bytes.Equal(j.log[index-1].Payload, payload)) {
				return nil, nil, fmt.Errorf("entry %d is said to be committed, but elsewhere another was applied", index)
			}
		} else if known {
			payload = j.log[index-1].Payload
		} else {
			return nil, nil, fmt.Errorf("the log begins behind entry %d, which nobody has applied", index)
		}
		if len(payload) > 0 {
			c, err := kv.DecodeCommand(payload)
			if err != nil {
				return nil, nil, err
			}
			now, _, _ = now.apply(&c)
		}
		if index == r.Committed {
			committed = now
		}
	}
	return committed, now, nil
}

// holds asks that the new directory holds a state, under its new revision.
func (l *lost) holds(want *state) (err error) {
	st, err := storage.Open(storage.Config{FS: l.disk, Dir: "new/member/store", ManualCompactions: true, Log: l.w.logger})
	if err != nil {
		return err
	}
	keys, err := mvcc.Open(st, mvcc.Config{})
	if err != nil {
		return errors.Join(err, st.Close())
	}
	one := &life{store: st, keys: keys}
	defer func() { err = errors.Join(err, st.Close(), l.disk.RemoveAll("new")) }()
	all := &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte{0}, End: []byte{0}}}
	found, err := one.rangeNow(all)
	if err != nil {
		return err
	}
	if got, want := showRange(found.Count, found.More, showRows(&found.Rows)), want.answer(all); got != want {
		return fmt.Errorf("recovered\n%s\nthe model has\n%s", got, want)
	}
	if keys.Revision() != want.revision+recoverBump || keys.Compacted() != keys.Revision() {
		return fmt.Errorf("it is at revision %d, compacted at %d; it was at %d", keys.Revision(), keys.Compacted(), want.revision)
	}
	leases := 0
	err = st.Each(storage.TableLease, func([]byte, []byte) error { leases++; return nil })
	if err == nil && leases != len(want.leases) {
		err = fmt.Errorf("%d leases, the model has %d", leases, len(want.leases))
	}
	return err
}
