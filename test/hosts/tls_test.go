package hosts

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// Where the hosts keep their certificates.
const tlsDir = "/etc/etcdtls/"

// withTLS is the document's unit with its lines for TLS, the files as they were meant: the document swaps three of them, which is refused
// (TestB15SwappedFilesAreNamed).
func withTLS(unit string) string {
	unit = strings.ReplaceAll(unit, "http://${", "https://${")
	unit = strings.Replace(unit, ",http://127.0.0.1:${CLIENT_PORT}", "", 1)
	return strings.Replace(unit, "    --initial-cluster-state new \\\n", strings.Join([]string{
		"    --peer-auto-tls \\",
		"    --client-cert-auth --trusted-ca-file=" + tlsDir + "ca.pem \\",
		"    --cert-file=" + tlsDir + "server.pem \\",
		"    --key-file=" + tlsDir + "server-key.pem \\",
		"    --initial-cluster-state new \\", "",
	}, "\n"), 1)
}

// TestB11BootsWithTLS: three hosts whose unit is enabled, with TLS as the document has it, come up by themselves at boot, before their
// network is there, and serve those who have a certificate and nobody else.
func TestB11BootsWithTLS(t *testing.T) {
	network, ca := New(t), tlstest.NewCA(t, "ca")
	client := ca.Issue(t, tlstest.Leaf{Name: "client", ClientOnly: true})
	const units = "/etc/systemd/system/"
	var hosts []*Host
	for i, ip := range ips {
		env := strings.Replace(document(t, "etcd.conf"), "\nNODE_IP="+ips[0]+"\n", "\nNODE_IP="+ip+"\n", 1)
		server := ca.Issue(t, tlstest.Leaf{Name: "etcd-" + ip, Hosts: []string{ip}})
		files := []File{
			{Path: "/usr/local/sbin/etcd3", From: run.Holdfast(t), Mode: 0o755},
			{Path: "/usr/local/sbin/etcdctl", From: etcd.Binary(t, "etcdctl"), Mode: 0o755},
			{Path: "/etc/etcd.conf", Text: env, Mode: 0o644},
			{Path: "/var/lib/storageos-etcd/.keep", Mode: 0o600},
			{Path: units + unit, Text: withTLS(document(t, unit)), Mode: 0o644},
			{Path: units + "multi-user.target.wants/" + unit, To: units + unit}, // enabled
		}
		for _, other := range []string{"postgresql.service", "e2scrub_reap.service"} { // what may be installed here is not meant
			files = append(files, File{Path: units + other, To: "/dev/null"})
		}
		for name, pem := range map[string][]byte{
			"ca.pem": ca.CertPEM(), "server.pem": server.CertPEM(), "server-key.pem": server.KeyPEM(t),
			"client.pem": client.CertPEM(), "client-key.pem": client.KeyPEM(t),
		} {
			files = append(files, File{Path: tlsDir + name, Text: string(pem), Mode: 0o600})
		}
		hosts = append(hosts, network.BootServices(fmt.Sprint("node", i+1), ip, files...))
	}
	for _, h := range hosts {
		h.active()
	}
	ctl := func(h *Host, args ...string) (string, error) {
		return h.Try(append([]string{"/usr/local/sbin/etcdctl", "--endpoints=https://" + h.IP + ":2379", "--cacert=" + tlsDir + "ca.pem"}, args...)...)
	}
	identity := []string{"--cert=" + tlsDir + "client.pem", "--key=" + tlsDir + "client-key.pem"}
	list, err := ctl(hosts[1], append(identity, "member", "list")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range ips {
		if want := fmt.Sprintf("started, etcd-%s, https://%[1]s:2380, https://%[1]s:2379, false", ip); !strings.Contains(list, want) {
			t.Errorf("no member %q in\n%s", want, list)
		}
	}
	if _, err := ctl(hosts[0], append(identity, "put", "k", "v")...); err != nil {
		t.Error(err)
	}
	for _, h := range hosts {
		if got, err := ctl(h, append(identity, "get", "k", "--print-value-only")...); err != nil || got != "v" {
			t.Errorf("%s reads %q, %v", h.Name, got, err)
		}
	}
	if out, err := ctl(hosts[0], "--command-timeout=2s", "get", "k"); err == nil {
		t.Errorf("without a certificate it reads %q", out)
	}
}
