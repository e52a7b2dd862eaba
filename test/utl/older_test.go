package utl

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

var olderFlag = flag.Bool("older", false, "take data of etcd 3.5 and 3.6, too, which are built for that")

// older is a line of etcd before ours, with its own names for what keeps a compaction from its end.
type older struct {
	version    string
	unfinished []string
}

var olderLines = []older{
	{etcd.Version35, []string{"--experimental-compaction-batch-limit=5", "--experimental-compaction-sleep-interval=1h"}},
	{etcd.Version36, []string{"--compaction-batch-limit=5", "--compaction-sleep-interval=1h"}},
}

// inLogAlone keeps an etcd from writing its database: all but what a compaction wrote is in its raft log, the first entries of a
// member among it, which etcd 3.5 writes as changes of its v2 store.
var inLogAlone = []string{"--backend-batch-interval=1h", "--backend-batch-limit=1000000000"}

// TestOlderEtcds takes one of everything from members of older versions that were killed, by directory and by snapshot. Everything
// is equal in the end, and what is said of the files is what etcd's tools say.
func TestOlderEtcds(t *testing.T) {
	if !*olderFlag {
		t.Skip("waits for -older: two more versions of etcd are built, two minutes each")
	}
	for _, o := range olderLines {
		bin, err := etcd.Older(o.version)
		if err != nil {
			t.Skipf("waits for a place where etcd %s can be built: %v", o.version, err)
		}
		t.Run(o.version, func(t *testing.T) { o.take(t, bin, nil) })
		t.Run(o.version+", all in its log", func(t *testing.T) { o.take(t, bin, inLogAlone) })
	}
}

func (o older) take(t *testing.T, bin string, flags []string) {
	mine, utl, dir := run.Holdfast(t), ours(t, "etcdutl"), t.TempDir()
	a, err := run.Place(run.Config{Binary: filepath.Join(bin, "etcd"), Dir: t.TempDir(), Args: append(flags, o.unfinished...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Kill)
	c := launch(t, a)
	c.populate()
	want, member := asBefore36(c.fingerprint()), c.member()
	saved := filepath.Join(dir, "saved.db")
	if flags == nil { // a snapshot is a reason to write the database
		must(t, dir, filepath.Join(bin, "etcdctl"), "--endpoints", a.Client, "--user", "root:"+password, "snapshot", "save", saved)
	}
	a.Kill()

	db := filepath.Join(a.Data, "member", "snap", "db")
	newest := etcd.Binary(t, "etcdutl") // the older ones have no hashkv, or show no version
	for _, args := range [][]string{{"snapshot", "status", db}, {"hashkv", db}, {"snapshot", "status", db, "-w", "json"}} {
		mustEqual(t, strings.Join(args, " "), must(t, dir, utl, args...), must(t, dir, newest, args...))
	}
	theirs := strings.Split(must(t, dir, filepath.Join(bin, "etcdutl"), "snapshot", "status", db), ", ")
	got := strings.Split(must(t, dir, utl, "snapshot", "status", db), ", ")
	mustEqual(t, "status by its own tool", got[0]+got[1], theirs[0]+theirs[1]) // 3.5 counts the rows of all buckets as keys
	o.migrate(t, a.Data, utl, newest)

	b := place(t, mine)
	must(t, dir, utl, "import", a.Data, "--data-dir", b.Data)
	c = launch(t, b)
	mustEqual(t, "imported", asBefore36(c.fingerprint()), want)
	mustEqual(t, "imported", c.member(), member)
	b.Kill()
	if err := os.CopyFS(filepath.Join(dir, "survivor"), os.DirFS(a.Data)); err != nil {
		t.Fatal(err)
	}
	if out := must(t, dir, utl, "recover", "survivor", "--data-dir", "recovered"); !strings.Contains(out, "Made in recovered") {
		t.Errorf("recover: %s", out)
	}
	if flags == nil {
		mustEqual(t, "restored", asBefore36(restored(t, dir, mine, utl, saved).fingerprint()), want)
	}
}

// rootsRole is what the role root may, which etcd shows since 3.6.
var rootsRole = regexp.MustCompile(`(?m)^role root .*\n`)

func asBefore36(fingerprint string) string { return rootsRole.ReplaceAllString(fingerprint, "") }

// migrate does the same to two copies of a directory with both tools.
func (o older) migrate(t *testing.T, data, ours, theirs string) {
	t.Helper()
	for _, target := range []string{"3.5", "3.6", "3.7"} {
		var answers [2]answer
		var shown [2]string
		for i, program := range []string{theirs, ours} {
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "d"), os.DirFS(data)); err != nil {
				t.Fatal(err)
			}
			answers[i] = call(t, dir, program, "migrate", "--data-dir", "d", "--target-version", target)
			status := strings.Split(call(t, dir, theirs, "snapshot", "status", "d/member/snap/db").out, ", ")
			shown[i] = status[len(status)-1]
		}
		if shown[0] != shown[1] || answers[0].code != answers[1].code || complaint(answers[0].err) != complaint(answers[1].err) {
			t.Errorf("migrate to %s\netcd's: %s %+v\nours:   %s %+v", target, shown[0], answers[0], shown[1], answers[1])
		}
	}
}
