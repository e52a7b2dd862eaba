package ctl

import (
	"slices"
	"strings"
	"testing"

	"holdfast/test/cli"
)

// formats are all that answers are shown in.
var formats = []string{"simple", "json", "fields", "protobuf", "table"}

// inEach makes a call of each line in each format; FORMAT in a line is the format.
func inEach(lines ...string) []cli.Call {
	var calls []cli.Call
	for _, line := range lines {
		for _, format := range formats {
			c := cli.Call{Args: append(strings.Fields(strings.ReplaceAll(line, "FORMAT", format)), "-w", format)}
			c.Cells = format == "table" && strings.HasPrefix(line, "endpoint")
			calls = append(calls, c)
		}
	}
	return calls
}

func once(lines ...string) []cli.Call {
	var calls []cli.Call
	for _, line := range lines {
		calls = append(calls, cli.Call{Args: strings.Fields(line)})
	}
	return calls
}

func withInput(stdin string, lines ...string) []cli.Call {
	calls := once(lines...)
	for i := range calls {
		calls[i].Stdin = stdin
	}
	return calls
}

// inspect is what a member is asked about itself and its cluster, and changes nothing.
var inspect = []string{"member list", "member list --hex", "member list --consistency=s", "endpoint status", "endpoint status --hex", "endpoint health",
	"endpoint hashkv", "endpoint hashkv --hex", "endpoint hashkv --rev=1", "alarm list", "alarm list --hex", "auth status"}

// mistakes are calls that are refused before a server is asked, or by it.
var mistakes = []string{"member", "member add", "member add m", "member add m http://a http://b", "member add m --peer-urls=nonsense",
	"member remove", "member remove x", "member remove 1234", "member update 1234", "member update x --peer-urls=http://127.0.0.1:1",
	"member update 1234 --peer-urls=http://127.0.0.1:1", "member promote", "member promote x", "member promote MEMBER", "member list --consistency=q",
	"endpoint", "endpoint status --rev=1", "endpoint hashkv --rev=x", "endpoint hashkv --rev=100000", "alarm", "alarm list x", "alarm disarm x",
	"move-leader", "move-leader x", "move-leader 1234", "move-leader 1 2", "snapshot", "snapshot save", "snapshot save a b", "snapshot save DIR/none/x",
	"snapshot save x --endpoints=127.0.0.1:1,127.0.0.1:2", "auth", "auth enable x", "auth disable x", "auth status x", "auth enable", "auth disable",
	"role", "role add", "role add a b", "role delete", "role delete none", "role get", "role get none", "role list x", "role grant-permission r read",
	"role grant-permission r nonsense k", "role grant-permission none read k", "role grant-permission r read k l --prefix",
	"role grant-permission r read k l --from-key", "role grant-permission r read k --prefix --from-key", "role revoke-permission r",
	"role revoke-permission none k", "user", "user add", "user add a b", "user add :x", "user delete", "user delete none", "user get", "user get none",
	"user get none --detail", "user list x", "user passwd", "user passwd none --interactive=false", "user grant-role a", "user grant-role none none",
	"user revoke-role a", "user revoke-role none none", "downgrade", "downgrade validate", "downgrade validate a b", "downgrade validate x",
	"downgrade enable", "downgrade enable x", "downgrade cancel", "make-mirror", "make-mirror 127.0.0.1:1 --dest-prefix=a --no-dest-prefix",
	"make-mirror a b", "check nonsense", "check perf --load=nonsense", "check datascale --load=nonsense", "endpoint status -w nonsense",
	"member list -w nonsense", "user list -w nonsense"}

// TestAdmin makes the commands of administration in every format on a member that is alone.
func TestAdmin(t *testing.T) {
	calls := slices.Concat(
		inEach(inspect...),
		once("put a 1", "put a 2", "put b 1", "del b"), // what hashes see
		inEach("endpoint hashkv", "endpoint hashkv --rev=3", "endpoint hashkv --rev=2"),
		once("compaction 3"),
		inEach("endpoint hashkv", "endpoint hashkv --rev=3", "endpoint hashkv --rev=2", "alarm disarm", "downgrade validate 3.6", "downgrade cancel"),
		once("defrag", "defrag stray words", "defrag -- cluster", "snapshot save DIR/snapshot.db"),
		[]cli.Call{{Args: []string{"downgrade", "validate", ""}}},
		once(mistakes...),
	)
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		readDifferences(t).compare(t, sides, calls)
		t.Logf("%d calls", len(calls))
	}, flags("--quota-backend-bytes=2147483648")) // it is shown, and etcd's differs
}

