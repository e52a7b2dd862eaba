package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// names is the name server of one member. What a name means to one member it need not mean to another: that is how each
// directed pair of members gets a path of its own although all of them know the same URLs.
//
// It answers questions for IPv4 addresses and for services with a time to live of 0, and every other question with an empty answer. A
// name that it does not know does not exist.
type names struct {
	conn *net.UDPConn

	mu       sync.Mutex // guards the fields below
	known    map[string]netip.Addr
	services map[string][]target
}

// target is where a service is.
type target struct {
	host string
	port uint16
}

// serveNames answers on port 53 of addr until close.
func serveNames(addr netip.Addr) (*names, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 53)))
	if err != nil {
		return nil, fmt.Errorf("serve names: %w", err)
	}
	n := &names{conn: conn, known: map[string]netip.Addr{}, services: map[string][]target{}}
	go n.serve() // ends with close
	return n, nil
}

func (n *names) close() { _ = n.conn.Close() }

// set gives a name its address. The zero address takes the name away.
func (n *names) set(name string, addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addr.IsValid() {
		n.known[name] = addr
	} else {
		delete(n.known, name)
	}
}

// offer says where a service is.
func (n *names) offer(service string, targets []target) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.services[service] = targets
}

func (n *names) serve() {
	question := make([]byte, 512) // the most that a question over UDP has
	for {
		size, from, err := n.conn.ReadFromUDPAddrPort(question)
		if err != nil {
			return
		}
		if a, err := n.answer(question[:size]); err == nil {
			_, _ = n.conn.WriteToUDPAddrPort(a, from) // who hears nothing asks again
		}
	}
}

var errQuestion = errors.New("no question")

// The numbers of RFC 1035 that an answer needs.
const (
	dnsHeader    = 12
	dnsAddress   = 1      // type A
	dnsService   = 33     // type SRV, RFC 2782
	dnsAnswers   = 0x8480 // an answer, authoritative, recursion available
	dnsNoName    = 3      // there is no such name
	dnsFirstName = 0xc00c // the name that stands right behind the header
)

// answer answers one question.
func (n *names) answer(q []byte) ([]byte, error) {
	if len(q) < dnsHeader || binary.BigEndian.Uint16(q[4:]) != 1 {
		return nil, errQuestion
	}
	name, rest, err := dnsName(q[dnsHeader:])
	if err != nil || len(rest) < 4 {
		return nil, errQuestion
	}
	n.mu.Lock()
	addr, found := n.known[name]
	targets, offered := n.services[name]
	n.mu.Unlock()
	a := append([]byte{}, q[:len(q)-len(rest)+4]...)
	flags, count := uint16(dnsAnswers), uint16(0)
	switch {
	case !found && !offered:
		flags |= dnsNoName
	case offered && binary.BigEndian.Uint16(rest) == dnsService:
		count = uint16(len(targets))
		for _, t := range targets {
			a = t.append(a)
		}
	case offered:
	case binary.BigEndian.Uint16(rest) == dnsAddress:
		count = 1
		a = binary.BigEndian.AppendUint16(a, dnsFirstName)
		a = append(a, 0, dnsAddress, 0, 1, 0, 0, 0, 0, 0, 4) // class, time to live, length
		a = append(a, addr.AsSlice()...)
	}
	binary.BigEndian.PutUint16(a[2:], flags)
	binary.BigEndian.PutUint16(a[6:], count)
	binary.BigEndian.PutUint32(a[8:], 0) // nothing about servers, nothing besides
	return a, nil
}

// append adds the answer that names the target.
func (t target) append(a []byte) []byte {
	a = binary.BigEndian.AppendUint16(a, dnsFirstName)
	a = append(a, 0, dnsService, 0, 1, 0, 0, 0, 0) // class, time to live
	var where []byte
	for label := range strings.SplitSeq(t.host, ".") {
		where = append(append(where, byte(len(label))), label...)
	}
	where = append(where, 0)
	a = binary.BigEndian.AppendUint16(a, uint16(6+len(where)))
	a = append(a, 0, 0, 0, 0) // priority, weight
	a = binary.BigEndian.AppendUint16(a, t.port)
	return append(a, where...)
}

// dnsName reads a name that is written as labels, each behind its length.
func dnsName(b []byte) (name string, rest []byte, err error) {
	var labels []string
	for {
		if len(b) == 0 || len(b) <= int(b[0]) {
			return "", nil, errQuestion
		}
		size := int(b[0])
		if size == 0 {
			return strings.ToLower(strings.Join(labels, ".")), b[1:], nil
		}
		labels = append(labels, string(b[1:1+size]))
		b = b[1+size:]
	}
}
