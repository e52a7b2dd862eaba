package metrics

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestA4Promtool: promtool has nothing to say of what we show that it does not say of what etcd shows, and nothing at all of our own
// names. It would say something: a name as bad as can be is found.
func TestA4Promtool(t *testing.T) {
	promtool := debian(t, "promtool")
	complaints := func(binary string) map[string]bool {
		members := startMembers(t, binary, 3)
		found := map[string]bool{}
		for _, m := range members {
			load(t, m)
		}
		for _, m := range members {
			for _, line := range lint(t, promtool, scrape(t, m.Client)) {
				found[line] = true
			}
			m.Kill()
		}
		return found
	}
	theirs := complaints(etcd.Binary(t, "etcd"))
	if len(theirs) == 0 {
		t.Error("promtool finds nothing wrong with etcd")
	}
	for line := range complaints(run.Holdfast(t)) {
		if !theirs[line] || strings.HasPrefix(line, "holdfast_") {
			t.Errorf("promtool: %s", line)
		}
	}
	if lines := lint(t, promtool, "# TYPE holdfast_bad counter\nholdfast_bad 1\n"); len(lines) == 0 {
		t.Error("promtool finds nothing wrong with a counter without a help and a suffix")
	}
}

// lint returns what promtool complains of. It ends with 3 where there is something.
func lint(t *testing.T, promtool, text string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}
