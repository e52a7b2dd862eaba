package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/test/run"
)

// member is one member: a place on the network, a data directory, and at most one process. One goroutine at a time starts and
// ends it.
type member struct {
	run.Process
	cluster *cluster
	name    string
	data    string
	disk    *disk // nil if it has none of its own
	conn    *grpc.ClientConn
	id      atomic.Uint64

	initialCluster, initialState string
	extra, env                   []string // flags after all others, and environment after the program's own

	mu      sync.Mutex // guards the fields below
	on      bool       // a process runs
	wanted  bool       // and should
	starved bool       // it has met a full disk: it may still end, when it comes to need what it did not get
	watched sync.WaitGroup
}

func (m *member) String() string { return m.name }

func (m *member) peerURL() string { return fmt.Sprintf("http://%s%s:%d", m.name, domain, peerPort) }

// connect makes the connection that all clients of a member share.
func (m *member) connect() error {
	var err error
	m.conn, err = m.dial()
	return err
}

// dial makes a connection whose answers are checked for who gives them.
func (m *member) dial(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+m.cluster.net.clientAddress(m.name), append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 300 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 30)),
		grpc.WithChainUnaryInterceptor(m.recognizeAnswer),
	}, options...)...)
}

// recognizeAnswer asks that every answer comes from this member of this cluster.
func (m *member) recognizeAnswer(ctx context.Context, method string, q, a any, conn *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := next(ctx, method, q, a, conn, options...)
	if headed, ok := a.(interface{ GetHeader() *pb.ResponseHeader }); ok && err == nil && headed.GetHeader() != nil {
		if err := m.recognize(headed.GetHeader()); err != nil {
			m.cluster.breach("%s: %w", method, err)
		}
	}
	return err
}

// recognize asks that a header names this member and its cluster; the first one tells who they are.
func (m *member) recognize(h *pb.ResponseHeader) error {
	c := m.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == 0 {
		c.id = h.GetClusterId()
	}
	m.id.CompareAndSwap(0, h.GetMemberId())
	if h.GetClusterId() != c.id || h.GetMemberId() != m.id.Load() {
		return fmt.Errorf("%s, member %x of cluster %x, says it is member %x of cluster %x", m.name, m.id.Load(), c.id, h.GetMemberId(), h.GetClusterId())
	}
	return nil
}

func (m *member) kv() pb.KVClient                   { return pb.NewKVClient(m.conn) }
func (m *member) maintenance() pb.MaintenanceClient { return pb.NewMaintenanceClient(m.conn) }
func (m *member) membership() pb.ClusterClient      { return pb.NewClusterClient(m.conn) }
func (m *member) leases() pb.LeaseClient            { return pb.NewLeaseClient(m.conn) }

// launch starts the process and does not wait for it.
func (m *member) launch() error {
	n := m.cluster.net
	addr := n.listenAddress(m.name)
	argv := []string{
		// The name server is the business of the process alone.
		"unshare", "-m", "sh", "-euc", `mount --bind "$0" /etc/resolv.conf; exec "$@"`, n.resolvConf(m.name),
		m.cluster.program.binary,
		"--name=" + m.name,
		"--data-dir=" + m.data,
		fmt.Sprintf("--listen-client-urls=http://%s:%d", addr, clientPort),
		fmt.Sprintf("--advertise-client-urls=http://%s%s:%d", m.name, domain, clientPort),
		fmt.Sprintf("--listen-peer-urls=http://%s:%d", addr, peerPort),
		"--initial-advertise-peer-urls=" + m.peerURL(),
		"--initial-cluster-state=" + m.initialState,
		"--initial-cluster-token=" + m.cluster.token,
		fmt.Sprintf("--heartbeat-interval=%d", heartbeat.Milliseconds()),
		fmt.Sprintf("--election-timeout=%d", election.Milliseconds()),
	}
	if m.initialCluster != "" { // else the member is told of its cluster in another way
		argv = append(argv, "--initial-cluster="+m.initialCluster)
	}
	argv = append(append(argv, m.cluster.program.args...), m.extra...)
	if err := m.Exec(argv, slices.Concat(m.cluster.program.env, m.env)); err != nil {
		return err
	}
	m.mu.Lock()
	m.on, m.wanted, m.starved = true, true, false
	m.mu.Unlock()
	if err := n.setUp(m.name, true); err != nil {
		return err
	}
	ended := m.Ended()
	m.watched.Go(func() {
		<-ended
		if m.fell() {
			m.cluster.breach("%s ended by itself:\n%s", m.name, m.LogTail(8))
		}
		if err := n.setUp(m.name, false); err != nil {
			m.cluster.breach("%s: %w", m.name, err)
		}
	})
	return nil
}

// expect tells whether the process should run from now on.
func (m *member) expect(wanted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted = wanted
}

// fell notes the end of the process and tells whether nobody asked for it.
func (m *member) fell() bool {
	starved := strings.Contains(m.LogTail(endWords), "no space left on device")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = false
	return m.wanted && !(m.starved && starved)
}

// endWords is how many lines a program may take to say why it ends: etcd adds a stack.
const endWords = 60

// starve notes that the disk is full.
func (m *member) starve() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starved = true
}

// running tells whether a process runs.
func (m *member) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

// kill ends the process as a power cut would. The others find the door closed at once, as with a process on their own machine.
func (m *member) kill() {
	m.expect(false)
	if err := m.cluster.net.setUp(m.name, false); err != nil {
		m.cluster.breach("%s: %w", m.name, err)
	}
	m.Process.Kill()
	m.watched.Wait()
}

// stop ends the process with SIGTERM.
func (m *member) stop() error {
	m.expect(false)
	err := m.Process.Stop()
	m.watched.Wait()
	return err
}

// awaitEnd waits until the process ends by itself, as it should.
func (m *member) awaitEnd(within time.Duration) error {
	m.expect(false)
	select {
	case <-m.Ended():
		m.Process.Kill() // takes note of the end
		m.watched.Wait()
		return nil
	case <-time.After(within):
		return fmt.Errorf("%s still runs", m.name)
	}
}

// pause stops the process where it stands, and resume lets it go on.
func (m *member) pause()  { m.Signal(syscall.SIGSTOP) }
func (m *member) resume() { m.Signal(syscall.SIGCONT) }

// close ends the process for good.
func (m *member) close() {
	m.resume()
	m.kill()
	_ = m.conn.Close()
}

// wipe takes the data away.
func (m *member) wipe() error { return os.RemoveAll(m.data) }

// await waits until the member answers a linearizable read.
func (m *member) await(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := m.kv().Range(attempt, &pb.RangeRequest{Key: []byte{0}})
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", m.name, err)
		case <-m.Ended():
			return fmt.Errorf("%s: %w\n%s", m.name, errors.New("ended"), m.LogTail(8))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// leads tells whether the member believes that it leads.
func (m *member) leads() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	r, err := m.maintenance().Status(ctx, &pb.StatusRequest{})
	return err == nil && r.GetLeader() == r.GetHeader().GetMemberId() && r.GetLeader() != 0
}
