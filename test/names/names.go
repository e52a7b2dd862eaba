// Package names is a name server for tests: a zone that is written down, served on the loopback.
//
//	Shape   an SRV record is "priority weight port target", as in a zone file, its name that of the service
//	Errors  end the test; a question that cannot be read gets no answer
package names

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Zone is what is known. What is not there does not exist. Names have no dot at the end.
type Zone struct {
	SRV       map[string][]string
	Addresses map[string]string // IPv4, several with blanks between them
}

// serve answers until the test ends.
func (z Zone) serve(t testing.TB, conn net.PacketConn) {
	served := make(chan struct{})
	go func() { // ends when the socket is closed
		defer close(served)
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			answer, err := z.answer(buf[:n])
			if err != nil {
				t.Error(err)
				continue
			}
			if _, err := conn.WriteTo(answer, from); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-served
	})
}

// Resolver asks the zone, which is served until the test ends.
func (z Zone) Resolver(t testing.TB) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z.serve(t, conn)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// Believe serves the zone where programs look for name servers, and gives what stands before the command of one that is to
// believe this zone and nothing else. It needs root.
func (z Zone) Believe(t testing.TB) (prefix []string) {
	t.Helper()
	conn, address, err := listenForPrograms()
	if err != nil {
		t.Fatal(err)
	}
	z.serve(t, conn)
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, fmt.Appendf(nil, "nameserver %s\n", address), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"unshare", "-m", "sh", "-euc", `mount --bind "$0" /etc/resolv.conf; exec "$@"`, resolv}
}

// listenForPrograms listens on port 53 of some address of the loopback: programs know no other port.
func listenForPrograms() (conn net.PacketConn, address string, err error) {
	const tries = 50
	for range tries {
		address = fmt.Sprintf("127.%d.%d.1", 16+rand.IntN(200), rand.IntN(250))
		if conn, err = net.ListenPacket("udp", net.JoinHostPort(address, "53")); err == nil {
			return conn, address, nil
		}
	}
	return nil, "", fmt.Errorf("serve names, which needs root: %w", err)
}

func (z Zone) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
	records, isService := z.SRV[name]
	if q.Type == dnsmessage.TypeSRV {
		for _, text := range records {
			var r dnsmessage.SRVResource
			var target string
			if _, err := fmt.Sscanf(text, "%d %d %d %s", &r.Priority, &r.Weight, &r.Port, &target); err != nil {
				return nil, fmt.Errorf("record %q: %w", text, err)
			}
			r.Target = dnsmessage.MustNewName(target + ".")
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &r})
		}
	}
	addresses, isHost := z.Addresses[name]
	if q.Type == dnsmessage.TypeA {
		for address := range strings.FieldsSeq(addresses) {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: [4]byte(net.ParseIP(address).To4())}})
		}
	}
	if !isService && !isHost {
		m.RCode = dnsmessage.RCodeNameError
	}
	return m.Pack()
}
