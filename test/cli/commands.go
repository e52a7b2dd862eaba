package cli

import (
	"path/filepath"
	"strings"
)

// Commands is the script: every data command of etcdctl with its flags, in an order that gives each something to find.
func Commands(dir string) []Call {
	do := func(line string) Call { return Call{Args: strings.Fields(line)} }
	in := func(line, stdin string) Call { return Call{Args: strings.Fields(line), Stdin: stdin} }
	grant := func(line string) Call { return Call{Args: strings.Fields(line), Lease: true} }
	some := func(lines int, line string) Call { return Call{Args: strings.Fields(line), Until: lines} }
	loose := func(line string) Call { return Call{Args: strings.Fields(line), Loose: true} }
	var calls []Call
	add := func(more ...Call) { calls = append(calls, more...) }
	of := func(part string, more ...Call) {
		for _, c := range more {
			c.Part = part
			add(c)
		}
	}

	// put
	add(do("put a 1"), do("put a 2 --prev-kv"), do("put b 1"), do("put c 0"), do("put c/1 x"), do("put c/2 y"),
		in("put stdin", "from standard input"), do("put a --ignore-value"), do("put none --ignore-value"),
		do("put a 3 --lease=1234"), do("put"), Call{Args: []string{"put", "", "x"}},
		Call{Args: []string{"put", "empty", ""}}, Call{Args: []string{"put", "text", "two words\nand a line"}},
		Call{Args: []string{"put", "bytes", "\x01\xff\xfe"}})
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
	add(Call{Args: []string{"get", "", "--prefix", "--keys-only"}}, Call{Args: []string{"get", "", "--from-key", "--count-only", "-w", "fields"}})
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
		Call{Until: 8, Args: []string{"watch", "a", "--rev=2", "--", "sh", "-c",
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
	add(Call{Args: []string{"lock", "locks", "sh", "-c", "echo held $ETCD_LOCK_REV; exit 3"}}, do("get locks --prefix"),
		some(2, "elect poll candidate"), do("get poll --prefix --keys-only"),
		Call{Args: []string{"snapshot", "save", filepath.Join(dir, "snapshot.db")}, Loose: true})
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
