package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/lease"
	"holdfast/membership"
)

func (m *member) grant(id kv.LeaseID, ttl int64) lease.Lease {
	m.t.Helper()
	l, err := m.LeaseGrant(m.t.Context(), kv.LeaseGrantRequest{ID: id, TTL: ttl})
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

func (m *member) putLeased(key string, id kv.LeaseID) {
	m.t.Helper()
	if _, err := m.tryPut(m.t.Context(), key, "x", id); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) remaining(id kv.LeaseID) int64 {
	m.t.Helper()
	s, err := m.LeaseTimeToLive(m.t.Context(), id, false)
	if errors.Is(err, lease.ErrNotFound) {
		return -1
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return s.Remaining
}

// lead starts a member in a bubble and lets it take the leases over: one granted before that lives an election timeout
// longer.
func lead(t *testing.T, cfg Config) *member {
	m := start(t, cfg)
	synctest.Wait()
	return m
}

// renewResult is what LeaseRenew gave, and when.
type renewResult struct {
	ttl int64
	err error
	at  time.Time
}

// renewing asks for a renewal that may take its time.
func (m *member) renewing(id kv.LeaseID) <-chan renewResult {
	done := make(chan renewResult, 1)
	go func() {
		ttl, err := m.LeaseRenew(context.Background(), id)
		done <- renewResult{ttl, err, time.Now()}
	}()
	return done
}

// TestLeaseEndsInTime lives through the life of leases second by second: a key stays as long as it is granted, goes within
// a moment of the end, and stays as long as somebody renews. Time to live counts down.
func TestLeaseEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := lead(t, cfg)
		if l := m.grant(1, 1); l.TTL != 2 {
			t.Errorf("a second of life became %d: want etcd's minimum of one and a half election timeouts", l.TTL)
		}
		m.grant(2, 10)
		m.putLeased("short", 1)
		m.putLeased("a", 2)
		m.putLeased("b", 2)
		rev := m.Header().Revision
		if got := fmt.Sprintf("%d", m.leaseIDs()); got != "[1 2]" {
			t.Errorf("leases by their end: %s", got)
		}
		time.Sleep(2*time.Second - time.Millisecond)
		if m.get("short") == "" || m.remaining(1) != 0 || m.remaining(2) != 8 {
			t.Errorf("after 1.999 s the key is %q, the lease has %d and %d s left", m.get("short"), m.remaining(1), m.remaining(2))
		}
		time.Sleep(2 * time.Millisecond)
		if m.get("short") != "" || m.remaining(1) != -1 || m.Header().Revision != rev+1 {
			t.Errorf("after 2.001 s the key is %q at revision %v, the lease has %d s left", m.get("short"), m.Header().Revision, m.remaining(1))
		}
		for range 5 {
			time.Sleep(7 * time.Second)
			if ttl, err := m.LeaseRenew(t.Context(), 2); ttl != 10 || err != nil {
				t.Fatalf("renewed for %d s: %v", ttl, err)
			}
		}
		time.Sleep(10*time.Second + time.Millisecond)
		if m.get("a") != "" || m.get("b") != "" || m.Header().Revision != rev+2 {
			t.Errorf("the keys of one lease went at revision %v, want %v", m.Header().Revision, rev+2)
		}
		if _, err := m.LeaseRenew(t.Context(), 2); !errors.Is(err, lease.ErrNotFound) {
			t.Errorf("renewing a lease that has gone: %v", err)
		}
	})
}

// TestLeaseGrantDrawsIDs: an id of 0 asks the server for a positive one.
func TestLeaseGrantDrawsIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := lead(t, cfg)
		seen := map[kv.LeaseID]bool{}
		for range 20 {
			id := m.grant(0, 60).ID
			if id <= 0 || seen[id] {
				t.Errorf("drew the id %d", int64(id))
			}
			seen[id] = true
		}
		if err := m.LeaseRevoke(t.Context(), 0); !errors.Is(err, lease.ErrNotFound) {
			t.Errorf("revoking lease 0: %v", err)
		}
	})
}

