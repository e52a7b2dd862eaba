package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// fakeRaft writes down what it is told.
type fakeRaft struct {
	mu          sync.Mutex // guards the fields below
	got         []*raftpb.Message
	unreachable map[uint64]int
	snapshots   []bool // reports, in order
	removed     map[uint64]bool
	stepErr     error
	hold        chan struct{} // Step does not come back before this is closed; nil: it does at once
}

func (r *fakeRaft) Step(m *raftpb.Message) error {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stepErr == nil {
		r.got = append(r.got, m)
	}
	return r.stepErr
}

func (r *fakeRaft) ReportUnreachable(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unreachable == nil {
		r.unreachable = map[uint64]int{}
	}
	r.unreachable[id]++
}

func (r *fakeRaft) ReportSnapshot(_ uint64, arrived bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshots = append(r.snapshots, arrived)
}

func (r *fakeRaft) IsIDRemoved(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removed[id]
}

func (r *fakeRaft) remove(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removed = map[uint64]bool{id: true}
}

// stick makes Step not come back until release is called.
func (r *fakeRaft) stick() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hold := make(chan struct{})
	r.hold = hold
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hold = nil
		close(hold)
	}
}

func (r *fakeRaft) messages() []*raftpb.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*raftpb.Message(nil), r.got...)
}

func (r *fakeRaft) lost(id uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unreachable[id]
}

func (r *fakeRaft) reports() []bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]bool(nil), r.snapshots...)
}

// fakeSnapshots sends body and keeps what comes.
type fakeSnapshots struct {
	body  io.Reader
	size  int64
	stuck bool // reading what is sent waits until it is no longer wanted

	mu    sync.Mutex // guards the fields below
	asked []Form
	kept  [][]byte
	forms []Form // of kept
	sizes []int64
	errs  []error
}

func (s *fakeSnapshots) Open(ctx context.Context, m *raftpb.Message, form Form) (*Snapshot, error) {
	s.mu.Lock()
	s.asked = append(s.asked, form)
	s.mu.Unlock()
	if s.stuck {
		return &Snapshot{Message: m, Body: io.NopCloser(stuckReader{ctx}), Size: s.size}, nil
	}
	if s.body == nil {
		return nil, errors.New("there is no state to send")
	}
	return &Snapshot{Message: m, Body: io.NopCloser(s.body), Size: s.size}, nil
}

func (s *fakeSnapshots) Receive(_ context.Context, _ *raftpb.Message, in Incoming) error {
	b, err := io.ReadAll(in.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errs = append(s.errs, err)
		return err
	}
	s.kept, s.forms, s.sizes = append(s.kept, b), append(s.forms, in.Form), append(s.sizes, in.Size)
	return nil
}

func (s *fakeSnapshots) received() (kept [][]byte, failed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.kept...), len(s.errs)
}

type stuckReader struct{ ctx context.Context }

func (r stuckReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

// network is where members listen and dial: a machine's loopback, or pipes in memory.
type network interface {
	listen(t *testing.T, id uint64) net.Listener
	dial(ctx context.Context, network, address string) (net.Conn, error)
}

type loopback struct{ net.Dialer }

func (*loopback) listen(t *testing.T, _ uint64) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (n *loopback) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return n.DialContext(ctx, network, address)
}

// member is a transport with a listener.
type member struct {
	*Transport
	id        uint64
	raft      *fakeRaft
	snapshots *fakeSnapshots
	address   string
	refused   chan uint64
	result    chan error // of Run

	server *http.Server
	served chan struct{}
	stop   func()
}

const testCluster = 0xc1

// newMember starts a member that knows nobody. change may alter its configuration.
func newMember(t *testing.T, n network, id uint64, change func(*Config)) *member {
	t.Helper()
	m := &member{
		id: id, raft: &fakeRaft{}, snapshots: &fakeSnapshots{}, refused: make(chan uint64, 100), result: make(chan error, 1),
	}
	l := n.listen(t, id)
	m.address = l.Addr().String()
	cfg := Config{
		ID: id, ClusterID: testCluster, URLs: []string{m.url()}, Raft: m.raft, Snapshots: m.snapshots, Dial: n.dial,
		Refused: func(id uint64) { m.refused <- id }, Log: slog.New(slog.DiscardHandler),
	}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil)).With("me", id)
	}
	if change != nil {
		change(&cfg)
	}
	m.Transport = New(cfg)
	m.serve(l)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { m.result <- m.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		err := <-m.result
		m.result <- err
		m.hangUp()
	})
	t.Cleanup(m.stop)
	return m
}

func (m *member) url() string { return "http://" + m.address }

// serve answers on l until hangUp.
func (m *member) serve(l net.Listener) {
	m.server, m.served = &http.Server{Handler: m.Handler()}, make(chan struct{})
	server, served := m.server, m.served
	go func() {
		defer close(served)
		_ = server.Serve(l) // ends when closed
	}()
}

// hangUp closes the listener and every connection made to it.
func (m *member) hangUp() {
	_ = m.server.Close()
	<-m.served
}

// cluster starts n members that know each other, with ids from 1.
func cluster(t *testing.T, on network, n int, change func(*Config)) []*member {
	t.Helper()
	var ms []*member
	for i := range n {
		ms = append(ms, newMember(t, on, uint64(i+1), change))
	}
	for _, a := range ms {
		for _, b := range ms {
			if a != b {
				a.AddPeer(b.id, []string{b.url()})
			}
		}
	}
	for _, a := range ms {
		for _, b := range ms {
			if a != b {
				eventually(t, "streams are open", func() bool { return a.open(b.id) })
			}
		}
	}
	return ms
}

// open reports whether both streams to a peer can be sent on.
func (m *member) open(id uint64) bool {
	p := m.peer(id)
	return p != nil && isOpen(p.msgApp.box) && isOpen(p.message.box)
}

func isOpen(o *outbox) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.opened
}

// eventually waits until something holds. The time it gives up after is for broken code only.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// message makes one of a type from one member to another, with a number to know it by.
func message(typ raftpb.MessageType, from, to *member, number uint64) *raftpb.Message {
	m := &raftpb.Message{Type: typ.Enum(), From: new(from.id), To: new(to.id), Term: new(uint64(1)), Commit: new(number)}
	if typ == raftpb.MsgApp {
		m.LogTerm, m.Index = new(uint64(1)), new(number)
		m.Entries = []*raftpb.Entry{{Term: new(uint64(1)), Index: new(number + 1), Data: bytes.Repeat([]byte{'x'}, 100)}}
	}
	return m
}
