package ctl

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/test/cli"
	"holdfast/test/etcd"
)

// differences are what docs/differences-ctl.txt says.
type differences struct {
	texts []*regexp.Regexp          // cut out of standard error
	calls map[*regexp.Regexp]string // calls that differ, and why
}

func readDifferences(t *testing.T) differences {
	t.Helper()
	root, err := etcd.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "differences-ctl.txt"))
	if err != nil {
		t.Fatal(err)
	}
	d := differences{calls: map[*regexp.Regexp]string{}}
	for paragraph := range strings.SplitSeq(string(text), "\n\n") {
		if strings.HasPrefix(paragraph, "#") {
			continue
		}
		head, why, _ := strings.Cut(paragraph, "\n")
		kind, pattern, _ := strings.Cut(head, " ")
		p, err := regexp.Compile(strings.TrimSpace(pattern))
		if err != nil || strings.TrimSpace(why) == "" {
			t.Fatalf("differences-ctl.txt: %q: no pattern, or no reason: %v", head, err)
		}
		switch kind {
		case "text":
			d.texts = append(d.texts, p)
		case "note": // what no call here shows
		case "call":
			d.calls[p] = why
		default:
			t.Fatalf("differences-ctl.txt: %q is no kind of difference", kind)
		}
	}
	return d
}

// listed returns the reason why a call differs, if the list has one.
func (d differences) listed(c cli.Call) (string, bool) {
	for p, why := range d.calls {
		if p.MatchString(c.String()) {
			return why, true
		}
	}
	return "", false
}

// compare makes the calls with both tools. Those on the list must differ, the others must not.
func (d differences) compare(t *testing.T, sides [2]*cli.Tool, calls []cli.Call) {
	t.Helper()
	for i, c := range calls {
		want, got := cli.Both(t, sides, c, c)
		why, listed := d.listed(c)
		switch {
		case want != got && !listed:
			t.Errorf("%d: %s\n--- etcd's etcdctl\n%s\n--- ours\n%s", i, c, want, got)
		case want == got && listed:
			t.Errorf("%d: %s is equal, yet on the list of differences:\n%s\n%s", i, c, why, got)
		}
	}
}

// compareAtOnce compares calls that change nothing for each other, and mostly wait: some at the same time.
func (d differences) compareAtOnce(t *testing.T, sides [2]*cli.Tool, calls []cli.Call) {
	t.Helper()
	const atOnce = 6
	var group sync.WaitGroup
	for some := range slices.Chunk(calls, (len(calls)+atOnce-1)/atOnce) {
		group.Go(func() { d.compare(t, sides, some) })
	}
	group.Wait()
}
