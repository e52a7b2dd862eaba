package metrics

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/metrics.md anew")

const page = "../docs/metrics.md"

// head is what the page begins with.
const head = `# What a member tells Prometheus

` + "`/metrics` on every client URL and on `--listen-metrics-urls` shows etcd 3.7's names, with its types, labels and buckets, so that dashboards and\n" +
	"alerts made for etcd work as they stand. `--metrics=extensive` adds `grpc_server_handling_seconds`, which the alert `etcdGRPCRequestsSlow` rests on.\n" +
	"What is different in the numbers stands in [differences](differences.md). The rest is Holdfast's own.\n" + `
What to look at first:

- ` + "`holdfast_replica_stalled`" + ` is 1: the disk of this member does not answer. A leader hands over by itself; look at the disk.
- ` + "`holdfast_disk_low`" + ` is 1: writes are refused until there is more room. ` + "`holdfast_disk_free_bytes`" + ` shows it coming.
- ` + "`holdfast_watch_lag_revisions`" + ` grows: a client does not read its watches. It costs itself alone, until its place is compacted.
- ` + "`holdfast_follower_lag_entries`" + ` grows: a member does not keep up with its leader.
- ` + "`holdfast_refused_calls_total`" + ` grows: there are more calls at once than the memory allows.
- ` + "`holdfast_store_congested`" + ` is 1 for long: the disk is slower than the writes.
- ` + "`holdfast_tls_end_timestamp_seconds - time()`" + ` below a week: a certificate has to be replaced.
- ` + "`holdfast_store_misuses_total`" + ` is not 0: a mistake in Holdfast; report it.

The page is written by ` + "`go test ./metrics -run TestPage -rewrite`" + `.

`

// text is what the page has to be.
func text() string {
	var b strings.Builder
	b.WriteString(head)
	section := func(title string, of func(*Family) bool) {
		fmt.Fprintf(&b, "## %s\n\n| name | type | labels | tells |\n|---|---|---|---|\n", title)
		for _, f := range Families() {
			if of(f) {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Type, strings.Join(f.Labels, ", "), f.Help)
			}
		}
		b.WriteString("\n")
	}
	own := func(f *Family) bool { return strings.HasPrefix(f.Name, "holdfast_") }
	section("Holdfast's own", own)
	section("etcd's", func(f *Family) bool { return !own(f) && !f.Idle && !f.Old })
	section("Always 0", func(f *Family) bool { return f.Idle })
	section("With `--metrics-old-names`", func(f *Family) bool { return f.Old })
	return strings.TrimSuffix(b.String(), "\n")
}

// TestPage: the page names everything there is, in the words of its help.
func TestPage(t *testing.T) {
	if *rewrite {
		if err := os.WriteFile(page, []byte(text()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != text() {
		t.Error("docs/metrics.md is not what the tables say: go test ./metrics -run TestPage -rewrite")
	}
	for _, f := range Families() {
		if strings.ContainsAny(f.Help, "|\n") || !strings.HasSuffix(f.Help, ".") {
			t.Errorf("the help of %s is no sentence for a table: %q", f.Name, f.Help)
		}
	}
	for _, name := range strings.FieldsFunc(head, func(r rune) bool { return r == '`' || r == ' ' || r == '\n' }) {
		if strings.HasPrefix(name, "holdfast_") && !strings.Contains(text()[len(head):], "`"+name+"`") {
			t.Errorf("the page names %s, which there is not", name)
		}
	}
}
