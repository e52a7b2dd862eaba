package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is what a tiny DNS server answers: SRV records as "host:port" by service, addresses by name. What is not there does
// not exist.
type zone struct {
	srv       map[string][]string
	addresses map[string]string
}

// resolver serves the zone on the loopback until the test ends.
func (z zone) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() { // ends when the socket is closed
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			answer, err := z.answer(buf[:n])
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := conn.WriteTo(answer, from); err != nil {
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (z zone) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	q := m.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
	known := false
	for _, target := range z.srv[name] {
		known = true
		host, port, _ := net.SplitHostPort(target)
		number, err := net.LookupPort("tcp", port)
		if err != nil {
			return nil, err
		}
		if q.Type == dnsmessage.TypeSRV {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.SRVResource{Port: uint16(number), Target: dnsmessage.MustNewName(host + ".")}})
		}
	}
	if text, is := z.addresses[name]; is {
		known = true
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: [4]byte(net.ParseIP(text).To4())}})
		}
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	return m.Pack()
}

// TestSRV asks zones as members do, with their advertised URLs.
func TestSRV(t *testing.T) {
	const plain, secure = "_etcd-server._tcp.example.com", "_etcd-server-ssl._tcp.example.com"
	three := []string{"c.example.com:2380", "a.example.com:2380", "b.example.com:2380"}
	addresses := map[string]string{"a.example.com": "10.0.0.1", "b.example.com": "10.0.0.2", "c.example.com": "10.0.0.3", "alias.example.com": "10.0.0.2"}
	for name, c := range map[string]struct {
		zone       zone
		name       string // --discovery-srv-name
		advertised string
		want       string // the cluster, or with "!" before it a part of the error
	}{
		"plain": {zone{map[string][]string{plain: three}, addresses}, "", "http://b.example.com:2380",
			"0=http://a.example.com:2380,me=http://b.example.com:2380,2=http://c.example.com:2380"},
		"secure": {zone{map[string][]string{secure: three}, addresses}, "", "https://b.example.com:2380",
			"0=https://a.example.com:2380,me=https://b.example.com:2380,2=https://c.example.com:2380"},
		"a named service": {zone{map[string][]string{"_etcd-server-green._tcp.example.com": three[:1], plain: three}, addresses}, "green", "http://c.example.com:2380",
			"me=http://c.example.com:2380"},
		"advertised under another name": {zone{map[string][]string{plain: three}, addresses}, "", "http://alias.example.com:2380",
			"0=http://a.example.com:2380,me=http://b.example.com:2380,2=http://c.example.com:2380"},
		"advertised as an address": {zone{map[string][]string{plain: three}, addresses}, "", "http://10.0.0.3:2380",
			"0=http://a.example.com:2380,1=http://b.example.com:2380,me=http://c.example.com:2380"},
		"no name resolves": {zone{map[string][]string{plain: three}, nil}, "", "http://b.example.com:2380",
			"0=http://a.example.com:2380,me=http://b.example.com:2380,2=http://c.example.com:2380"},
		"another's name does not resolve": {zone{map[string][]string{plain: append(three, "dead.example.com:2380")}, addresses}, "", "http://10.0.0.1:2380",
			"me=http://a.example.com:2380,1=http://b.example.com:2380,2=http://c.example.com:2380,3=http://dead.example.com:2380"},
		"both services": {zone{map[string][]string{plain: three[:2], secure: three}, addresses}, "", "http://a.example.com:2380",
			"me=http://a.example.com:2380,1=https://b.example.com:2380,2=http://c.example.com:2380"},
		"own record of the other scheme": {zone{map[string][]string{secure: three}, addresses}, "", "http://a.example.com:2380",
			"!bootstrap at https://a.example.com:2380 from DNS for etcd-server-ssl has scheme mismatch with expected peer http://a.example.com:2380"},
		"no own record": {zone{map[string][]string{plain: three}, addresses}, "", "http://x.example.com:2380",
			`!cannot find local etcd member "me" in SRV records`},
		"another port": {zone{map[string][]string{plain: three}, addresses}, "", "http://10.0.0.1:1",
			`!cannot find local etcd member "me" in SRV records`},
		"no records": {zone{}, "", "http://a.example.com:2380",
			"!error querying DNS SRV records for _etcd-server-ssl"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			advertised, err := url.Parse(c.advertised)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			srv := SRV{Domain: "example.com", Name: c.name, Resolver: c.zone.resolver(t), Log: slog.New(slog.DiscardHandler)}
			got, err := srv.InitialCluster(ctx, "me", []url.URL{*advertised})
			if err != nil {
				got = fmt.Sprint("!", err)
			}
			if got != c.want && (c.want[0] != '!' || !strings.Contains(got, c.want[1:])) {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}
