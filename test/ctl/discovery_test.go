package ctl

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/names"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

func skipUnlessRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("name servers that programs find, and networks of their own, need root")
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// believing lets both tools ask a name server that knows where the server of each is: by the domain, by the name of a service, beside
// members that are gone, and with and without TLS.
func believing(t *testing.T, sides [2]*cli.Tool) {
	t.Helper()
	for _, side := range sides {
		here := fmt.Sprintf("1 10 %s m.srv.test", portOf(t, side.Server.Client))
		gone := fmt.Sprintf("1 10 %s m.srv.test", portOf(t, etcd.FreeAddress(t)))
		side.Within = names.Zone{
			SRV: map[string][]string{
				"_etcd-client._tcp.plain.test":          {here},
				"_etcd-client-green._tcp.plain.test":    {here},
				"_etcd-client._tcp.gone.test":           {gone, here},
				"_etcd-client._tcp.nobody.test":         {gone},
				"_etcd-client-ssl._tcp.srv.test":        {here},
				"_etcd-client-ssl-green._tcp.both.test": {here},
				"_etcd-client-green._tcp.both.test":     {gone},
				"_etcd-client-ssl._tcp.other.test":      {strings.Replace(here, "srv", "other", 1)},
			},
			Addresses: map[string]string{"m.srv.test": "127.0.0.1", "m.other.test": "127.0.0.1"},
		}.Believe(t)
		side.Drop = append(side.Drop, regexp.MustCompile(` on 127\.[0-9.]+:53`), regexp.MustCompile(`(?:test\.:|127\.0\.0\.1:)[0-9]+`))
	}
}

// TestDiscovery: SRV records name the endpoints.
func TestDiscovery(t *testing.T) {
	skipUnlessRoot(t)
	const nobody = " --endpoints=127.0.0.1:1 --command-timeout=1s"
	first := append(once("put a 1 -d plain.test"+nobody, "put b 1 -d plain.test"+nobody, "compaction 2 -d plain.test"+nobody, "lease list -d plain.test"+nobody),
		some(3, "watch a --rev=2 -d plain.test"+nobody))
	calls := once("get a --discovery-srv plain.test"+nobody, "get a -d plain.test --discovery-srv-name green"+nobody,
		"get a -d plain.test --discovery-srv-name=red"+nobody, "get a -d nowhere.test"+nobody, "get a --discovery-srv-name=green",
		"get a -d plain.test --insecure-discovery=false"+nobody, "get a -d plain.test --insecure-discovery=false", "get a -d gone.test"+nobody,
		"get a -d nobody.test"+nobody, "get a -d srv.test"+nobody, "get a --discovery-srv= ", "member list -d plain.test"+nobody,
		"user list -d plain.test"+nobody, "role list -d plain.test"+nobody,
		"auth status -d plain.test"+nobody, "alarm list -d plain.test"+nobody, "lock x true -d plain.test"+nobody, "move-leader 1234 -d plain.test"+nobody,
		"downgrade validate 3.6 -d plain.test"+nobody, "snapshot save DIR/s.db -d plain.test"+nobody, "snapshot save DIR/s.db -d gone.test"+nobody,
		"endpoint health -d plain.test"+nobody, "endpoint status -d plain.test"+nobody, "endpoint hashkv -d plain.test"+nobody, "defrag -d plain.test"+nobody,
		"endpoint health -d nowhere.test"+nobody, "defrag -d nowhere.test"+nobody)
	calls = append(calls, in("txn -d plain.test"+nobody, "\nget a\n\n\n"),
		with("get a -d plain.test --command-timeout=1s", "ETCDCTL_ENDPOINTS=127.0.0.1:1"),
		with("get a --command-timeout=1s", "ETCDCTL_DISCOVERY_SRV=plain.test", "ETCDCTL_ENDPOINTS=127.0.0.1:1"),
		with("get a --command-timeout=1s", "ETCDCTL_DISCOVERY_SRV=plain.test", "ETCDCTL_DISCOVERY_SRV_NAME=green", "ETCDCTL_ENDPOINTS=127.0.0.1:1"),
		with("get a --command-timeout=1s", "ETCDCTL_DISCOVERY_SRV=plain.test", "ETCDCTL_INSECURE_DISCOVERY=false", "ETCDCTL_ENDPOINTS=127.0.0.1:1"),
		with("get a -d plain.test"+nobody, "ETCDCTL_DISCOVERY_SRV=plain.test"))
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		believing(t, sides)
		readDifferences(t).compare(t, sides, first)
		readDifferences(t).compareAtOnce(t, sides, calls)
	})
}

// TestDiscoverySecure: records of members with TLS. The certificate is held against the member's name, and against the domain where
// records of members without TLS are not taken.
func TestDiscoverySecure(t *testing.T) {
	skipUnlessRoot(t)
	dir := t.TempDir()
	ca := tlstest.NewCA(t, "ours")
	caFile := filepath.Join(dir, "ca.pem")
	tlstest.Write(t, caFile, ca.CertPEM())
	for name, hosts := range map[string][]string{"host": {"127.0.0.1", "m.srv.test"}, "domain": {"127.0.0.1", "srv.test"}, "both": {"127.0.0.1", "m.srv.test", "srv.test"}} {
		t.Run(name, func(t *testing.T) {
			if name != "both" {
				skipUnlessLong(t)
			}
			if *long { // or it is already
				t.Parallel()
			}
			cert, key := ca.Issue(t, tlstest.Leaf{Name: "server", Hosts: hosts}).Files(t, dir, name)
			secure := func(cfg *run.Config) {
				cfg.Args = append(cfg.Args, "--cert-file="+cert, "--key-file="+key)
				cfg.TLS = &tls.Config{RootCAs: tlstest.Pool(ca)}
			}
			const nobody = " --endpoints=127.0.0.1:1 --command-timeout=1s"
			trust := nobody + " --cacert=" + caFile
			calls := once("put a 1 -d srv.test"+trust, "get a -d srv.test --insecure-discovery=false"+trust, "get a -d srv.test"+nobody,
				"get a -d both.test --discovery-srv-name=green --insecure-discovery=false"+trust, "get a -d other.test"+trust,
				"get a -d other.test --insecure-discovery=false"+trust, "get a -d srv.test --insecure-skip-tls-verify"+nobody,
				"get a -d plain.test"+trust, "get a -d plain.test --insecure-transport=false"+trust, "get a -d plain.test --insecure-discovery=false"+trust)
			for i := range calls { // a server with TLS closes a connection without, which both ends may see first
				calls[i].Hushed = slices.Contains(calls[i].Args, "plain.test")
			}
			onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
				believing(t, sides)
				readDifferences(t).compare(t, sides, calls[:1]) // the others read what it puts
				readDifferences(t).compareAtOnce(t, sides, calls[1:])
			}, secure)
		})
	}
}
