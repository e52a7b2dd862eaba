package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// pipes is a network in memory, for tests under simulated time. A connection can be made to carry nothing any more.
type pipes struct {
	mu        sync.Mutex // guards the fields below
	listeners map[string]*pipeListener
	deaf      bool // no connection carries anything
}

type pipeListener struct {
	address string
	accept  chan net.Conn
	closed  chan struct{}
	close   func()
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.close(); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.address) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

func (n *pipes) listen(t *testing.T, id uint64) net.Listener {
	t.Helper()
	closed := make(chan struct{})
	l := &pipeListener{
		address: "m" + hex(id) + ":2380", accept: make(chan net.Conn), closed: closed,
		close: sync.OnceFunc(func() { close(closed) }),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners == nil {
		n.listeners = map[string]*pipeListener{}
	}
	n.listeners[l.address] = l
	return l
}

func (n *pipes) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l, deaf := n.listeners[address], n.deaf
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("no such host")
	}
	if deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	here, there := net.Pipe()
	select {
	case l.accept <- &pipeConn{Conn: there, n: n}:
		return &pipeConn{Conn: here, n: n}, nil
	case <-l.closed:
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipeConn is one end. On a deaf network nothing arrives, though writing works, until a buffer would be full.
type pipeConn struct {
	net.Conn
	n *pipes
}

func (c *pipeConn) Write(b []byte) (int, error) {
	c.n.mu.Lock()
	deaf := c.n.deaf
	c.n.mu.Unlock()
	if deaf {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (n *pipes) setDeaf(deaf bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = deaf
}

// TestIdleStreams leaves two members alone for an hour: heartbeats keep the streams, nobody becomes inactive, and
// probes have measured the way.
func TestIdleStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := cluster(t, &pipes{}, 2, nil)
		since, before := ms[0].ActiveSince(2), ms[0].Stats().Peers[2]
		time.Sleep(time.Hour)
		if !ms[0].ActiveSince(2).Equal(since) {
			t.Error("the peer was inactive in between")
		}
		s := ms[0].Stats().Peers[2]
		if s.Disconnections != before.Disconnections || s.SentFailures != before.SentFailures {
			t.Errorf("counted %+v", s)
		}
		if want := uint64(time.Hour / probeInterval); s.RoundTrips.Counts[0] < want-1 {
			t.Errorf("%d round trips were measured, want about %d", s.RoundTrips.Counts[0], want)
		}
		// Every heartbeat is 1 byte on one stream and 10 on the other.
		if want := uint64(time.Hour / heartbeatInterval * 11); s.SentBytes < want-11 || s.SentBytes > want+11 {
			t.Errorf("sent %d bytes, want %d", s.SentBytes, want)
		}
	})
}

// TestSilence makes the network swallow everything: after the time a connection may be silent, and not before, the peers
// count as inactive; and they come back.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &pipes{}
		ms := cluster(t, on, 2, nil)
		on.setDeaf(true)
		time.Sleep(ioTimeout - heartbeatInterval - 10*time.Millisecond)
		if ms[0].ActiveSince(2).IsZero() {
			t.Error("inactive before a heartbeat could be missed")
		}
		time.Sleep(heartbeatInterval + 20*time.Millisecond)
		if !ms[0].ActiveSince(2).IsZero() {
			t.Error("still active after the longest silence allowed")
		}
		if len(ms[0].refused) != 0 {
			t.Error("silence counts as refusal")
		}
		on.setDeaf(false)
		time.Sleep(ioTimeout)
		if ms[0].ActiveSince(2).IsZero() {
			t.Error("not active again")
		}
	})
}

