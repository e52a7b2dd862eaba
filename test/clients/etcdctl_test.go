package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// call is one run of etcdctl.
type call struct {
	args  []string
	stdin string
	// lease says that the answer grants a lease, whose id later calls write as LEASE1, LEASE2, …
	lease bool
	// until ends a program that would go on, once it has written as many lines.
	until int
	// loose says that the answer holds measured numbers; only its shape is compared.
	loose bool
	// part is the part of the protocol the call belongs to, if it is one that a server may lack.
	part string
}

// commands is the script: every data command of etcdctl with its flags, in an order that gives each something to find.
func commands(dir string) []call {
	do := func(line string) call { return call{args: strings.Fields(line)} }
	in := func(line, stdin string) call { return call{args: strings.Fields(line), stdin: stdin} }
	grant := func(line string) call { return call{args: strings.Fields(line), lease: true} }
	some := func(lines int, line string) call { return call{args: strings.Fields(line), until: lines} }
	loose := func(line string) call { return call{args: strings.Fields(line), loose: true} }
	var calls []call
	add := func(more ...call) { calls = append(calls, more...) }
	of := func(part string, more ...call) {
		for _, c := range more {
			c.part = part
			add(c)
		}
	}

	// put
	add(do("put a 1"), do("put a 2 --prev-kv"), do("put b 1"), do("put c 0"), do("put c/1 x"), do("put c/2 y"),
		in("put stdin", "from standard input"), do("put a --ignore-value"), do("put none --ignore-value"),
		do("put a 3 --lease=1234"), do("put"), call{args: []string{"put", "", "x"}},
		call{args: []string{"put", "empty", ""}}, call{args: []string{"put", "text", "two words\nand a line"}},
		call{args: []string{"put", "bytes", "\x01\xff\xfe"}})
	for _, format := range []string{"json", "fields", "protobuf", "table"} {
		add(do("put f 1 -w "+format), do("put f 2 --prev-kv -w "+format))
	}
	// get
	gets := []string{"get a", "get none", "get --prefix c", "get a c", "get --from-key c/2", "get --prefix  a --limit=1",
		"get --prefix c --order=DESCEND", "get a z --sort-by=VALUE --order=DESCEND", "get a z --sort-by=CREATE",
		"get a z --sort-by=MODIFY --order=DESCEND", "get a z --sort-by=VERSION", "get a z --sort-by=KEY",
		"get a --rev=2", "get a --rev=100000", "get a z --keys-only", "get a z --count-only", "get a z --print-value-only",
		"get a z --min-create-rev=4", "get a z --max-create-rev=4", "get a z --min-mod-rev=5", "get a z --max-mod-rev=5",
		"get a --consistency=s", "get a --consistency=l", "get a --consistency=x", "get c --prefix --stream",
		"get a b c", "get --prefix --from-key a", "get a --order=UP", "get --hex bytes"}
	for _, line := range gets {
		add(do(line))
		for _, format := range []string{"json", "fields", "protobuf"} {
			add(do(line + " -w " + format))
		}
	}
	add(call{args: []string{"get", "", "--prefix", "--keys-only"}}, call{args: []string{"get", "", "--from-key", "--count-only", "-w", "fields"}})
	// txn
	for _, stdin := range []string{
		"mod(\"a\") > \"0\"\n\nput a txn\nget a\n\nget b\n\n",
		"value(\"a\") = \"other\"\n\nput a no\n\nget b c\ndel b\n\n",
		"create(\"none\") = \"0\"\nversion(\"none\") = \"0\"\n\nput t1 \"quoted value\"\ndel c --prefix\n\n\n",
		"\n\n\n", "\nput d 1\nput d 2\n\n", "\nput d 1\nput e 2\nget d f\n\n", "nonsense\n\n\n\n", "\nput a --ignore-lease new\n\n",
	} {
		add(in("txn", stdin), in("txn -w json", stdin), in("txn -w fields", stdin), in("txn -i", stdin))
	}
	// del
	add(do("put del/1 x"), do("put del/2 x"), do("put del/3 x"), do("put del/4 x"), do("del del/1"), do("del del/1"),
		do("del del/2 --prev-kv"), do("del del/3 --prev-kv -w json"), do("del --prefix del/ -w fields"),
		do("put del/5 x"), do("del del/5 del/6 --range"), do("put zz x"), do("del --from-key zz"), do("del none -w protobuf"), do("del"))
	// watch
	add(some(6, "watch a --rev=2"), some(9, "watch a --rev=2 --prev-kv"), some(12, "watch --prefix c --rev=1"),
		some(3, "watch a c --rev=2"), some(1, "watch a --rev=2 -w json"), some(20, "watch a --rev=2 -w fields"),
		call{until: 8, args: []string{"watch", "a", "--rev=2", "--", "sh", "-c",
			"echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_REVISION $ETCD_WATCH_VALUE"}})
	// the server
	add(do("member list"), do("member list -w json"), do("member list -w fields"), do("member list -w table"),
		do("member list --hex -w json"), do("member list --consistency=s"), do("alarm list"), do("alarm list -w json"), do("alarm disarm"),
		do("version"), do("endpoint health"), do("endpoint health -w json"), loose("endpoint health -w table"),
		do("endpoint status"), do("endpoint status -w json"), do("endpoint status -w fields"), loose("endpoint status -w table"),
		do("endpoint hashkv"), do("endpoint hashkv -w json"), do("endpoint hashkv --rev=7"), do("endpoint hashkv --rev=100000"),
		do("defrag"), do("move-leader 1234"), do("nonsense"), do("get --nonsense a"))
	of("members", do("member remove 1234"), do("member promote MEMBER"), do("member update 1234 --peer-urls=http://127.0.0.1:1"))
	of("downgrade", do("downgrade validate 3.6"), do("downgrade validate 3.5"), do("downgrade validate x"), do("downgrade cancel"))
	// compaction
	add(do("compaction 9"), do("compaction 9"), do("compaction 100000"), do("compaction 12 --physical"), do("compaction 13 -w json"),
		do("compaction x"), do("get a --rev=3"), some(1, "watch a --rev=2"), do("endpoint hashkv"), do("endpoint hashkv --rev=9"),
		do("endpoint hashkv -w json"))
	// leases; their ids are drawn, so no hash can be compared from here on
	add(grant("lease grant 500"), grant("lease grant 600 -w json"), grant("lease grant 1"), do("lease grant x"),
		do("lease grant 99999999999"), do("put leased/1 x --lease=LEASE1"),
		do("put leased/1 y --ignore-lease"), do("put leased/3 x --lease=LEASE2"), do("get leased --prefix -w json"),
		do("lease timetolive LEASE1 --keys"), do("lease timetolive LEASE1"), do("lease timetolive LEASE1 --keys -w fields"),
		do("lease timetolive 1234"), do("lease timetolive 1234 -w json"), do("lease keep-alive LEASE1 --once"),
		do("lease keep-alive LEASE1 --once -w json"), do("lease keep-alive 1234 --once"), some(2, "lease keep-alive LEASE3"),
		do("lease revoke LEASE3"), do("lease list -w json"), do("lease list"), do("lease revoke LEASE1"), do("lease revoke LEASE1"),
		do("lease revoke LEASE1 -w json"), do("get leased --prefix"), do("lease list"))
	// recipes and copies
	add(call{args: []string{"lock", "locks", "sh", "-c", "echo held $ETCD_LOCK_REV; exit 3"}}, do("get locks --prefix"),
		some(2, "elect poll candidate"), do("get poll --prefix --keys-only"),
		call{args: []string{"snapshot", "save", filepath.Join(dir, "snapshot.db")}, loose: true})
	// users
	of("users", do("auth status"), do("role add reader"), do("role add reader"), do("role grant-permission reader read a c"), do("role grant-permission reader write k"),
		do("role grant-permission reader readwrite p --prefix"), do("role grant-permission reader read z --from-key"),
		do("role get reader"), do("role get reader -w json"), do("role list"), do("role revoke-permission reader k"),
		do("role revoke-permission reader k"), do("role get none"), do("user add alice:pw"), do("user add alice:pw"),
		do("user add nopw --no-password"), do("user grant-role alice reader"), do("user grant-role alice none"), do("user get alice"),
		do("user get alice --detail"), do("user get alice -w json"), do("user list"), do("user list -w fields"),
		in("user passwd alice --interactive=false", "pw2"), do("auth enable"), do("user add root:rootpw"), do("auth enable"),
		do("auth status"), do("get a"), do("get a --user=alice:pw2"), do("get a --user=alice:wrong"), do("get x --user=alice:pw2"),
		do("put a 1 --user=alice:pw2"), do("put p1 1 --user=alice:pw2"), do("user list --user=alice:pw2"), do("auth status --user=root:rootpw"),
		do("get a --user=root:rootpw"), do("user revoke-role alice reader --user=root:rootpw"), do("user delete alice --user=root:rootpw"),
		do("user delete root --user=root:rootpw"), do("role delete reader --user=root:rootpw"), do("auth disable --user=root:rootpw"),
		do("user delete root"), do("user delete root"), do("get --prefix a"))
	return calls
}

