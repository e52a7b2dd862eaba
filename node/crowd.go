package node

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// filesReserved is how many files are kept from clients' connections: 500 for tables of the store, the rest for the raft log, other
// members and those that last for a moment. Without it a crowd of clients would take the files that the store needs, and end the member.
const filesReserved = 650

// connectionsMin is how many connections there may be in any case. Who has so few files is warned at start.
const connectionsMin = 100

// crowd bounds the connections of clients, on all their doors together. Beyond it they wait until others go, as with etcd.
type crowd struct {
	slots chan struct{}
	log   *slog.Logger

	mu   sync.Mutex // guards the field below
	told time.Time  // when it was said last that there are too many
}

// newCrowd makes a bound of what the limit of open files leaves room for.
func newCrowd(log *slog.Logger) *crowd {
	var files unix.Rlimit
	room := connectionsMin
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur > filesReserved {
		room = max(room, int(min(files.Cur-filesReserved, 1<<20)))
	}
	return &crowd{slots: make(chan struct{}, room), log: log}
}

// fullInterval stands between two warnings that there are too many connections.
const fullInterval = time.Minute

func (c *crowd) full() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.told) > fullInterval {
		c.told = now
		c.log.Warn("there are as many connections as the limit of open files leaves room for; more have to wait", "connections", cap(c.slots))
	}
}

// bounded is a listener whose connections count.
type bounded struct {
	net.Listener
	crowd  *crowd
	once   sync.Once
	closed chan struct{}
}

func (c *crowd) bound(l net.Listener) *bounded {
	return &bounded{Listener: l, crowd: c, closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.crowd.slots <- struct{}{}:
	default:
		b.crowd.full()
		select {
		case b.crowd.slots <- struct{}{}:
		case <-b.closed:
			return nil, net.ErrClosed
		}
	}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.crowd.slots
		return nil, err
	}
	return &counted{Conn: conn, crowd: b.crowd}, nil
}

// Close implements net.Listener.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	crowd *crowd
	once  sync.Once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.crowd.slots })
	return err
}
