package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/test/etcd"
)

// TestMain lets the scripts call the program under the names it is known by.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": main, "etcd": main, "etcd3": main, "etcdctl": main, "etcdutl": main})
}

// scriptTimeout is far more than the scripts take.
const scriptTimeout = time.Minute

// TestScripts runs command lines as a user would and looks at exit status and words. Besides those of testscript there
// are the commands:
//
//	exits n program args...   runs it and asks for its exit status
//	says n text               standard error of the last command has n lines, and one has the text
//	ready url                 waits until the member behind url is healthy
//	occupy port               listens there until the script ends
//
// $CLIENT, $PEER and $OTHER are free ports.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:      "testdata",
		Deadline: time.Now().Add(scriptTimeout), // a program that was to be refused may run
		Setup: func(e *testscript.Env) error {
			addresses, err := etcd.FreeAddresses(3)
			if err != nil {
				return err
			}
			for i, name := range []string{"CLIENT", "PEER", "OTHER"} {
				e.Setenv(name, strings.TrimPrefix(addresses[i], "127.0.0.1:"))
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "says": says, "ready": ready, "occupy": occupy,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits status program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func says(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: says lines text")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stderr")), "\n")
	found := false
	for _, line := range lines {
		found = found || strings.Contains(line, args[1])
	}
	if len(lines) != want || !found {
		ts.Fatalf("%d lines, want %d, one with %q:\n%s", len(lines), want, args[1], strings.Join(lines, "\n"))
	}
}

func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready url")
	}
	ts.Check(awaitHealth(args[0]))
}

func awaitHealth(url string) error {
	for range 1000 { // far more than a start takes
		if r, err := http.Get(url + "/health"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s does not become healthy", url)
}

func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy port")
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	ts.Defer(func() { ts.Check(l.Close()) })
}

// TestSignals sends one signal after the other: the first ends the member in good order, those that come meanwhile change
// nothing, and the parent sees by which signal it ended.
func TestSignals(t *testing.T) {
	url := etcd.FreeURL(t)
	var stderr strings.Builder
	program := exec.Command("holdfast", "--data-dir", filepath.Join(t.TempDir(), "d"), "--listen-client-urls", url,
		"--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:0")
	program.Stderr = &stderr
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	if err := awaitHealth(url); err != nil {
		t.Error(err)
	}
	for signals := 0; ; signals++ {
		program.Process.Signal(syscall.SIGTERM) // may have ended
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Errorf("ended with %v", err)
			}
			if out := stderr.String(); strings.Contains(out, "panic") || strings.Count(out, "received signal") != 1 {
				t.Errorf("after %d signals it said\n%s", signals, out)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}
