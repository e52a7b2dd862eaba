package ctl

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// do is a call from a line of words.
func do(line string) cli.Call { return cli.Call{Args: strings.Fields(line)} }

// grant is a call that grants a lease.
func grant(line string) cli.Call { return cli.Call{Args: strings.Fields(line), Lease: true} }

// in is a call that reads from standard input.
func in(line, stdin string) cli.Call { return cli.Call{Args: strings.Fields(line), Stdin: stdin} }

// with is a call with variables of the environment.
func with(line string, env ...string) cli.Call {
	return cli.Call{Args: strings.Fields(line), Env: env}
}

// some is a call that is ended once it has written as many lines.
func some(lines int, line string) cli.Call { return cli.Call{Args: strings.Fields(line), Until: lines} }

// inFormats makes calls in each format, one that is none, and with bytes and ids in hexadecimal.
func inFormats(calls ...cli.Call) (out []cli.Call) {
	for _, c := range calls {
		for _, format := range append(slices.Clone(formats), "xml") {
			for _, hex := range []bool{false, true} {
				d := c
				d.Args = append([]string{"-w", format}, c.Args...)
				if hex {
					d.Args = append([]string{"--hex"}, d.Args...)
				}
				out = append(out, d)
			}
		}
	}
	return out
}

// TestFormats makes each data command once in every format.
func TestFormats(t *testing.T) {
	calls := inFormats(do("put a 1"), do("put a 2 --prev-kv"), do("get a"), do("get --prefix a --keys-only"), do("get a --count-only"),
		do("get a --print-value-only"), do("get none"), do("get a --stream"), in("txn", "\nput b 1\nget a\ndel b\n\n\n"),
		in("txn", "ver(\"none\") > \"1\"\n\n\nget a z\nput a 3 --prev-kv\n\n"), do("del b"), do("del a --prev-kv"),
		do("lease timetolive 1234 --keys"), do("lease keep-alive 1234 --once"), do("lease list"), do("lease revoke 1234"), do("compaction 4"))
	for i, format := range []string{"simple", "fields", "json"} {
		calls = append(calls, cli.Call{Args: []string{"lease", "grant", "1000", "-w", format}, Lease: true},
			do(fmt.Sprintf("put leased%d x --lease=LEASE%d", i, i+1)))
	}
	for _, c := range inFormats(do("get leased --prefix"), do("lease timetolive LEASE1 --keys"), do("lease keep-alive LEASE2 --once")) {
		if !slices.Contains(c.Args, "protobuf") { // which holds ids of leases that are drawn
			calls = append(calls, c)
		}
	}
	for i, lines := range map[string]int{"simple": 3, "fields": 9, "json": 1} {
		calls = append(calls, some(lines, "watch leased --prefix --rev=20 -w "+i), some(lines, "watch --hex leased --prefix --rev=20 -w "+i))
	}
	calls = append(calls, inFormats(do("lease revoke LEASE1"))...)
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) { readDifferences(t).compare(t, sides, calls) })
}