// TestRenewalOfALeaseThatIsOverWaits: while the disk is stuck the lease cannot be revoked; a client that asks for it
// hears nothing until it has gone, and then that it has.
func TestRenewalOfALeaseThatIsOverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS = disk
		m := lead(t, cfg)
		m.grant(1, 5)
		m.putLeased("k", 1)
		release := disk.stick()
		time.Sleep(5 * time.Second)
		renewed := m.renewing(1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		select {
		case r := <-renewed:
			t.Fatalf("a lease that is over was renewed for %d s: %v", r.ttl, r.err)
		default:
		}
		if m.get("k") == "" {
			t.Fatal("the key went before the log said so")
		}
		freed := time.Now()
		release()
		r := <-renewed
		if !errors.Is(r.err, lease.ErrNotFound) || r.at.Sub(freed) > time.Second {
			t.Errorf("told %v, %v after the disk moved", r.err, r.at.Sub(freed))
		}
		if m.get("k") != "" {
			t.Error("the key is still there")
		}
	})
}

// TestRenewalSurvivesALossOfLeadership: who waits for a lease of the old clock must not hear that it has gone when the
// clock stops: the next leader gives it a new life.
func TestRenewalSurvivesALossOfLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS = disk
		m := lead(t, cfg)
		m.grant(1, 5)
		release := disk.stick()
		time.Sleep(6 * time.Second)
		renewed := m.renewing(1)
		synctest.Wait()
		m.clock.stop()
		m.clock.start(uint64(m.Status().Term), m.leases.All, time.Second)
		if r := <-renewed; r.ttl != 5 || r.err != nil {
			t.Errorf("renewed for %d s: %v", r.ttl, r.err)
		}
		release()
	})
}

// TestStopDoesNotEndLeases: a member that stops tells a client that waits for a lease that it stops, not that the lease
// has gone: after the restart it is there, with its whole life.
func TestStopDoesNotEndLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS = disk
		m := lead(t, cfg)
		m.grant(1, 5)
		release := disk.stick()
		time.Sleep(5 * time.Second)
		renewed := m.renewing(1)
		synctest.Wait()
		stopped := m.stopping()
		synctest.Wait()
		release()
		<-stopped
		if r := <-renewed; errors.Is(r.err, lease.ErrNotFound) || r.err == nil {
			t.Errorf("renewed for %d s: %v", r.ttl, r.err)
		}
	})
}

// TestLeasesLiveOnAfterARestart: a member that comes back gives every lease its life and an election timeout more, but
// no more than was agreed on for one that was not renewed for long.
func TestLeasesLiveOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := lead(t, cfg)
		m.grant(1, 60)
		m.grant(2, 3600)
		m.putLeased("k", 1)
		time.Sleep(50 * time.Second)
		m.stop()
		m = lead(t, cfg)
		if left := m.remaining(1); left != 21 {
			t.Errorf("after a restart the lease has %d s left, want what was agreed on when two thirds were over, and an election timeout", left)
		}
		if _, err := m.LeaseRenew(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		m.stop()
		m = lead(t, cfg)
		if left := m.remaining(1); left != 61 {
			t.Errorf("renewed before a restart the lease has %d s left, want its life and an election timeout", left)
		}
		for range 11 {
			time.Sleep(50 * time.Second)
			if _, err := m.LeaseRenew(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		m.stop()
		m = lead(t, cfg)
		if left := m.remaining(2); left < 3600-600-60 || left > 3600-300+2 {
			t.Errorf("lease 2 has %d s left of an hour after ten minutes: want it to be agreed on every five", left)
		}
		if _, err := m.LeaseRenew(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if l, _ := m.leases.Lookup(2); l.Remaining != 0 {
			t.Errorf("a renewal left %d s agreed on", l.Remaining)
		}
		time.Sleep(62 * time.Second)
		if m.get("k") != "" {
			t.Error("the key outlived its lease")
		}
	})
}

// TestCrashKeepsLeases loses what was not synced: an acknowledged lease and its key are there again.
func TestCrashKeepsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		m := lead(t, cfg)
		m.grant(1, 60)
		m.putLeased("k", 1)
		cfg.FS = fs.CrashClone(vfs.CrashCloneCfg{})
		m.stop()
		m = lead(t, cfg)
		if got := m.get("k"); got != "x" || m.remaining(1) != 61 {
			t.Errorf("after a crash the key is %q and the lease has %d s left", got, m.remaining(1))
		}
		time.Sleep(61*time.Second + 10*time.Millisecond)
		if m.get("k") != "" {
			t.Error("the key outlived its lease")
		}
	})
}

