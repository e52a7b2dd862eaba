package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"
)

// pipelineWorkers is how many messages to one peer are posted at a time. etcd's number.
const pipelineWorkers = 4

// peer is another member, or a remote: somebody to answer to, without streams, snapshots and probes.
type peer struct {
	t      *Transport
	id     uint64
	remote bool
	log    *slog.Logger // names both ends
	count  *counter

	urls     picker
	activity activity
	refusals refusals

	msgApp, message *sender // the ends we write to of the streams the peer opened
	pipeline        *outbox
	snapshots       snapshotSender
	// takes names the checkpoints that the peer reads, as its last request said; nil if it said nothing.
	takes atomic.Pointer[string]

	end  func()        // ends everything that has to do with the peer; may be called again
	done chan struct{} // closed by end
}

func newPeer(t *Transport, id uint64, urls []string, remote bool) *peer {
	p := &peer{
		t: t, id: id, remote: remote,
		log:      t.cfg.Log.With("local-member-id", hex(t.cfg.ID), "remote-peer-id", hex(id)),
		count:    t.stats.of(id),
		pipeline: newOutbox(pipelineMessagesMax),
		done:     make(chan struct{}),
	}
	p.end = sync.OnceFunc(func() { close(p.done) })
	p.urls.set(parseURLs(urls, p.log))
	p.activity = activity{log: p.log, id: id, now: t.cfg.Now, lost: &p.count.disconnections}
	p.pipeline.open()
	p.msgApp, p.message = newSender(p, streamMsgApp), newSender(p, streamMessage)
	p.snapshots.init(p)
	return p
}

// run does the peer's work until ctx or the peer ends, or the peer says that this member was removed.
func (p *peer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-p.done:
		case <-ctx.Done():
		}
		cancel()
		return nil
	})
	for range pipelineWorkers {
		g.Go(func() error { return p.postWaiting(ctx) })
	}
	if !p.remote {
		g.Go(func() error { return p.receive(ctx, streamMsgApp) })
		g.Go(func() error { return p.receive(ctx, streamMessage) })
		g.Go(func() error { return p.snapshots.run(ctx) })
		g.Go(func() error { p.probe(ctx); return nil })
	}
	return g.Wait()
}

// send puts m into the first outbox for its kind that has a connection, or drops it if that one is full.
func (p *peer) send(m *raftpb.Message) {
	if m.GetType() == raftpb.MsgSnap {
		p.snapshots.put(m)
		return
	}
	v := shut
	if m.GetType() == raftpb.MsgApp {
		v = p.msgApp.box.put(m)
	}
	if v == shut {
		v = p.message.box.put(m)
	}
	if v == shut {
		v = p.pipeline.put(m)
	}
	if v == full {
		p.lost(1)
		p.log.Warn("dropped internal Raft message since sending buffer is full", "message-type", m.GetType().String(), "remote-peer-active", !p.activity.since().IsZero())
	}
}

// lost tells raft and the statistics that n messages will not arrive.
func (p *peer) lost(n int) {
	if n == 0 {
		return
	}
	p.count.sentFailures.Add(uint64(n))
	p.t.cfg.Raft.ReportUnreachable(p.id)
}

// activity is whether a peer can be reached, and since when.
type activity struct {
	log  *slog.Logger
	id   uint64
	now  func() time.Time
	lost interface{ Add(uint64) uint64 }

	mu   sync.Mutex // guards the field below
	from time.Time  // zero: cannot be reached
}

// since returns since when the peer can be reached; zero if it cannot.
func (a *activity) since() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.from
}

// up says that something came from the peer or reached it.
func (a *activity) up() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.from.IsZero() {
		a.from = a.now()
		a.log.Info("peer became active", "peer-id", hex(a.id))
	}
}

// down says that an action on a channel failed.
func (a *activity) down(action, channel string, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := fmt.Errorf("failed to %s %x on %s (%w)", action, a.id, channel, cause)
	if a.from.IsZero() {
		a.log.Debug("peer deactivated again", "peer-id", hex(a.id), "error", err)
		return
	}
	a.from = time.Time{}
	a.lost.Add(1)
	a.log.Warn("peer became inactive (message send to peer failed)", "peer-id", hex(a.id), "error", err)
}

// refusals finds out that a peer we were connected to is certainly down: a machine that is there answered that nobody
// listens, at every URL of the peer, and no stream is left. A name that stands for several addresses counts as refused
// by the first of them; replicas ask before they vote, so being wrong here costs nothing.
type refusals struct {
	mu        sync.Mutex      // guards the fields below
	streams   int             // that are open
	connected bool            // since the last time it was found down
	by        map[string]bool // hosts that refused since then, with nothing else in between
}

func (r *refusals) opened() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams++
	r.connected, r.by = true, nil
}

func (r *refusals) closed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams--
}

// failed takes in why host, one of all the peer's, could not be dialled and reports whether the peer has now been found down.
func (r *refusals) failed(host string, err error, all []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.connected || r.streams > 0 {
		return false
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		r.by = nil
		return false
	}
	if r.by == nil {
		r.by = map[string]bool{}
	}
	r.by[host] = true
	for _, h := range all {
		if !r.by[h] {
			return false
		}
	}
	r.connected, r.by = false, nil
	return true
}