// TestMistakes makes calls that are wrong in themselves: what is said, and the exit code.
func TestMistakes(t *testing.T) {
	calls := []cli.Call{
		do("nonsense"), do("--nonsense"), do("pu"), do("g a"), do("c"), do("co"), do("l"), do("comp x"), do("le gr"), do("le gr x"), do("lease nonsense"),
		do("put"), do("put a"), do("put a b c"), do("put a --ignore-value b"), do("put a b --lease=xyz"), do("put a b --lease"), in("put a", "x\n"),
		do("get"), do("get a b c"), do("get a b --prefix"), do("get a b --from-key"), do("get a --prefix --from-key"),
		do("get a --keys-only --count-only"), do("get a --order=X"), do("get a --order=ascend"), do("get a --sort-by=X"), do("get a --sort-by=value"),
		do("get a --consistency=x"), do("get a --limit=x"), do("get a --limit=-1"), do("get a --rev=-1"), do("get a --min-create-rev=3 --max-create-rev=2"),
		do("get a --min-mod-rev=3 --max-mod-rev=2"), do("get a --min-create-rev=-1"),
		do("del"), do("del a b c"), do("del a b --prefix"), do("del a --prefix --from-key"), do("del a b"), do("del b a --range"),
		{Args: []string{"del", "", "--prefix"}}, {Args: []string{"del", ""}}, {Args: []string{"get", ""}},
		do("txn x"), in("txn", ""), in("txn", "\n"), in("txn", "\n\n"), in("txn", "x\n\n\n\n"), in("txn", "mod(a) > 0\n\n\n\n"),
		in("txn", "mod(\"a\") > \"x\"\n\n\n\n"), in("txn", "other(\"a\") > \"1\"\n\n\n\n"), in("txn", "mod(\"a\") \"1\"\n\n\n\n"),
		in("txn", "mod(\"a\") ? \"1\"\n\n\n\n"),
		in("txn", "\nput\n\n\n"), in("txn", "\nput a\n\n\n"), in("txn", "\nnonsense a b\n\n\n"), in("txn", "\nput a b --nonsense\n\n\n"),
		in("txn", "\nput a \"\\q\"\n\n\n"), in("txn", "\nput 'a b' \"c\\td\"\nget 'a b'\n\n\n"), in("txn", "\np x 1\ng x\nd x --prev-kv\n\n\n"),
		in("txn", "\nget a b --prefix\n\n\n"), in("txn", "\nget a --order=X\n\n\n"), in("txn", "\nget a --limit=x\n\n\n"), in("txn", "\nput a b --lease=zz\n\n\n"),
		in("txn", "\ndel a b --range\n\n\n"), in("txn", "val(\"a\") = \"x\"\n\nput a y\n\nput a x\n\n"), in("txn", "c(\"a\") != \"0\"\nm(\"a\") < \"100\"\n\nget a\n\n\n"),
		in("txn -i", "\n\n\n"), in("txn -w json", "\nput z 1\n\n\n"),
		do("compaction"), do("compaction x"), do("compaction 1 2"), do("compaction 0"), do("compaction -1"), do("compaction -- -1"),
		do("lease grant"), do("lease grant x"), grant("lease grant 0"), grant("lease grant -- -1"), do("lease revoke"), do("lease revoke xyz"), do("lease timetolive"),
		do("lease timetolive xyz"), do("lease keep-alive"), do("lease keep-alive xyz"), do("lease keep-alive 77"), do("lease keep-alive --once 77"),
		do("watch"), do("watch --prefix"), do("watch a b --"), do("watch a b --prefix"), with("watch", "ETCDCTL_WATCH_RANGE_END=b"),
		with("watch a", "ETCDCTL_WATCH_KEY=a"), with("watch a -- echo", "ETCDCTL_WATCH_KEY=a"), do("watch a --rev=x"),
		in("watch -i", ""), in("watch -i", "\nnonsense\nwatch\nwatch a b --prefix\n"), in("watch -i", "watch a --\n"), in("watch -i", "watch a --nonsense\n"),
		in("watch -i", "watch --rev=1\n"), in("watch -i", "\"\\q\"\n"),
		do("lock"), do("lock name --ttl=x"), do("lock name true"), do("lock name false"), do("lock name nonexistent-program"),
		do("lock name -- sh -c true"), do("lock name -- sh -c exit\\ 7"), {Args: []string{"lock", "name", "--", "sh", "-c", "kill -9 $$"}},
		do("elect"), do("elect name"), do("elect name value -l"), do("completion"), do("completion tcsh"), do("completion bash zsh"), do("version x"),
		do("get a --endpoints="), {Args: []string{"get", "a", "--endpoints= 127.0.0.1:1 ", "--command-timeout=100ms"}}, do("get a --cert="), do("get a --key="),
		do("get a --cacert="), do("get a --cert=nonexistent"), do("get a --cert=nonexistent --key=nonexistent"), do("get a --cacert=nonexistent"),
		do("get a --command-timeout=x"), do("get a --command-timeout=0s"), do("get a --user="), do("get a --user=x:"), do("get a --user=:"),
		do("get a --user=x --password=y"), do("get a --auth-jwt-token=x"), do("get a --auth-jwt-token=x --user=y:z"), in("get a --user=x", "pw\n"), in("get a --user=x", ""),
		do("put big x --max-request-bytes=3"), do("get a --max-recv-bytes=3"), do("get a --write-out=xml"), do("version -w xml"), do("get a -w"),
		with("get a", "ETCDCTL_WRITE_OUT=json"), with("get a", "ETCDCTL_HEX=true"), with("get a", "ETCDCTL_API=3"), with("get a", "ETCDCTL_API=2"),
		with("get a -w json", "ETCDCTL_WRITE_OUT=json"), with("get a", "ETCDCTL_NONSENSE=1"), with("get a", "ETCDCTL_DIAL_TIMEOUT=x"),
		with("get a", "ETCDCTL_USER=x:y"), with("get a", "ETCDCTL_ENDPOINTS=127.0.0.1:1", "ETCDCTL_COMMAND_TIMEOUT=100ms"), with("version", "ETCDCTL_NONSENSE=1"),
	}
	// These two are carried out by one of the two tools: revisions are not equal any more.
	calls = append(calls, in("txn", "lease(\"a\") = \"0\"\n\nput a x\n\n\n"), do("lock name --ttl=-1 true"))
	for _, line := range []string{"get a", "put a 1", "del a", "compaction 1", "lease grant 10", "lease revoke 7"} {
		calls = append(calls, do(line+" --endpoints=127.0.0.1:1 --command-timeout=100ms"))
	}
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) { readDifferences(t).compare(t, sides, calls) })
}

