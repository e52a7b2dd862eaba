package utl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// trio is three names with their peer URLs.
const trio = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3"

// threeMembers makes the directories a, b and c of a cluster whose members never ran.
func threeMembers(t *testing.T, tool, dir string) {
	t.Helper()
	golden(t, "example", dir, "example.db")
	for i, name := range []string{"a", "b", "c"} {
		must(t, dir, tool, "snapshot", "restore", "example.db", "--data-dir", name+".etcd", "--name", name, "--initial-cluster", trio,
			"--initial-advertise-peer-urls", strings.Split(strings.Split(trio, ",")[i], "=")[1])
		must(t, dir, tool, "import", name+".etcd", "--data-dir", name)
	}
}

// TestWhatEtcdsToolCannotHasAllFormats: commands of ours alone answer in each format but protobuf, which they refuse before they
// change anything.
func TestWhatEtcdsToolCannotHasAllFormats(t *testing.T) {
	mine, dir := ours(t, "etcdutl"), t.TempDir()
	threeMembers(t, mine, dir)
	for _, c := range []struct{ command, format, want string }{
		{"recover", "simple", "Known to be committed: everything up to revision 11 (entry 3)."},
		{"recover", "table", "│ DATA DIRECTORY │"},
		{"recover", "table", "│ COMMITTED │ COMMITTED REVISION │ REVISION │ NEW REVISION │"},
		{"recover", "fields", `"DataDir" : "a"`},
		{"recover", "fields", `"NewRevision" : 1000000011`},
		{"recover", "json", `"newRevision":1000000011`},
		{"member set-urls", "simple", ", b, http://127.0.0.1:9"},
		{"member set-urls", "table", "│        ID        │ NAME │     PEER ADDRS     │"},
		{"member set-urls", "fields", `"PeerURLs" : "http://127.0.0.1:9"`},
		{"member set-urls", "fields", `"AppliedIndex" : 3`},
		{"member set-urls", "json", `"name":"b","peerURLs":["http://127.0.0.1:9"]`},
	} {
		args := append(strings.Fields(c.command), "-w", c.format, "--data-dir")
		if c.command == "recover" {
			args = append(args, "new", "a", "b", "--dry-run")
		} else {
			args = append(args, "c", "b=http://127.0.0.1:9")
		}
		out := must(t, dir, mine, args...)
		if !strings.Contains(out, c.want) || c.format == "json" && !json.Valid([]byte(out)) {
			t.Errorf("%s:\n%s\nwithout %s", strings.Join(args, " "), out, c.want)
		}
	}
	made := must(t, dir, mine, "recover", "a", "b", "--data-dir", "made", "--name", "a", "--initial-cluster", trio, "--initial-advertise-peer-urls", "http://127.0.0.1:1")
	if want := "Start it: holdfast --name a --data-dir made --listen-peer-urls http://127.0.0.1:1 --initial-advertise-peer-urls http://127.0.0.1:1 ...\n"; !strings.HasSuffix(made, want) {
		t.Errorf("recover:\n%s\nwithout %s", made, want)
	}
	for _, format := range []string{"protobuf", "yaml"} {
		for _, line := range []string{"recover a b --data-dir new -w " + format, "member set-urls --data-dir c b=http://127.0.0.1:8 -w " + format} {
			if a := call(t, dir, mine, strings.Fields(line)...); a.code != 4 || a.out != "" || !strings.Contains(a.err, "output format") {
				t.Errorf("%s: %+v", line, a)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("recover has made something in a format that it refused")
	}
	if out := must(t, dir, mine, "member", "set-urls", "--data-dir", "c", "a=http://127.0.0.1:1"); !strings.Contains(out, ":9") {
		t.Errorf("set-urls has changed something in a format that it refused:\n%s", out)
	}
}
