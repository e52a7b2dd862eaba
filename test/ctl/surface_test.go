package ctl

import (
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/test/cli"
	"holdfast/test/run"
)

// TestEnvironment sets each flag by its variable, with values that it takes and that it does not, and empty.
func TestEnvironment(t *testing.T) {
	short := "ETCDCTL_COMMAND_TIMEOUT=300ms"
	calls := []cli.Call{
		do("put a 1"), with("get a", "ETCDCTL_KEEPALIVE_TIME=1s", "ETCDCTL_KEEPALIVE_TIMEOUT=3s"), with("put a 22", "ETCDCTL_MAX_REQUEST_BYTES=3"),
		with("get a", "ETCDCTL_MAX_RECV_BYTES=3"), with("get a", "ETCDCTL_INSECURE_TRANSPORT=false", short), with("get a", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY=true"),
		with("get a", "ETCDCTL_AUTH_JWT_TOKEN=x"), with("get a", "ETCDCTL_PASSWORD=y"), with("get a", "ETCDCTL_USER=x", "ETCDCTL_PASSWORD=y"),
		with("get a", "ETCDCTL_CERT=none"), with("get a", "ETCDCTL_CERT=none", "ETCDCTL_KEY=none"), with("get a", "ETCDCTL_CACERT=none"), with("get a", "ETCDCTL_CERT="),
		with("get a", "ETCDCTL_HEX="), with("get a --hex", "ETCDCTL_HEX="), with("get a --hex", "ETCDCTL_HEX=true"), with("get a", "ETCDCTL_WRITE_OUT="),
		with("get a -w json", "ETCDCTL_WRITE_OUT="), with("get a", "ETCDCTL_WRITE_OUT=JSON"), with("get a", "ETCDCTL_WATCH_KEY=x", "ETCDCTL_WATCH_RANGE_END=y"),
		with("get a", "ETCDCTL_ENDPOINTS=SERVER,SERVER"), with("get a", "ETCDCTL_ENDPOINTS= SERVER "), with("get a --endpoints=SERVER", "ETCDCTL_ENDPOINTS="),
		with("get a", "ETCDCTL_DIAL_TIMEOUT=5s"), with("get a", "ETCDCTL_INSECURE_DISCOVERY=false"), with("get a", "ETCDCTL_DISCOVERY_SRV_NAME=x"),
		with("get a", "ETCDCTL_DEBUG=false"), with("version", "ETCDCTL_WRITE_OUT=json"), with("get a", "ETCDCTL_PREFIX=true"), with("get a", "etcdctl_hex=true"),
		with("get a", "ETCD_HEX=true"),
	}
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) { readDifferences(t).compare(t, sides, calls) })
}

