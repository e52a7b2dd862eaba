// Package transport carries raft's messages between members, in etcd's peer protocol, so that an etcd can be on the other end.
//
// Everything that is small or urgent goes over two connections per peer and direction that stay open: the receiver
// opens them with a GET, the sender answers without end. A leader's appends have one of their own, so that they never
// stand in front of a heartbeat. Without an open stream a message is posted by itself; a snapshot always is.
//
//	Shape   Send -> outbox of a stream -> answer to the peer's GET /raft/stream/{msgapp,message}/<id>
//	             -> pipeline           -> POST /raft
//	             -> snapshots          -> POST /raft/snapshot, or /raft/checkpoint to a member of our kind
//	        streams we opened, POSTs we were sent -> Raft.Step
//	Units   ids are member ids, on the wire in hex; sizes are bytes
//	Errors  ErrRemoved, ErrTooLarge. A peer that cannot be reached is no error: raft is told, messages are dropped
//	Source  etcd 3.7, server/etcdserver/api/rafthttp, for paths, headers, status codes, encodings and numbers
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"holdfast/util/queue"
)

// ErrRemoved says that the other members no longer count this one as theirs. It has to stop for good.
var ErrRemoved = errors.New("the member has been permanently removed from the cluster")

const (
	// ioTimeout is how long a connection may give no sign of life, unless Config says more. etcd's number (ConnReadTimeout,
	// ConnWriteTimeout).
	ioTimeout = 5 * time.Second
	// heartbeatInterval keeps a silent stream below the other side's ioTimeout, with two to spare, whatever Config says: others
	// may have less patience.
	heartbeatInterval = ioTimeout / 3
	// redialInterval stands between two attempts to open the same stream, so that a peer that is down costs little.
	// etcd's number.
	redialInterval = 100 * time.Millisecond
	// messageBytesMax is etcd's bound for a message on a stream.
	messageBytesMax = 512 << 20
	// remotesMax bounds the senders we were told of by their own requests. A cluster has seven members, rarely more.
	remotesMax = 64
)

// Raft takes what arrives and hears what became of what was sent. No call may wait.
type Raft interface {
	// Step takes in a message, which is Raft's from then on. An error means that it was dropped.
	Step(m *raftpb.Message) error
	// ReportUnreachable says that what was sent to a member is probably lost.
	ReportUnreachable(id uint64)
	// ReportSnapshot says how the sending of a snapshot to a member ended.
	ReportSnapshot(id uint64, arrived bool)
	// IsIDRemoved reports whether a member once was in the cluster and was removed.
	IsIDRemoved(id uint64) bool
}

// Config says what a Transport works with. Fields without a remark are required.
type Config struct {
	ID        uint64   // of this member
	ClusterID uint64   // peers of another cluster are refused
	URLs      []string // peer URLs of this member, told to others so that they can answer before they know it

	Raft      Raft
	Snapshots Snapshots // nil: snapshots are neither sent nor taken
	// Checkpoints names the form of checkpoint that Snapshots can send and receive, with everything two members must
	// agree on to exchange it. Empty: states travel as databases only.
	Checkpoints string

	// TLS is for a connection to an https URL of that host, certificate to show included. nil: the system's roots, no
	// certificate.
	TLS func(host string) *tls.Config
	// DialTimeout bounds name lookup and connect together, and the TLS handshake behind them. etcd: 1 s more than the
	// election timeout. 0: 2 s.
	DialTimeout time.Duration
	// ReadTimeout and WriteTimeout are how long a connection may give no sign of life. 0, and at least: 5 s.
	ReadTimeout, WriteTimeout time.Duration
	// MessageBytesMax bounds a message that is read, except for the data of a snapshot. It must hold the largest request the
	// cluster accepts and raft's 1 MiB of entries. 0, and at most: 512 MiB, etcd's number.
	MessageBytesMax uint64

	// Refused, if set, is called when a peer we were connected to is certainly down: its streams ended and its machine
	// refused new connections at every URL. Silence does not count. The call must not wait.
	Refused func(id uint64)

	// Dial replaces net.Dialer, for simulated networks. nil: the real one, which looks names up anew each time.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Now  func() time.Time // nil: time.Now
	Log  *slog.Logger
}

// Transport is this member's side of all its connections to others.
type Transport struct {
	cfg     Config
	clients clients
	stats   *counters
	taking  *receiving // the snapshot being received

	started *queue.Mailbox[*peer] // peers whose work Run has to begin
	wake    chan struct{}

	mu      sync.RWMutex     // guards the fields below; nothing waits while it is held
	peers   map[uint64]*peer // members, and remotes: senders that are no members as far as we know
	closed  bool             // Run has ended: nothing is accepted any more
	serving sync.WaitGroup   // requests; none is added once closed
}