// TestRights makes data commands while authentication is on: as nobody, as a user who may do some of it, as root.
func TestRights(t *testing.T) {
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		for _, side := range sides {
			admin := cli.New(t, etcd.Binary(t, "etcdctl"), side.Server)
			for _, line := range []string{"put k 1", "put other 1", "user add root:pw", "user grant-role root root", "user add alice:pw", "role add some",
				"role grant-permission some readwrite k", "user grant-role alice some", "auth enable"} {
				admin.OK(t, strings.Fields(line)...)
			}
		}
		var calls []cli.Call
		for _, line := range []string{"get k", "get other", "put k 2", "put other 2", "del k", "del other", "compaction 3", "lease grant x", "lease list", "get k -w json"} {
			for _, user := range []string{"", "--user=alice:pw", "--user=alice:wrong", "--user=nobody:pw", "--user=root:pw", "--user=root:", "--auth-jwt-token=x"} {
				calls = append(calls, do(strings.TrimSpace(line+" "+user)))
			}
		}
		calls = append(calls, in("txn --user=alice:pw", "\nput k 1\nget k\n\n\n"), in("txn --user=alice:pw", "\nput other 1\n\n\n"),
			in("get k --user=alice", "pw\n"), in("get k --user=alice", "wrong\n"), do("get k --user=alice --password=pw"),
			with("get k", "ETCDCTL_USER=alice:pw"), with("get k", "ETCDCTL_USER=alice", "ETCDCTL_PASSWORD=pw"),
			do("watch other --user=alice:pw"), do("watch other"), do("lock other --user=alice:pw true"), do("lock k"))
		readDifferences(t).compare(t, sides, calls)
	})
}

// TestFull makes data commands while the alarm that space is short stands.
func TestFull(t *testing.T) {
	var calls []cli.Call
	for i := range 8 { // the first fills it, the next raises the alarm
		calls = append(calls, in(fmt.Sprintf("put fill%d", i), strings.Repeat("x", 30000)))
	}
	for _, line := range []string{"put a 1", "get fill0 --keys-only", "del fill0", "lease grant 10", "lease list", "compaction 2", "put a 1", "lock x true"} {
		calls = append(calls, do(line))
	}
	calls = append(calls, in("txn", "\nput a 1\n\n\n"), in("txn", "\nget a\n\n\n"))
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) { readDifferences(t).compare(t, sides, calls) }, flags("--quota-backend-bytes=16384"))
}

