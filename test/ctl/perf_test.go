package ctl

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/test/cli"
)

var (
	// measured is what a check measured. A member may hold less memory after one than before it.
	measured = regexp.MustCompile(`-?[0-9.]+ (MB|writes/s)|[0-9.]+s\b|revision [0-9]+`)
	// fast are the lines of check perf whose beginnings depend on how fast a machine is.
	fast = regexp.MustCompile(`(?m)^(PASS: Throughput is|FAIL: Throughput too low:|PASS: Slowest request took|Slowest request took too long:|PASS: Stddev is|Stddev too high:) .*`)
)

// checked runs a check, interrupts it if that is asked for, and returns its exit code and standard output without what it measured.
func checked(t *testing.T, tool *cli.Tool, interrupt time.Duration, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool.Path, append([]string{"--endpoints=" + tool.Server.Client}, args...)...)
	if interrupt > 0 {
		timer := time.AfterFunc(interrupt, func() { _ = cmd.Process.Signal(os.Interrupt) }) // fails only when it has ended
		defer timer.Stop()
	}
	out, err := cmd.Output()
	text := strings.ReplaceAll(measured.ReplaceAllString(string(out), "MEASURED"), tool.Server.Client, "ENDPOINT")
	return fmt.Sprintf("%v\n%s", err, text)
}

// judged takes the verdict out of what check perf says, once it agrees with the lines above it.
func judged(t *testing.T, text string) string {
	t.Helper()
	bad := regexp.MustCompile(`(?m)^(FAIL: |Slowest|Stddev)`).MatchString(text)
	end, code := "PASS\n", "<nil>\n"
	if bad {
		end, code = "FAIL\n", "exit status 1\n"
	}
	if !strings.HasSuffix(text, end) || !strings.HasPrefix(text, code) {
		t.Errorf("the verdict and the figures differ:\n%s", text)
	}
	text = fast.ReplaceAllString(text, "FIGURE")
	return strings.TrimSuffix(strings.TrimPrefix(text, code), end)
}

// TestPerfInterrupted ends check perf early: it judges what it has done and cleans up.
func TestPerfInterrupted(t *testing.T) {
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		comparePerf(t, sides, func(tool *cli.Tool) string {
			return judged(t, checked(t, tool, 3*time.Second, "check", "perf", "--auto-compact"))
		})
		for _, tool := range sides {
			if left := tool.OK(t, "get", "/etcdctl-check-perf/", "--prefix", "--keys-only", "--limit=1"); left != "" {
				t.Errorf("%s leaves %q", tool.Path, left)
			}
		}
	})
}

// TestPerf runs check perf, which takes a minute, on servers that serve, and on servers that hang for so long that writes take too
// long. Whether the first pass depends on the machine: what is said must follow from the figures.
func TestPerf(t *testing.T) {
	skipUnlessLong(t)
	throughput := regexp.MustCompile(`(?m)^.*: Throughput .*`)
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		comparePerf(t, sides, func(tool *cli.Tool) string {
			return judged(t, checked(t, tool, 0, "check", "perf", "--auto-compact", "--auto-defrag"))
		})
		comparePerf(t, sides, func(tool *cli.Tool) string {
			hang := time.AfterFunc(5*time.Second, func() { tool.Server.Signal(syscall.SIGSTOP) })
			defer hang.Stop()
			goOn := time.AfterFunc(8*time.Second, func() { tool.Server.Signal(syscall.SIGCONT) })
			defer goOn.Stop()
			said := checked(t, tool, 0, "check", "perf", "--prefix=/elsewhere/", "--load=small")
			if !strings.Contains(said, "Slowest request took too long") || !strings.Contains(said, "Stddev too high") {
				t.Errorf("a server that hangs passes:\n%s", said)
			}
			return throughput.ReplaceAllString(said, "")
		})
	})
}

// comparePerf runs a check with both tools at the same time.
func comparePerf(t *testing.T, sides [2]*cli.Tool, run func(*cli.Tool) string) {
	t.Helper()
	var said [2]string
	var group sync.WaitGroup
	for i, tool := range sides {
		group.Go(func() { said[i] = run(tool) })
	}
	group.Wait()
	if said[0] != said[1] {
		t.Errorf("--- etcd's etcdctl\n%s\n--- ours\n%s", said[0], said[1])
	}
}
