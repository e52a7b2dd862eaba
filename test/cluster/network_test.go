package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The ports of all members, each on addresses of its own.
const (
	clientPort = 2379
	peerPort   = 2380
)

// outside is where the clients are.
const outside = "clients"

// network stands between the members, and between them and the clients. Every directed pair has a door, an address on which the
// one reaches the other, and the name server of the one tells only that address. So each byte is known by where it comes from and
// where it goes, and each direction can be cut, slowed and moved by itself.
//
// A door behaves as the place it leads to: when no process runs there, connections to it are refused, and while the way is cut they
// stay without an answer.
//
//	Shape   127.x.y.1, .2, ...   from an x and y of the network's own; members, doors and name servers in the order they came
type network struct {
	dir string // for resolv.conf of each place

	mu     sync.Mutex // guards the fields below and those of places and doors; no I/O but opening and closing listeners
	last   netip.Addr // that was given out
	places map[string]*place
	links  map[way]*link
	doors  map[way]*door
	closed bool
}

// way is a direction between two places.
type way struct{ from, to string }

func (w way) back() way { return way{w.to, w.from} }

// place is where a member runs.
type place struct {
	name  string
	addr  netip.Addr // on which the member listens
	up    bool       // a process runs
	names *names
}

// door is how one place reaches another.
type door struct {
	net      *network
	way      way
	addr     netip.Addr
	port     uint16
	listener net.Listener // nil while connections are refused
	paths    map[*path]bool
}

// domain is where the names of members lie.
const domain = ".holdfast.test"

// newNetwork finds addresses that nobody uses.
func newNetwork(dir string) (*network, error) {
	n := &network{dir: dir, places: map[string]*place{}, links: map[way]*link{}, doors: map[way]*door{}}
	for range 50 {
		n.last = netip.AddrFrom4([4]byte{127, byte(16 + rand.IntN(200)), byte(rand.IntN(250)), 0})
		// The first address stays bound for as long as the network is there: it is the name server of the clients.
		if err := n.add(outside); err == nil {
			return n, nil
		}
	}
	return nil, errors.New("no address of 127.0.0.0/8 can be used: name servers need root and port 53")
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, d := range n.doors {
		d.shut()
		d.reset()
	}
	for _, p := range n.places {
		p.names.close()
	}
}

// address gives an address that was not used yet.
func (n *network) address() netip.Addr {
	n.last = n.last.Next()
	return n.last
}

// add makes a place, with doors to and from all others.
func (n *network) add(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.places[name] != nil {
		return nil
	}
	server, err := serveNames(n.address())
	if err != nil {
		return err
	}
	p := &place{name: name, addr: n.address(), names: server}
	server.set(name+domain, p.addr)
	resolv := fmt.Sprintf("nameserver %s\noptions timeout:1 attempts:2\n", server.conn.LocalAddr().(*net.UDPAddr).IP)
	if err := os.WriteFile(n.resolvConf(name), []byte(resolv), 0o644); err != nil {
		server.close()
		return err
	}
	for other := range n.places {
		for _, w := range []way{{name, other}, {other, name}} {
			n.links[w] = newLink()
			if w.to == outside {
				continue
			}
			port := uint16(peerPort)
			if w.from == outside {
				port = clientPort
			}
			n.doors[w] = &door{net: n, way: w, addr: n.address(), port: port, paths: map[*path]bool{}}
		}
	}
	n.places[name] = p
	for w, d := range n.doors {
		n.places[w.from].names.set(w.to+domain, d.addr)
	}
	return nil
}

func (n *network) resolvConf(name string) string { return filepath.Join(n.dir, name+".resolv.conf") }

// listenAddress is where the member at a place listens.
func (n *network) listenAddress(name string) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.places[name].addr
}

// clientAddress is where clients reach a member. It stays the same for good.
func (n *network) clientAddress(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.doors[way{outside, name}]
	return netip.AddrPortFrom(d.addr, d.port).String()
}

// setUp tells that a process runs at a place, or none.
func (n *network) setUp(name string, up bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.places[name].up = up
	return n.adjust()
}