// TestCorners makes calls with the flags and forms that no other test here has.
func TestCorners(t *testing.T) {
	calls := []cli.Call{
		do("put a 1"), do("lease list x"), do("get a --keepalive-time=1s --keepalive-timeout=1s"), do("get a --keepalive-time=x"), do("get a --keepalive-timeout=-1s"),
		do("get a --keepalive-time=0s"), do("get a --dial-timeout=x"), do("get a --dial-timeout=0s"), do("get a --debug=x"), do("get a --hex=x"),
		do("get a --insecure-transport=x"), do("get a --max-recv-bytes=x"), do("get a --max-request-bytes=-1"), do("get a --max-recv-bytes=-1"),
		in("txn --interactive", "\nget a\n\n\n"), in("txn --interactive=false", "\nget a\n\n\n"), in("txn", "\r\nget a\r\n\r\n\r\n"), in("txn", "\nget a\n\n"),
		in("txn", "mod(\"a\") = \"2\"\nval(\"a\") > \"0\"\nver(\"a\") < \"9\"\ncreate(\"a\") != \"7\"\n\nput a 2\n\n\n"),
		in("watch --interactive", "watch a --nonsense\n"), in("watch --interactive", "progress\n"), in("watch -i a", "nonsense\n"),
		do("elect name value --listen"), do("elect --listen"), do("lock --ttl=5 name true"), do("lock --ttl name"), do("lock name sh -c true"),
		{Args: []string{"put", "--", "-dash", "--value"}}, {Args: []string{"get", "--", "-dash"}}, {Args: []string{"del", "--", "-dash"}}, do("put -dash 1"), do("put x -1"),
		{Args: []string{"put", "utf8", "gr\u00fc\u00df \u4e16\u754c \t"}}, do("get utf8"), do("get utf8 -w json"), do("get utf8 -w fields"), do("get utf8 --hex"),
		in("put stdin", "several\nlines\n"), do("get stdin --print-value-only"), in("put stdin -", "x"), in("put stdin --ignore-value", "x"),
		do("put l 1 --lease=0"), do("put l 1 --lease=-1"), do("put l 1 --lease=0x10"), do("put l 1 --prev-kv --ignore-lease"), do("put none --ignore-value --ignore-lease"),
		do("get a --limit=1 --prefix -w fields"), do("get a --count-only --prefix --limit=1"), do("get a --count-only --print-value-only"),
		do("get a --keys-only --print-value-only"), do("get a --print-value-only -w fields"), do("get a --stream --count-only"), do("get a z --stream --limit=1"),
		do("get a z --stream --keys-only -w json"), do("get a z --stream --order=DESCEND"), do("get z a"), do("get a a"), do("get a --prefix --rev=2"), do("get none --prefix -w table"),
		do("get a --sort-by=KEY --order=ASCEND --prefix"), do("get a --from-key --limit=2"), do("get a --consistency=S"), do("get a --consistency="), do("get a --order="),
		do("del a --prev-kv --prefix -w json"), do("del a --from-key --prev-kv"), do("del x y --range --prev-kv"), do("put a 1"), do("put b 2"), do("put c 3"),
		do("compaction 3 --physical=false"), do("compaction 4 --physical -w fields"), do("compact 5"), do("watch a --rev=2 --prev-kv"), do("watch a --rev=2 -w json"),
		do("lease revoke 0"), do("lease timetolive 0"), do("lease keep-alive 0 --once"), do("lease revoke -1"), do("lease grant 1.5"),
		do("lease timetolive 1 2"), do("lease keep-alive 1 2"), do("lease revoke 1 2"), do("lease grant 1 2"), grant("lease grant 100"), do("lease timetolive LEASE1 -w json"),
		do("lease keep-alive LEASE1 --once -w fields"), do("lease revoke LEASE1"), do("lease timetolive LEASE1"), do("lease timetolive LEASE1 -w fields"),
		do("user add a:b --new-user-password=c"), do("user add n --no-password --new-user-password=c"), do("user add m:x --no-password"), do("user add x:y:z"), do("user list"),
		do("role add r"), do("role grant-permission r READ k"), do("role grant-permission r readwrite k --prefix=false"), do("role grant-permission r read k l"),
		do("role grant-permission r read p --prefix"), do("role grant-permission r write z --from-key"), do("role grant-permission r read l k"), do("role get r"),
		do("role revoke-permission r p --prefix"), do("role revoke-permission r z --from-key"), do("role revoke-permission r k l"), do("role revoke-permission r p --prefix --from-key"),
		do("role revoke-permission r k l --prefix"), do("role revoke-permission r k"), do("role get r"), do("user grant-role a:b r"), do("user grant-role a r"), do("user get a --detail"),
		do("member list --consistency=l"), do("member list x"), do("endpoint status x"), do("endpoint health x"), do("endpoint hashkv x"), do("endpoint health --cluster=x"),
		do("endpoint status --endpoints=SERVER,SERVER"), do("endpoint hashkv --endpoints=SERVER,SERVER -w json"), do("endpoint status -w json --endpoints=http://SERVER/"),
		do("endpoint hashkv --rev=-1"), do("defrag --endpoints=SERVER,SERVER"), do("defrag --data-dir=x"), do("snapshot status x"), do("snapshot restore x"),
		do("downgrade validate 3.6.0"), do("downgrade validate v3.6"), do("downgrade validate 3"), do("downgrade enable 3.5"), do("downgrade cancel x"),
		do("help nonsense"), do("get nonsense --help=x"), do("version --hex"), do("options x"), do("completion fish x"), do("--write-out=json version"), do("-w"), do("-x"),
		do("--endpoints"), do("get a --endpoints=SERVER --endpoints=127.0.0.1:1"), {Args: []string{"get", "a", "--endpoints=://"}}, do("get a --endpoints=ftp://SERVER --command-timeout=300ms"),
		do("check perf x --load=none"), do("check datascale --load"), do("check perf --auto-compact=x"), do("auth status -w nonsense"), do("move-leader"), do("alarm nonsense"),
	}
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) { readDifferences(t).compare(t, sides, calls) })
}

