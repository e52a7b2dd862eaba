package security

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/etcd"
	"holdfast/test/names"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// srvDomain is the domain whose records are asked for.
const srvDomain = "holdfast.test"

// record is an SRV record for a host that listens on an address.
func record(t *testing.T, priority int, host, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d 10 %s %s", priority, port, host) // without a weight etcd takes no notice of the priority
}

// dialTo connects; a nil config is plaintext.
func dialTo(t *testing.T, address string, cfg *tls.Config) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(cfg)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// holds tells whether a member has a key, by a read of its own.
func holds(t *testing.T, s *run.Server, key string) bool {
	t.Helper()
	conn, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	r, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Count == 1
}

func skipUnlessRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a name server that programs find needs root")
	}
}

// programs are etcd, which shows that the tests ask for what is so, and ours.
func programs(t *testing.T) map[string]string {
	return map[string]string{"etcd": etcd.Binary(t, "etcd"), "holdfast": run.Holdfast(t)}
}

// TestSRVPlain: gateway and proxy find members that DNS names, by the domain and by the name of a service. The gateway passes
// connections to the member of the lower priority, and to the other when that is gone; the proxy asks those that it reaches.
func TestSRVPlain(t *testing.T) {
	skipUnlessRoot(t)
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			var members []*run.Server
			for range 2 {
				s, err := run.Start(t.Context(), run.Config{Binary: program, Dir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.Kill)
				members = append(members, s)
			}
			zone := names.Zone{
				SRV: map[string][]string{
					"_etcd-client._tcp." + srvDomain: {
						record(t, 2, "second."+srvDomain, members[1].Client), record(t, 1, "first."+srvDomain, members[0].Client),
					},
					"_etcd-client-green._tcp." + srvDomain: {
						record(t, 0, "nobody."+srvDomain, etcd.FreeAddress(t)), record(t, 0, "second."+srvDomain, members[1].Client),
					},
				},
				Addresses: map[string]string{"first." + srvDomain: "127.0.0.1", "second." + srvDomain: "127.0.0.1", "nobody." + srvDomain: "127.0.0.1"},
			}
			flags := []string{"--discovery-srv", srvDomain, "--insecure-discovery"}
			prefix := zone.Believe(t)
			gateway := run.Beside{Prefix: prefix, Program: program, Kind: "gateway", Flags: flags}.Start(t)
			proxy := run.Beside{Prefix: prefix, Program: program, Kind: "grpc-proxy", Flags: append(flags, "--discovery-srv-name", "green")}.Start(t)
			for i, key := range []string{"one", "two"} { // a connection each
				if err := put(t.Context(), dialTo(t, gateway, nil), key); err != nil || !holds(t, members[0], key) {
					t.Errorf("put %d through the gateway: %v", i, err)
				}
			}
			if err := put(t.Context(), dialTo(t, proxy, nil), "proxied"); err != nil || !holds(t, members[1], "proxied") {
				t.Errorf("through the proxy: %v", err)
			}
			members[0].Kill()
			if err := put(t.Context(), dialTo(t, gateway, nil), "moved"); err != nil || !holds(t, members[1], "moved") {
				t.Errorf("through the gateway to the second: %v", err)
			}
		})
	}
}

// TestSRVChecked: without --insecure-discovery nothing is taken from DNS that is not TLS, cannot be reached, or shows a certificate
// of somebody else. (etcd takes the last.)
func TestSRVChecked(t *testing.T) {
	skipUnlessRoot(t)
	good := "good." + srvDomain
	p, impostor := newParty(t), newParty(t)
	for host, q := range map[string]*party{good: p, "bad." + srvDomain: impostor} {
		q.ca.Issue(t, tlstest.Leaf{Name: "member", Hosts: []string{"127.0.0.1", host}}).Files(t, q.dir, "server")
		q.start()
	}
	p.ca.Issue(t, tlstest.Leaf{ClientOnly: true}).Files(t, p.dir, "proxy") // a proxy may not have a name
	plain, err := run.Start(t.Context(), run.Config{Binary: run.Holdfast(t), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plain.Kill)
	zone := names.Zone{
		SRV: map[string][]string{
			"_etcd-client-ssl._tcp." + srvDomain: {
				record(t, 0, "nobody."+srvDomain, etcd.FreeAddress(t)), record(t, 0, "bad."+srvDomain, impostor.Client), record(t, 1, good, p.Client),
			},
			"_etcd-client._tcp." + srvDomain: {record(t, 0, "plain."+srvDomain, plain.Client)},
		},
		Addresses: map[string]string{good: "127.0.0.1", "bad." + srvDomain: "127.0.0.1", "nobody." + srvDomain: "127.0.0.1", "plain." + srvDomain: "127.0.0.1"},
	}
	prefix := zone.Believe(t)
	cfg := p.me.Load().Clone()
	cfg.ServerName = good
	gateway := run.Beside{Prefix: prefix, Program: run.Holdfast(t), Kind: "gateway", Flags: []string{
		"--discovery-srv", srvDomain, "--trusted-ca-file", p.path("ca.pem")}}
	proxy := run.Beside{Prefix: prefix, Program: run.Holdfast(t), Kind: "grpc-proxy", Flags: []string{
		"--discovery-srv", srvDomain, "--cacert", p.path("ca.pem"), "--cert", p.path("proxy.pem"), "--key", p.path("proxy-key.pem")}}
	at := proxy.Start(t)
	for what, c := range map[string]struct {
		address string
		cfg     *tls.Config
	}{"gateway": {gateway.Start(t), cfg}, "proxy": {address: at}} {
		for i := range 5 {
			if err := put(t.Context(), dialTo(t, c.address, c.cfg), fmt.Sprint(what, i)); err != nil {
				t.Errorf("put %d through the %s: %v", i, what, err)
			}
		}
		if key := what + "4"; !holds(t, p.Server, key) {
			t.Errorf("%s is not where it belongs", key)
		}
	}
	for range 20 { // each asks one of those that were found
		if got := fetch(t.Context(), http.DefaultClient, "http://"+at+"/metrics"); !strings.Contains(got, "etcd_server_version") {
			t.Fatalf("metrics of a member through the proxy: %.200s", got)
		}
	}
}