// TestSecure makes calls to a server that wants TLS and a certificate, with files that are right, swapped, foreign and missing.
func TestSecure(t *testing.T) {
	dir := t.TempDir()
	ca, foreign := tlstest.NewCA(t, "ours"), tlstest.NewCA(t, "foreign")
	server := ca.Issue(t, tlstest.Leaf{Name: "server", Hosts: []string{"127.0.0.1", "localhost"}})
	client := ca.Issue(t, tlstest.Leaf{Name: "client"})
	serverCert, serverKey := server.Files(t, dir, "server")
	clientCert, clientKey := client.Files(t, dir, "client")
	strangerCert, strangerKey := foreign.Issue(t, tlstest.Leaf{Name: "stranger"}).Files(t, dir, "stranger")
	caFile, foreignFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "foreign.pem")
	tlstest.Write(t, caFile, ca.CertPEM())
	tlstest.Write(t, foreignFile, foreign.CertPEM())
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	secure := func(cfg *run.Config) {
		cfg.Args = append(cfg.Args, "--cert-file="+serverCert, "--key-file="+serverKey, "--trusted-ca-file="+caFile, "--client-cert-auth")
		cfg.TLS = &tls.Config{RootCAs: tlstest.Pool(ca), Certificates: []tls.Certificate{pair}}
	}
	right := []string{"--cacert=" + caFile, "--cert=" + clientCert, "--key=" + clientKey}
	calls := []cli.Call{
		{Args: append([]string{"get", "a", "--endpoints=https://SERVER"}, right...)},
		{Args: append([]string{"get", "a", "--endpoints=SERVER"}, right...)},
		{Args: append([]string{"get", "a", "--endpoints=http://SERVER"}, right...)},
		{Args: append([]string{"put", "a", "1", "--endpoints=SERVER", "--insecure-transport=false"}, right...)},
		{Args: []string{"get", "a", "--endpoints=https://SERVER", "--cacert=" + foreignFile, "--cert=" + clientCert, "--key=" + clientKey}},
		{Args: []string{"get", "a", "--endpoints=https://SERVER", "--cacert=" + caFile, "--cert=" + strangerCert, "--key=" + strangerKey}},
		{Args: []string{"get", "a", "--endpoints=https://SERVER", "--cacert=" + caFile, "--cert=" + clientCert, "--key=" + strangerKey}},
		{Args: []string{"get", "a", "--endpoints=https://SERVER", "--cacert=" + clientKey, "--cert=" + clientCert, "--key=" + clientKey}},
		{Args: []string{"get", "a", "--endpoints=https://SERVER", "--cert=" + clientCert, "--key=" + clientKey}},
		{Args: []string{"get", "a", "--endpoints=https://SERVER", "--cert=" + clientCert, "--key=" + clientKey, "--insecure-skip-tls-verify"}},
		{Args: []string{"get", "a", "--endpoints=https://SERVER", "--cacert=" + caFile}},
		{Args: []string{"get", "a", "--endpoints=https://SERVER", "--cert=" + clientCert}},
		{Args: []string{"get", "a", "--endpoints=SERVER"}},
		{Args: []string{"get", "a"}, Env: []string{"ETCDCTL_ENDPOINTS=https://SERVER", "ETCDCTL_CACERT=" + caFile, "ETCDCTL_CERT=" + clientCert, "ETCDCTL_KEY=" + clientKey}},
	}
	for i := range calls {
		calls[i].Args = append(calls[i].Args, "--command-timeout=1s")
		calls[i].Hushed = slices.Contains([]int{2, 5, 10, 11, 12}, i) // the server closes the connection, which both ends may see first
	}
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) { readDifferences(t).compare(t, sides, calls) }, secure)
}