// TestEtcdctl runs etcd's etcdctl against the server and against etcd. Status, standard output and standard error of
// each command must be equal, but for the few numbers that a server draws or measures.
func TestEtcdctl(t *testing.T) {
	sides := bothSides(t)
	left := unserved(t, sides[1])
	var calls [2][]call
	for i, side := range sides {
		for _, c := range commands(side.dir) {
			if !left[c.part] {
				calls[i] = append(calls[i], c)
			}
		}
	}
	compareCalls(t, sides, calls)
	t.Logf("%d of %d calls", len(calls[0]), len(commands("")))
}

// TestAlarm raises the alarm that space is short on both servers and compares what etcdctl says and can still do.
func TestAlarm(t *testing.T) {
	sides := bothSides(t)
	for _, side := range sides {
		api := dial(t, side.server)
		alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: api.hash(t, 0).Header.MemberId}
		side.ok(t, "put", "a", "1")
		if _, err := api.maintenance.Alarm(t.Context(), alarm); err != nil {
			t.Fatal(err)
		}
	}
	var calls []call
	for _, line := range []string{"alarm list", "alarm list -w json", "endpoint health", "endpoint status", "endpoint status -w json",
		"put a 2", "lease grant 10", "get a", "del a", "compaction 2", "alarm disarm", "alarm list", "alarm disarm -w json", "endpoint health",
		"put a 3", "get a -w json"} {
		calls = append(calls, call{args: strings.Fields(line)})
	}
	compareCalls(t, sides, [2][]call{calls, calls})
}