// set changes the links of some ways.
func (n *network) set(c condition, ways ...way) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range ways {
		n.links[w].set(c)
	}
	return n.adjust()
}

// heal makes all links as they were. With reset, connections that had to wait are cut off, as after a long time.
func (n *network) heal(reset bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if reset {
		for w, d := range n.doors {
			if n.links[w].isCut() || n.links[w.back()].isCut() {
				d.reset()
			}
		}
	}
	for _, l := range n.links {
		l.set(condition{})
	}
	return n.adjust()
}

// reset ends all connections between two places.
func (n *network) reset(w way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range []way{w, w.back()} {
		if d := n.doors[w]; d != nil {
			d.reset()
		}
	}
}

// moveDoors gives the doors between members new addresses and ends the connections through the old ones: what everybody sees when
// names get other addresses. The members themselves stay where they are.
func (n *network) moveDoors() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w, d := range n.doors {
		if w.from == outside {
			continue
		}
		d.shut()
		d.reset()
		d.addr = n.address()
		n.places[w.from].names.set(w.to+domain, d.addr)
	}
	return n.adjust()
}

// move gives a place a new address, which its member listens on from its next start. None may run there now.
func (n *network) move(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.places[name]
	if p.up {
		panic("cluster: " + name + " runs and cannot be moved")
	}
	p.addr = n.address()
	p.names.set(name+domain, p.addr)
}

// offer has all name servers say where a service of the members' domain is.
func (n *network) offer(service string, targets []target) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.places {
		p.names.offer(service+domain, targets)
	}
}

// forget makes a name unknown to a place, or to everybody else if the place is empty.
func (n *network) forget(at, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.places {
		if p.name != name && (at == "" || p.name == at) {
			p.names.set(name+domain, netip.Addr{})
		}
	}
}

// adjust opens and shuts doors according to what lies behind them.
func (n *network) adjust() error {
	for w, d := range n.doors {
		open := n.places[w.to].up || n.links[w].isCut() || n.links[w.back()].isCut()
		switch {
		case n.closed || !open:
			d.shut()
		case d.listener == nil:
			if err := d.open(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *door) open() error {
	l, err := net.Listen("tcp4", netip.AddrPortFrom(d.addr, d.port).String())
	if err != nil {
		return fmt.Errorf("open the way from %s to %s: %w", d.way.from, d.way.to, err)
	}
	d.listener = l
	go d.serve(l) // ends when the door is shut
	return nil
}

func (d *door) shut() {
	if d.listener != nil {
		_ = d.listener.Close()
		d.listener = nil
	}
}

func (d *door) reset() {
	for p := range d.paths {
		p.close()
	}
}

func (d *door) serve(l net.Listener) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		p := &path{near: near, gone: make(chan struct{})}
		d.net.mu.Lock()
		d.paths[p] = true
		d.net.mu.Unlock()
		go func() { // ends with the path
			d.carry(p)
			p.close()
			d.net.mu.Lock()
			delete(d.paths, p)
			d.net.mu.Unlock()
		}()
	}
}

// carry opens the far half of a path, when both directions let it, and carries bytes until one end closes.
func (d *door) carry(p *path) {
	d.net.mu.Lock()
	out, in := d.net.links[d.way], d.net.links[d.way.back()]
	to := netip.AddrPortFrom(d.net.places[d.way.to].addr, d.port)
	d.net.mu.Unlock()
	if !out.pass(p.gone, time.Now(), 0) || !in.pass(p.gone, time.Now(), 0) {
		return
	}
	far, err := net.DialTimeout("tcp4", to.String(), time.Second)
	if err != nil {
		return
	}
	d.net.mu.Lock()
	p.far = far
	d.net.mu.Unlock()
	select {
	case <-p.gone: // too late for whoever closed it to see far
		abort(far)
		return
	default:
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { out.pump(p, far, p.near) })
	pumps.Go(func() { in.pump(p, p.near, far) })
	pumps.Wait()
}
