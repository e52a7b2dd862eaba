package kube

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	objects = flag.Int("objects", 300, "objects in the script, a third of each kind")
	seed    = flag.Uint64("seed", 0, "seed of the script; 0 draws one")
	limit   = flag.Duration("limit", 4*time.Minute, "time for the whole run")
)

// TestKube runs the script on Holdfast and on etcd and compares. HOLDFAST_BINARY names the program under test; without
// it that is bin/holdfast.
func TestKube(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two API servers")
	}
	holdfast, etcd := binaries(t)
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d objects; the same script again: -args -objects=%d -seed=%d", *objects, *objects, *seed)
	scripts := writeScripts(*seed, *objects)
	ctx, cancel := context.WithTimeoutCause(t.Context(), *limit, fmt.Errorf("%s are over", *limit))
	defer cancel()

	names := []string{"etcd", "holdfast"}
	outcomes := make([]*outcome, len(names))
	var both sync.WaitGroup
	for i, bin := range []programs{etcd, holdfast} {
		dir := filepath.Join(t.TempDir(), names[i])
		both.Go(func() { outcomes[i] = runSide(ctx, t, names[i], dir, bin, scripts) })
	}
	both.Wait()
	if t.Failed() {
		return
	}
	const shown = 30
	failures := verdicts(scripts, names[0], outcomes[0], names[1], outcomes[1])
	for _, err := range failures[:min(shown, len(failures))] {
		t.Error(err)
	}
	if len(failures) > shown {
		t.Errorf("and %d more", len(failures)-shown)
	}
}

// binaries finds or builds what both sides run.
func binaries(t *testing.T) (holdfast, etcd programs) {
	t.Helper()
	ours := os.Getenv("HOLDFAST_BINARY")
	if ours == "" {
		ours = filepath.Join(top, "bin", "holdfast")
	}
	ours, err := filepath.Abs(ours)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ours); err != nil {
		t.Fatalf("%v; `make build` makes it", err)
	}
	if etcd, err = findPrograms(); err != nil {
		t.Fatal(err)
	}
	holdfast = etcd
	holdfast.store = ours
	return holdfast, etcd
}

// runSide runs the scripts on one side and reports what went wrong with it alone.
func runSide(ctx context.Context, t *testing.T, name, dir string, bin programs, scripts []script) *outcome {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Error(err)
		return nil
	}
	s, err := newSide(ctx, name, dir, bin)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	defer s.close()
	out, err := s.runScripts(ctx, scripts)
	if err != nil {
		t.Errorf("%s: %v\nthe store's last words:\n%s\nkube-apiserver's last words:\n%s",
			name, err, s.store.tail(), s.server.tail())
		return nil
	}
	t.Logf("%s: %d requests in %.1f s, %d repeated after an unclear answer, %d conflicts, %d lists in pages",
		name, out.requests, out.elapsed.Seconds(), out.retries, out.conflicts, out.lists)
	for _, o := range out.observers {
		t.Logf("%s", o.summary())
	}
	if len(out.expiry) < 2 || !strings.Contains(out.expiry[0], "410") || !strings.Contains(out.expiry[len(out.expiry)-1], "410") {
		t.Errorf("%s: a compacted revision is not refused with 410: %q", name, out.expiry)
	}
	return out
}