// TestSlowPeer sends to a peer that takes nothing: what does not fit is dropped and reported, Send never waits, and
// the memory kept is bounded.
func TestSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &pipes{}
		ms := cluster(t, on, 2, nil)
		p := ms[0].peer(2)
		before := ms[0].Stats().Peers[2].Disconnections
		release := ms[1].raft.stick()
		began := time.Now()
		for i := range uint64(3 * streamMessagesMax) {
			m := message(raftpb.MsgHeartbeat, ms[0], ms[1], i)
			m.Context = make([]byte, 1<<10) // more together than the buffers on the way hold
			ms[0].Send([]*raftpb.Message{m})
		}
		large := message(raftpb.MsgApp, ms[0], ms[1], 1)
		large.Entries[0].Data = bytes.Repeat([]byte{'x'}, 8<<20)
		for range 100 {
			ms[0].Send([]*raftpb.Message{large})
		}
		if time.Since(began) != 0 {
			t.Error("Send waited")
		}
		if got := ms[0].raft.lost(2); got < streamMessagesMax {
			t.Errorf("%d messages were reported as lost, want at least %d", got, streamMessagesMax)
		}
		p.msgApp.box.mu.Lock()
		if p.msgApp.box.bytes > outboxBytesMax {
			t.Errorf("%d bytes wait, at most %d may", p.msgApp.box.bytes, outboxBytesMax)
		}
		p.msgApp.box.mu.Unlock()
		time.Sleep(ioTimeout / 2)
		release()
		time.Sleep(time.Second)
		if ms[0].ActiveSince(2).IsZero() || ms[0].Stats().Peers[2].Disconnections != before {
			t.Error("a peer that was slow for a while lost its connection")
		}
	})
}

// TestStuckPeer is a peer that stays stuck: its streams are given up, what waited is reported.
func TestStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := cluster(t, &pipes{}, 2, nil)
		before := ms[0].Stats().Peers[2].Disconnections
		release := ms[1].raft.stick()
		for i := range uint64(streamMessagesMax) {
			m := message(raftpb.MsgHeartbeat, ms[0], ms[1], i)
			m.Context = make([]byte, 1<<10) // more together than the buffers on the way hold
			ms[0].Send([]*raftpb.Message{m})
		}
		time.Sleep(2 * ioTimeout)
		if got := ms[0].raft.lost(2); got == 0 {
			t.Error("nothing was reported as lost")
		}
		if got := ms[0].Stats().Peers[2]; got.Disconnections == before || got.SentFailures < streamMessagesMax/2 {
			t.Errorf("counted %+v", got)
		}
		release()
		time.Sleep(ioTimeout)
		if !ms[0].open(2) {
			t.Error("the streams are not open again")
		}
	})
}

// TestClockSkew gives two members clocks that differ.
func TestClockSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &pipes{}
		a := newMember(t, on, 1, nil)
		b := newMember(t, on, 2, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(-time.Minute) } })
		a.AddPeer(2, []string{b.url()})
		b.AddPeer(1, []string{a.url()})
		time.Sleep(probeInterval + time.Second)
		if got := a.Stats().Peers[2].ClockSkew; got != time.Minute {
			t.Errorf("our clock is %v ahead, want 1m", got)
		}
		if got := b.Stats().Peers[1].ClockSkew; got != -time.Minute {
			t.Errorf("our clock is %v ahead, want -1m", got)
		}
	})
}

// TestSnapshotStalls begins a snapshot of which no more comes: the receiver gives up.
func TestSnapshotStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &pipes{}
		ms := cluster(t, on, 2, nil)
		ms[0].snapshots.stuck, ms[0].snapshots.size = true, 100
		ms[0].Send([]*raftpb.Message{snapshotMessage(ms[0], ms[1], 1, 10)})
		time.Sleep(snapshotStallMax - time.Second)
		if _, failed := ms[1].snapshots.received(); failed != 0 {
			t.Error("given up too early")
		}
		time.Sleep(2 * time.Second)
		if _, failed := ms[1].snapshots.received(); failed != 1 {
			t.Error("not given up")
		}
		time.Sleep(snapshotRetryPause + time.Second)
		if got := ms[0].raft.reports(); len(got) != 1 || got[0] {
			t.Errorf("reports are %v, want one of failure", got)
		}
	})
}

// TestComplaints checks when a warning is repeated.
func TestComplaints(t *testing.T) {
	var c complaint
	at := time.Unix(1, 0)
	for i, step := range []struct {
		after time.Duration
		wrong bool
		want  bool
	}{
		{0, true, true}, {time.Second, true, false}, {probeLogInterval, true, true}, {time.Second, false, false}, {time.Second, true, true},
	} {
		at = at.Add(step.after)
		if got := c.due(step.wrong, at); got != step.want {
			t.Errorf("step %d: due is %v, want %v", i, got, step.want)
		}
	}
}
