package utl

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/etcd"
)

// complaint is the line in which a tool says what is wrong; etcd's may be followed by more in ours.
func complaint(stderr string) string {
	for _, line := range strings.Split(stderr, "\n") {
		if strings.HasPrefix(line, "Error: ") {
			return line
		}
	}
	return ""
}

// TestRestoreIsEtcds restores with both tools: how they exit, and what they complain of, must be equal, and so the raft log, byte for
// byte, and the content of the database. example.db comes from a member with the name and URL that are given here.
func TestRestoreIsEtcds(t *testing.T) {
	theirs, mine := etcd.Binary(t, "etcdutl"), ours(t, "etcdutl")
	const as = " --name golden --initial-cluster golden=http://127.0.0.1:23801 --initial-advertise-peer-urls http://127.0.0.1:23801"
	for _, line := range []string{
		"example.db" + as,
		"example.db --data-dir d --wal-dir w" + as,
		"example.db --data-dir d --bump-revision 1000 --mark-compacted" + as,
		"bumped.db --skip-hash-check --data-dir d",
		"golden.db --initial-cluster default=http://localhost:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380 --initial-cluster-token x",
		"bumped.db", "", "a b", "nothing.db",
		"example.db --data-dir full", "example.db --data-dir d --wal-dir full",
		"example.db --bump-revision 5", "example.db --mark-compacted", "example.db --bump-revision x",
		"example.db --name other", "example.db --initial-cluster default=http://localhost:1", "example.db --initial-cluster x",
		"example.db --initial-advertise-peer-urls localhost:1", "example.db --initial-cluster default=http://localhost:2380,b=http://localhost:2380",
	} {
		t.Run(line, func(t *testing.T) {
			dirs, answers := [2]string{t.TempDir(), t.TempDir()}, [2]answer{}
			for i, program := range []string{theirs, mine} {
				for _, file := range []string{"golden", "bumped", "example"} {
					golden(t, file, dirs[i], file+".db")
				}
				if err := os.MkdirAll(filepath.Join(dirs[i], "full", "x"), 0o700); err != nil {
					t.Fatal(err)
				}
				answers[i] = call(t, dirs[i], program, append([]string{"snapshot", "restore"}, strings.Fields(line)...)...)
			}
			if answers[0].code != answers[1].code || answers[0].out != answers[1].out || !strings.HasPrefix(complaint(answers[1].err), complaint(answers[0].err)) {
				t.Fatalf("etcd's: %+v\nours:   %+v", answers[0], answers[1])
			}
			if answers[0].code != 0 {
				return
			}
			compareFiles(t, theirs, dirs, strings.HasPrefix(line, "example.db"))
			if warned := strings.Contains(answers[1].err, "\twarn\t"); warned == strings.Contains(line, "--bump-revision") {
				t.Errorf("warned: %v\n%s", warned, answers[1].err)
			}
			for _, words := range []string{"restoring snapshot", "added member", "restored snapshot"} {
				if strings.Count(answers[0].err, words) != strings.Count(answers[1].err, words) {
					t.Errorf("%q is not said as often\n%s", words, answers[1].err)
				}
			}
		})
	}
}

// compareFiles compares what two tools have made.
func compareFiles(t *testing.T, etcdutl string, dirs [2]string, sameMember bool) {
	t.Helper()
	var names [2][]string
	for i, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				names[i] = append(names[i], path[len(dir):])
			} else if err == nil {
				info, err := d.Info()
				if err != nil {
					return err
				}
				names[i] = append(names[i], path[len(dir):]+" "+info.Mode().String())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, want := strings.Join(names[1], "\n"), strings.Join(names[0], "\n"); got != want {
		t.Errorf("there is\n%s\nand not\n%s", got, want)
	}
	for _, name := range names[0] {
		name, _, _ = strings.Cut(name, " ")
		switch {
		case strings.HasSuffix(name, ".wal"):
			want, err := os.ReadFile(dirs[0] + name)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(dirs[1] + name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s differs (%v)", name, err)
			}
		case strings.HasSuffix(name, filepath.Join("snap", "db")):
			var shown [2]string
			for i, dir := range dirs {
				// The status first: etcd's hashkv writes to what it opens, for it goes on with the compaction that is marked there.
				if status := strings.Split(must(t, dir, etcdutl, "snapshot", "status", dir+name), ", "); sameMember {
					shown[i] = strings.Join(append(status[:3], status[4:]...), ", ") // not the size: it ends with its last page
				}
				shown[i] += must(t, dir, etcdutl, "hashkv", dir+name)
			}
			if shown[0] != shown[1] {
				t.Errorf("%s: %s, not %s", name, shown[1], shown[0])
			}
		}
	}
}

// TestMigrateAndDefragAreEtcds does the same to two directories with both tools, one step after the other.
func TestMigrateAndDefragAreEtcds(t *testing.T) {
	theirs, mine := etcd.Binary(t, "etcdutl"), ours(t, "etcdutl")
	dirs := [2]string{t.TempDir(), t.TempDir()}
	for _, dir := range dirs {
		golden(t, "example", dir, "example.db")
		must(t, dir, theirs, "snapshot", "restore", "example.db", "--data-dir", "d")
	}
	for _, line := range []string{
		"defrag --data-dir d", "defrag", "defrag --data-dir nothing", "migrate", "migrate --data-dir d", "migrate --data-dir nothing --target-version 3.6",
		"migrate --data-dir d --target-version 3", "migrate --data-dir d --target-version 3.x", "migrate --data-dir d --target-version 3.4",
		"migrate --data-dir d --target-version 3.7", "migrate --data-dir d --target-version 3.6", "migrate --data-dir d --target-version 3.6",
		"migrate --data-dir d --target-version 3.5", "migrate --data-dir d --target-version 3.8", "migrate --data-dir d --target-version 4.0",
		"migrate --data-dir d --target-version 3.7", "migrate --data-dir d --target-version 3.8 --force", "migrate --data-dir d --target-version 3.7 --force",
	} {
		var shown [2]string
		var answers [2]answer
		for i, program := range []string{theirs, mine} {
			answers[i] = call(t, dirs[i], program, strings.Fields(line)...)
			status := strings.Split(must(t, dirs[i], theirs, "snapshot", "status", "d/member/snap/db"), ", ")
			shown[i] = strings.Join(append(status[:3], status[4:]...), ", ")
		}
		if shown[0] != shown[1] || answers[0].code != answers[1].code || answers[0].out != answers[1].out || complaint(answers[0].err) != complaint(answers[1].err) {
			t.Errorf("%s\netcd's: %s %+v\nours:   %s %+v", line, shown[0], answers[0], shown[1], answers[1])
		}
		for _, words := range []string{"finished defragmenting directory", "updated storage version", "storage version up-to-date", "forcefully"} {
			if strings.Count(answers[0].err, words) != strings.Count(answers[1].err, words) {
				t.Errorf("%s: %q is not said as often\n%s", line, words, answers[1].err)
			}
		}
	}
}