// New returns a transport without peers. Messages begin to move when Run is called.
func New(cfg Config) *Transport {
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 2 * time.Second
	}
	cfg.ReadTimeout, cfg.WriteTimeout = max(cfg.ReadTimeout, ioTimeout), max(cfg.WriteTimeout, ioTimeout)
	if cfg.MessageBytesMax == 0 || cfg.MessageBytesMax > messageBytesMax {
		cfg.MessageBytesMax = messageBytesMax
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Refused == nil {
		cfg.Refused = func(uint64) {}
	}
	wake := make(chan struct{}, 1)
	return &Transport{
		cfg:     cfg,
		clients: newClients(cfg),
		stats:   newCounters(),
		taking:  newReceiving(),
		started: queue.NewMailbox[*peer](wake),
		wake:    wake,
		peers:   map[uint64]*peer{},
	}
}

// Run keeps the connections until ctx ends, which is no error, or a peer says that this member was removed. It owns
// every goroutine of the transport; those that serve a request belong to the server that called Handler, but Run ends
// them and waits. So when it returns, nothing is handed to Raft any more.
func (t *Transport) Run(ctx context.Context) error {
	defer t.close()
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			for _, p := range t.started.Take(nil) {
				g.Go(func() error { return p.run(running) })
			}
			select {
			case <-t.wake:
			case <-running.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// close ends what serves requests. Nothing else is left.
func (t *Transport) close() {
	t.mu.Lock()
	t.closed = true
	for _, p := range t.peers {
		p.end()
	}
	t.mu.Unlock()
	t.taking.end()
	t.clients.close()
	t.serving.Wait()
}

// Send takes messages and returns at once. What has no receiver, or one that is unknown, is ignored; what cannot be sent
// is dropped and reported.
func (t *Transport) Send(messages []*raftpb.Message) {
	for _, m := range messages {
		if m.GetTo() == 0 {
			continue
		}
		p := t.peer(m.GetTo())
		if p == nil {
			t.cfg.Log.Debug("ignored message send request; unknown remote peer target", "type", m.GetType().String(), "unknown-target-peer-id", hex(m.GetTo()))
			continue
		}
		p.send(m)
	}
}

// peer returns the member or remote with that id, nil if there is none.
func (t *Transport) peer(id uint64) *peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.peers[id]
}

// AddPeer adds a member. One that is known already stays as it is.
func (t *Transport) AddPeer(id uint64, urls []string) {
	if t.add(newPeer(t, id, urls, false)) {
		t.cfg.Log.Info("added remote peer", "local-member-id", hex(t.cfg.ID), "remote-peer-id", hex(id), "remote-peer-urls", urls)
	}
}

// AddRemote adds somebody to answer to who is no member as far as this one knows: a leader that joined while this member
// was away. It gets no streams, and is replaced when AddPeer tells of the member.
func (t *Transport) AddRemote(id uint64, urls []string) {
	if t.add(newPeer(t, id, urls, true)) {
		t.cfg.Log.Info("added new remote peer", "local-member-id", hex(t.cfg.ID), "remote-peer-id", hex(id), "remote-peer-urls", urls)
	}
}

// add takes p in unless its place is taken.
func (t *Transport) add(p *peer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.peers[p.id]
	if t.closed || p.id == t.cfg.ID || old != nil && (p.remote || !old.remote) || p.remote && t.remotes() >= remotesMax {
		p.end()
		return false
	}
	if old != nil {
		old.end()
	}
	t.peers[p.id] = p
	t.started.Put(p)
	return true
}

func (t *Transport) remotes() (n int) {
	for _, p := range t.peers {
		if p.remote {
			n++
		}
	}
	return n
}

// RemovePeer ends the connections with a member. It hears of its removal when it tries to open new ones.
func (t *Transport) RemovePeer(id uint64) {
	t.mu.Lock()
	p := t.peers[id]
	delete(t.peers, id)
	t.mu.Unlock()
	if p == nil {
		return
	}
	p.end()
	t.cfg.Log.Info("removed remote peer", "local-member-id", hex(t.cfg.ID), "removed-remote-peer-id", hex(id))
}

// UpdatePeer gives a member other URLs. Open streams stay as they are.
func (t *Transport) UpdatePeer(id uint64, urls []string) {
	p := t.peer(id)
	if p == nil || p.remote {
		return
	}
	p.urls.set(parseURLs(urls, t.cfg.Log))
	t.cfg.Log.Info("updated remote peer", "local-member-id", hex(t.cfg.ID), "updated-remote-peer-id", hex(id), "updated-remote-peer-urls", urls)
}

// ActiveSince tells since when a member has been reachable without a break; the zero time if it is not.
func (t *Transport) ActiveSince(id uint64) time.Time {
	if p := t.peer(id); p != nil && !p.remote {
		return p.activity.since()
	}
	return time.Time{}
}

// Stats returns what was counted since New, by member.
func (t *Transport) Stats() Stats {
	s := t.stats.snapshot()
	t.mu.RLock()
	defer t.mu.RUnlock()
	for id, p := range t.peers {
		if !p.remote {
			peer := s.Peers[id]
			peer.Known, peer.Active = true, !p.activity.since().IsZero()
			peer.Attached = p.msgApp.box.isOpen() || p.message.box.isOpen()
			s.Peers[id] = peer
		}
	}
	return s
}