// TestRenewalWaitsForABusyMember: what is committed takes seconds to apply; a renewal waits and is granted.
func TestRenewalWaitsForABusyMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := lead(t, cfg)
		m.grant(1, 60)
		publish := m.machine.Publish
		m.machine.Publish = func(changes []kv.Change) {
			time.Sleep(3 * time.Second)
			publish(changes)
		}
		put := make(chan struct{})
		go func() {
			defer close(put)
			m.putLeased("k", 1)
		}()
		synctest.Wait()
		began := time.Now()
		if r := <-m.renewing(1); r.ttl != 60 || r.err != nil || r.at.Sub(began) > 4*time.Second {
			t.Errorf("renewed for %d s after %v: %v", r.ttl, r.at.Sub(began), r.err)
		}
		<-put
	})
}

// TestManyLeasesEndTogether lets thousands of leases end in the same moment. No more than revokeBatch revocations may be
// under way at once, and a put that comes meanwhile waits for few of them and is not refused.
func TestManyLeasesEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, fs := memoryConfig()
		disk := newStuckFS(fs)
		cfg.FS = disk
		m := lead(t, cfg)
		const leases = 4 * revokeBatch
		for i := range leases {
			m.grant(kv.LeaseID(i+1), 60)
		}
		release := disk.stick()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if n := m.waiters.count(); n > revokeBatch {
			t.Errorf("%d revocations are under way, want %d at most", n, revokeBatch)
		}
		put := make(chan error, 1)
		go func() {
			_, err := m.tryPut(context.Background(), "k", "v", 0)
			put <- err
		}()
		synctest.Wait()
		release()
		if err := <-put; err != nil {
			t.Errorf("a put among them: %v", err)
		}
		time.Sleep(revokeRetry + time.Second)
		if n := m.leases.Len(); n != 0 {
			t.Errorf("%d leases are left", n)
		}
	})
}

// TestCorruptAlarmHoldsLeases: nothing is revoked while a member is corrupt, and nothing is proposed in vain; when the
// alarm is taken back, what is over goes.
func TestCorruptAlarmHoldsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		m := lead(t, cfg)
		m.grant(1, 5)
		m.putLeased("k", 1)
		alarm := membership.Alarm{Member: m.ID(), Type: membership.AlarmCorrupt}
		if _, err := m.Alarm(t.Context(), AlarmActivate, alarm); err != nil {
			t.Fatal(err)
		}
		index := m.Status().Committed
		time.Sleep(time.Minute)
		if got := m.Status().Committed; got != index {
			t.Errorf("%d entries were made in vain", got-index)
		}
		if _, err := m.Alarm(t.Context(), AlarmDeactivate, alarm); err != nil {
			t.Fatal(err)
		}
		time.Sleep(revokeRetry + time.Millisecond)
		if m.get("k") != "" {
			t.Error("the key outlived its lease")
		}
	})
}

// TestRefusedCheckpointIsReported: a checkpoint that cannot even be proposed is spoken of, and no outcome is waited for.
func TestRefusedCheckpointIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := memoryConfig()
		var said strings.Builder
		cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
		m := start(t, cfg)
		m.grant(7, 3600)
		m.stop() // from here on nothing can be proposed
		const term = 99
		m.clock.start(term, m.leases.All, 0)
		defer m.clock.stop()
		time.Sleep(checkpointEvery + time.Second)
		m.tendOnce(context.Background(), term)
		if !strings.Contains(said.String(), "could not revoke or checkpoint leases") {
			t.Errorf("the log says only\n%s", said.String())
		}
	})
}