// TestUsers makes the commands about users and roles in every format, with authentication off and on.
func TestUsers(t *testing.T) {
	grants := []string{"reader read k", "reader read a c", "reader write k", "reader readwrite p --prefix", "reader read z --from-key", "reader write l m",
		"reader readwrite q"}
	var revokes []string
	for i, grant := range grants {
		name, keys, _ := strings.Cut(grant, " ")
		_, keys, _ = strings.Cut(keys, " ")
		grants[i], revokes = "role grant-permission "+grant, append(revokes, "role revoke-permission "+name+" "+keys)
	}
	empty := []cli.Call{
		{Args: []string{"role", "add", ""}}, {Args: []string{"user", "add", ""}}, {Args: []string{"user", "add", "empty:"}},
		{Args: []string{"role", "grant-permission", "reader", "read", ""}}, {Args: []string{"role", "grant-permission", "reader", "write", "", "--prefix"}},
		{Args: []string{"role", "grant-permission", "reader", "read", "", "--from-key", "--prefix"}}, {Args: []string{"role", "get", "reader"}},
		{Args: []string{"role", "revoke-permission", "reader", "", "--from-key"}},
	}
	alice, wrong := " --user=alice:pw", " --user=alice:wrong"
	asRoot := func(lines ...string) []string {
		for i := range lines {
			lines[i] += " --user=root:pw"
		}
		return lines
	}
	calls := slices.Concat(
		inEach("role list", "role add r-FORMAT", "role list", "role delete r-FORMAT", "role get root"), once("role add reader", "role add reader"),
		once(grants...), empty, inEach("role get reader"),
		once(revokes...), once(revokes...),
		inEach("role grant-permission reader read k-FORMAT", "role revoke-permission reader k-FORMAT"),
		once(grants...),
		inEach("user list", "user add u-FORMAT:pw", "user list", "user get u-FORMAT", "user grant-role u-FORMAT reader", "user get u-FORMAT --detail",
			"user revoke-role u-FORMAT reader", "user add n-FORMAT --no-password", "user add p-FORMAT --new-user-password=x"),
		withInput("new words\n", "user add piped --interactive=false", "user passwd u-json --interactive=false"),
		withInput("", "user add nothing --interactive=false", "user add nothing2", "user passwd u-json"),
		withInput("one\none\n", "user add twice", "user passwd twice"), withInput("one\ntwo\n", "user add differ", "user passwd twice"),
		withInput("pw\n", "user passwd u-fields --interactive=false -w fields", "user passwd u-json --interactive=false -w json",
			"user passwd u-table --interactive=false -w table", "user passwd u-protobuf --interactive=false -w protobuf"),
		inEach("user delete u-FORMAT"),
		once("user add alice:pw", "user grant-role alice reader", "auth enable", "user add root:pw", "auth enable", "auth enable"),
		inEach("auth status", "user list", "auth status"+alice, "user list"+alice, "user get alice"+alice, "role get reader"+alice, "user get alice --detail"+alice,
			"user get root"+alice, "user list"+wrong, "endpoint health"+alice, "endpoint status"+alice, "member list"+alice, "alarm list"+alice, "endpoint hashkv"+alice),
		inEach(asRoot("auth status", "user list", "role get root", "user get root", "endpoint health", "endpoint status", "endpoint hashkv", "alarm disarm", "member list")...),
		once("defrag", "defrag"+alice, "defrag --user root: -- cluster", "endpoint health", "endpoint status", "move-leader 1234", "move-leader 1234"+alice,
			"member remove 1234"+alice, "snapshot save DIR/a.db", "snapshot save DIR/b.db"+alice, "put p1 x"+alice, "put x x"+alice, "get k --user=alice --password=pw",
			"get k --user=alice --password=pw -w json", "user delete root", "auth disable", "auth disable"+alice, "downgrade cancel"+alice),
		once(asRoot("defrag", "snapshot save DIR/c.db", "user delete root", "role delete root", "user revoke-role alice reader", "auth disable")...),
		withInput("pw\n", "get k --user=alice", "user list --user=alice"),
		once("auth status", "auth disable", "user revoke-role root root"),
		[]cli.Call{{Args: []string{"auth", "enable"}, Env: []string{"CASE=role"}}},
	)
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		readDifferences(t).compare(t, sides, calls)
		t.Logf("%d calls", len(calls))
	}, flags("--quota-backend-bytes=2147483648", "--bcrypt-cost=4"))
}
