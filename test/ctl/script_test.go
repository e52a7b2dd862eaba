package ctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestScripts runs what goes on for a while, reads lines, starts commands or takes signals: with etcd's tool and with ours, each on a
// server of its own. A script says what both do. Besides the commands of testscript there is
//
//	await text etcdctl args...   calls again and again until standard output has the text
//
// etcdctl is the tool, pointed at the server by ETCDCTL_ENDPOINTS.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and tools")
	}
	server := run.Holdfast(t)
	for _, kind := range []struct{ name, tool string }{{"etcd", etcd.Binary(t, "etcdctl")}, {"holdfast", server}} {
		t.Run(kind.name, func(t *testing.T) {
			bin := t.TempDir()
			if err := os.Symlink(kind.tool, filepath.Join(bin, "etcdctl")); err != nil {
				t.Fatal(err)
			}
			s := serve(t, server, nil)
			testscript.Run(t, testscript.Params{
				Dir:      "testdata",
				Deadline: time.Now().Add(2 * time.Minute), // a command that was to end may go on
				Setup: func(e *testscript.Env) error {
					e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
					e.Setenv("ETCDCTL_ENDPOINTS", s.Client)
					return nil
				},
				Cmds:      map[string]func(ts *testscript.TestScript, neg bool, args []string){"await": await},
				Condition: func(name string) (bool, error) { return name == "ours" && kind.name == "holdfast", nil },
			})
		})
	}
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await text program args...")
	}
	for range 200 { // far more than it takes
		if err := ts.Exec(args[1], args[2:]...); err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s", fmt.Sprintf("%q does not come", args[0]))
}