// bothSides returns etcdctl pointed at an etcd and at the server under test, in this order.
func bothSides(t *testing.T) [2]*tool {
	t.Helper()
	var sides [2]*tool
	for i, server := range []string{etcd.Binary(t, "etcd"), binary(t)} {
		// Equal addresses give equal ids of member and cluster.
		sides[i] = newTool(t, serveWith(t, run.Config{Binary: server, Dir: t.TempDir(),
			Args:          []string{"--quota-backend-bytes=2147483648"}, // it is reported, and the defaults differ
			AdvertisePeer: "http://127.0.0.1:12380", AdvertiseClient: "http://127.0.0.1:12379"}))
	}
	return sides
}

// compareCalls makes the calls on both sides, one after the other, and reports each whose outcomes differ.
func compareCalls(t *testing.T, sides [2]*tool, calls [2][]call) {
	t.Helper()
	for i := range calls[0] {
		var answers [2]string
		var group sync.WaitGroup
		for side := range sides {
			group.Go(func() { answers[side] = sides[side].run(t, calls[side][i]) })
		}
		group.Wait()
		if want, got := answers[0], answers[1]; want != got {
			t.Errorf("%d: etcdctl %q, stdin %q\n--- etcd\n%s\n--- under test\n%s",
				i, calls[0][i].args, calls[0][i].stdin, want, got)
		}
	}
}

// tool is etcdctl pointed at one server.
type tool struct {
	path   string
	server *run.Server
	dir    string   // for files the commands write
	leases []string // ids granted, in hexadecimal
	member string
}

func newTool(t *testing.T, server *run.Server) *tool {
	tl := &tool{path: etcd.Binary(t, "etcdctl"), server: server, dir: t.TempDir()}
	out := tl.output(t, call{args: []string{"member", "list"}})
	tl.member, _, _ = strings.Cut(strings.TrimPrefix(out, "exit 0\n"), ",")
	return tl
}

// run carries a call out and returns its status and output, normalised.
func (tl *tool) run(t *testing.T, c call) string {
	t.Helper()
	args := make([]string, len(c.args))
	for i, arg := range c.args {
		for n, lease := range tl.leases {
			arg = strings.ReplaceAll(arg, fmt.Sprintf("LEASE%d", n+1), lease)
		}
		args[i] = strings.ReplaceAll(arg, "MEMBER", tl.member)
	}
	c.args = args
	out := tl.output(t, c)
	if c.lease {
		tl.learnLease(t, out)
	}
	return tl.normal(out, c.loose)
}

// output runs etcdctl and writes its exit code before what it wrote.
func (tl *tool) output(t *testing.T, c call) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, tl.path, append([]string{"--endpoints=" + tl.server.Client}, c.args...)...)
	cmd.Stdin = strings.NewReader(c.stdin)
	out := &lines{limit: c.until, reached: make(chan struct{})}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &stderr
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return ""
	}
	if c.until > 0 {
		go func() { // ends with the call: either way its context does
			select {
			case <-out.reached:
				_ = cmd.Process.Signal(os.Interrupt) // fails only when it has ended
			case <-ctx.Done():
			}
		}()
	}
	err := cmd.Wait()
	code := "exit 0"
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		code = "no end within 20 s"
	case errors.As(err, &exit):
		code = exit.String()
	case err != nil:
		t.Error(err)
	}
	if c.until > 0 && ctx.Err() == nil {
		code = "ended" // by signal or by itself, whichever came first
	}
	if c.until > 0 {
		return code + "\n" + out.text() // what the interruption makes of standard error is chance
	}
	return code + "\n" + out.text() + stderr.String()
}