// TestUnixSocket talks to a server by way of a socket of the file system.
func TestUnixSocket(t *testing.T) {
	calls := once("put a 1 --endpoints=unix://DIR/s", "get a --endpoints=unix:DIR/s", "get a --endpoints=unixs://DIR/s --command-timeout=500ms",
		"get a --endpoints=unix://DIR/none --command-timeout=500ms", "endpoint health --endpoints=unix://DIR/s", "endpoint status --endpoints=unix://DIR/s",
		"get a --endpoints=unix://DIR/none,unix://DIR/s", "get a --endpoints=SERVER,unix://DIR/s", "defrag --endpoints=unix://DIR/s")
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		for _, side := range sides {
			side.Dir = t.TempDir()
			relay(t, filepath.Join(side.Dir, "s"), side.Server.Client)
		}
		readDifferences(t).compare(t, sides, calls)
	})
}

// relay takes connections at a socket of the file system and passes them to an address, until the test ends.
func relay(t *testing.T, socket, address string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", address)
			if err != nil {
				from.Close()
				continue
			}
			pass := func(dst, src net.Conn) { // ends with either connection, and ends the other
				_, _ = io.Copy(dst, src)
				dst.Close()
			}
			go pass(to, from)
			go pass(from, to)
		}
	}()
}

// TestProgressNotify watches with a server that says often up to where nothing is missing.
func TestProgressNotify(t *testing.T) {
	calls := []cli.Call{do("put a 1"), some(1, "watch none --progress-notify"), some(4, "watch a --rev=1 --progress-notify"), some(1, "watch none --progress-notify -w json")}
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) { readDifferences(t).compare(t, sides, calls) }, flags("--watch-progress-notify-interval=200ms"))
}

// TestDebug compares the values of the flags that --debug shows, which begin what else it shows.
func TestDebug(t *testing.T) {
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		shown := func(tool *cli.Tool, c cli.Call) []string {
			return regexp.MustCompile(`(?m)^ETCDCTL_.*$`).FindAllString(strings.ReplaceAll(tool.Output(t, c), tool.Server.Client, "SERVER"), -1)
		}
		for _, c := range []cli.Call{do("get a --debug"), with("get a --hex -w json --command-timeout=7s", "ETCDCTL_DEBUG=true"), do("member list --debug --insecure-discovery=false")} {
			want, got := shown(sides[0], c), shown(sides[1], c)
			got = slices.DeleteFunc(got, func(line string) bool { return line == "ETCDCTL_COMPAT=" })
			if !slices.Equal(want, got) || len(want) < 20 {
				t.Errorf("%s\n--- etcd's etcdctl\n%q\n--- ours\n%q", c, want, got)
			}
		}
		secret := do("get a --debug --user=me:hidden --auth-jwt-token=")
		if said := sides[1].Output(t, secret); strings.Contains(said, "hidden") {
			t.Errorf("it shows the password: %s", said)
		}
	}, func(*run.Config) {})
}
