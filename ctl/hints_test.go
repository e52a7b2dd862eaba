package ctl

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// TestHints: an error of the protocol has its hint, wrapped or not, under the program's name; and no other hint says that nobody answers.
func TestHints(t *testing.T) {
	for err, want := range map[error]string{
		rpctypes.ErrNoSpace:                                         `"etcdctl alarm list" shows`,
		fmt.Errorf("ask: %w", rpctypes.ErrNoLeader):                 `"etcdctl endpoint status --cluster`,
		rpctypes.ErrTimeoutDueToLeaderFail:                          "has just lost one",
		rpctypes.ErrMemberNotFound:                                  `"etcdctl member list"`,
		context.DeadlineExceeded:                                    "no endpoint gave an answer in time",
		fmt.Errorf("x509: certificate signed by unknown authority"): "--cacert names the authority",
	} {
		got := hints(err, "etcdctl")
		if len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if got := hints(rpctypes.ErrTimeoutDueToLeaderFail, "etcdctl"); len(got) != 1 {
		t.Errorf("several hints for one error: %q", got)
	}
	if got := hints(rpctypes.ErrDuplicateKey, "etcdctl"); len(got) != 0 {
		t.Errorf("a hint for what says all: %q", got)
	}
}

// TestHintsCallCommandsThatExist: what stands in quotes after the tool's name is a command with flags that it has.
func TestHintsCallCommandsThatExist(t *testing.T) {
	root := Command(world())
	quoted := regexp.MustCompile(`"ctl ([^"]+)"`)
	seen := 0
	for _, h := range serverHints {
		for _, call := range quoted.FindAllStringSubmatch(h.hint, -1) {
			seen++
			c, rest, err := root.Find(strings.Fields(call[1]))
			if err != nil || !c.Runnable() {
				t.Errorf("%q: %v", call[0], err)
				continue
			}
			for _, word := range rest {
				if name, long := strings.CutPrefix(word, "--"); long && c.Flag(name) == nil {
					t.Errorf("%q: no --%s", call[0], name)
				}
			}
		}
	}
	if seen < 15 {
		t.Errorf("%d calls in the hints", seen)
	}
}