var (
	leaseText = regexp.MustCompile(`lease ([0-9a-f]{16}) granted`)
	leaseJSON = regexp.MustCompile(`"ID":([0-9]+)`)
)

// learnLease notes the id that the answer grants.
func (tl *tool) learnLease(t *testing.T, out string) {
	t.Helper()
	if m := leaseText.FindStringSubmatch(out); m != nil {
		tl.leases = append(tl.leases, m[1])
		return
	}
	if m := leaseJSON.FindStringSubmatch(out); m != nil {
		var id uint64
		if _, err := fmt.Sscan(m[1], &id); err != nil {
			t.Error(err)
		}
		tl.leases = append(tl.leases, fmt.Sprintf("%016x", id))
		return
	}
	t.Errorf("no lease granted: %s", out)
	tl.leases = append(tl.leases, "none")
}

// drawn are the parts of an answer that differ from run to run on one server too.
var drawn = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`[0-9.]+(ns|µs|ms|s)\b`), "TIME"},
	{regexp.MustCompile(`"ts":"[^"]*"`), `"ts":"TIME"`},
	{regexp.MustCompile(`etcd-endpoints://0x[0-9a-f]+`), "etcd-endpoints://ADDRESS"},
	{regexp.MustCompile(`LocalAddr: '[^']*'`), "LocalAddr"},
	{regexp.MustCompile(`"(attempt)":[0-9]+`), `"$1":N`},
	{regexp.MustCompile(`"?(db_size|dbSize|db_size_in_use|dbSizeInUse|DBSize|DBSizeInUse)"?( ?): ?[0-9]+`), `$1:SIZE`},
	{regexp.MustCompile(`[0-9.]+ [kMG]?B\b`), "SIZE"},
	{regexp.MustCompile(`SIZE, SIZE, [0-9]+%`), "SIZE, SIZE, SHARE%"},
	{regexp.MustCompile(`remaining\([0-9]+s?\)`), "remaining(TIME)"},
	{regexp.MustCompile(`(poll|locks)/[0-9a-f]+`), "$1/LEASE"},
	{regexp.MustCompile(`"(raftIndex|raftAppliedIndex|RaftIndex|RaftAppliedIndex)"( ?):( ?)[0-9]+`), `"$1"$2:${3}INDEX`},
	{regexp.MustCompile(`(true|false), ([0-9]+), [0-9]+, [0-9]+, `), "$1, $2, INDEX, INDEX, "},
	{regexp.MustCompile(`"(ttl|TTL)" ?: ?[0-9]+`), `"$1":TIME`},
}

// normal replaces what no two servers have in common.
func (tl *tool) normal(text string, loose bool) string {
	for i, lease := range tl.leases {
		name := fmt.Sprintf("LEASE%d", i+1)
		text = strings.ReplaceAll(text, lease, name)
		var id uint64
		if _, err := fmt.Sscanf(lease, "%x", &id); err == nil {
			text = strings.ReplaceAll(text, fmt.Sprint(id), name)
		}
	}
	text = strings.ReplaceAll(text, tl.server.Client, "ENDPOINT")
	text = strings.ReplaceAll(text, tl.dir, "DIR")
	for _, d := range drawn {
		text = d.pattern.ReplaceAllString(text, d.with)
	}
	if loose {
		text = regexp.MustCompile(`[0-9a-f]+`).ReplaceAllString(text, "N")
		text = regexp.MustCompile(` +|-{2,}|─{2,}`).ReplaceAllString(text, " ")
	}
	return text
}

// lines collects what is written and closes reached when limit lines are there; 0 is no limit.
type lines struct {
	limit   int
	reached chan struct{}
	buf     bytes.Buffer
	closed  bool
}

func (l *lines) Write(p []byte) (int, error) {
	n, err := l.buf.Write(p)
	if l.limit > 0 && !l.closed && bytes.Count(l.buf.Bytes(), []byte("\n")) >= l.limit {
		l.closed = true
		close(l.reached)
	}
	return n, err
}

// text returns what was written, up to the limit.
func (l *lines) text() string {
	all := l.buf.String()
	if l.limit == 0 {
		return all
	}
	parts := strings.SplitAfter(all, "\n")
	return strings.Join(parts[:min(l.limit, len(parts))], "")
}
