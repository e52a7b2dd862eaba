package mixed

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/peer"
	"holdfast/test/run"
)

var (
	timeFlag    = flag.Duration("mixed.time", 15*time.Second, "how long episodes of each cluster go on; one at least is run")
	seedFlag    = flag.Uint64("mixed.seed", 0, "run the episode of this seed alone")
	opsFlag     = flag.Int("mixed.ops", 300, "operations drawn per episode")
	oursFlag    = flag.String("mixed.ours", "", "the program called Holdfast: a path, or etcd for etcd itself; that of the sources when empty")
	skipFlag    = flag.String("mixed.skip", "", "leave out operations whose text, and questions to the members whose name, matches this expression")
	keepFlag    = flag.Bool("mixed.keep", false, "keep the logs of episodes in which nothing differs, too")
	verboseFlag = flag.Bool("mixed.v", false, "write every operation as it runs")
)

//go:embed differences.txt
var differences string

// electionMillis is an election timeout that a machine holds on which other tests run too.
const electionMillis = 2000

// members are the flags of the members beside those of an episode: etcd's own comparisons of hashes, and logs so short that
// who is away for long has to be sent a snapshot.
var members = []string{
	"--log-level=info",
	"--corrupt-check-time=2s",
	"--compact-hash-check-time=2s",
	"--feature-gates=CompactHashCheck=true",
	"--snapshot-count=100",
	"--snapshot-catchup-entries=20",
}

// episodes are the clusters, what happens to them, and what they need.
var episodes = []struct {
	name  string
	kinds []Kind
	plan  plan
}{
	{"2 etcd and 1 Holdfast", []Kind{Etcd, Holdfast, Etcd}, moving(Etcd)},
	{"1 etcd and 2 Holdfast", []Kind{Holdfast, Etcd, Holdfast}, moving(Holdfast)},
	{"members swapped", []Kind{Etcd, Etcd, Etcd}, swapping},
}

// moving moves leadership from kind to kind and back, and within the kind that has two, and lets a member of each kind miss
// some entries.
func moving(most Kind) plan {
	return plan{every: 30, steps: []step{
		lead(Holdfast), lead(Etcd), lead(most), down(Holdfast, true), back(), lead(Holdfast), down(Etcd, false), back(),
		lead(Etcd), down(Holdfast, false), lead(Etcd), back(), move(Holdfast), lead(Holdfast), move(Etcd), down(Etcd, true), lead(Holdfast), back(),
	}}
}

// swapping turns a cluster of etcd into one of Holdfast and back, member by member.
var swapping = plan{every: 50, steps: []step{
	swap(Holdfast, false), lead(Holdfast), swap(Holdfast, true), lead(Etcd), swap(Holdfast, true), lead(Holdfast),
	swap(Etcd, false), lead(Etcd), swap(Etcd, true), lead(Holdfast), swap(Etcd, true), lead(Etcd),
}}

// TestMixed runs episodes of operations against each cluster.
//
//	go test ./test/mixed -run 'TestMixed/2_etcd' -mixed.seed=7    repeats one
func TestMixed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	for _, e := range episodes {
		t.Run(e.name, func(t *testing.T) {
			first := uint64(1)
			if *seedFlag != 0 {
				first = *seedFlag
			}
			began, compared, ran := time.Now(), [2]int{}, 0
			for seed := first; seed == first || *seedFlag == 0 && time.Since(began) < *timeFlag; seed++ {
				n, c := episode(t, seed, e.kinds, e.plan)
				ran += n
				for k := range c {
					compared[k] += c[k]
				}
				t.Logf("seed %d: nothing differs in %d operations", seed, n)
			}
			t.Logf("%d operations in %s; leaders compared hashes with all members: %d of etcd, %d of Holdfast", ran,
				time.Since(began).Round(time.Second), compared[Etcd], compared[Holdfast])
		})
	}
}

// episode runs one and returns the operations run and how often etcd's leaders compared hashes.
func episode(t *testing.T, seed uint64, kinds []Kind, p plan) (ran int, compared [2]int) {
	t.Helper()
	dir := t.TempDir()
	var cluster *Cluster
	cfg := peer.Config{Etcd: binaries(t)[Etcd], Ours: binaries(t)[Holdfast], Etcdutl: etcd.Binary(t, "etcdutl"), Dir: dir}
	if *skipFlag != "" {
		cfg.Skip = regexp.MustCompile(*skipFlag)
	}
	if *verboseFlag {
		cfg.Log = t.Output()
	}
	cfg.Cluster = &peer.Cluster{
		Open: func(ctx context.Context, dir string, flags []string) (peer.Side, error) {
			var err error
			cluster, err = Open(ctx, dir, binaries(t), append(slices.Clone(flags), members...), kinds...)
			if err == nil {
				cluster.skip = cfg.Skip
			}
			return cluster, err
		},
		Disturb: func(place int) *peer.Disturbance { return p.at(place, cluster) },
		Check: func(ctx context.Context) error {
			if err := cluster.Compared(ctx); err != nil {
				return err
			}
			return cluster.Healthy(ctx)
		},
		Differences:    differences,
		ElectionMillis: electionMillis,
	}
	defer func() {
		if cluster != nil {
			cluster.Close()
		}
	}()
	ran, err := peer.Run(t.Context(), cfg, peer.Episode{Seed: seed, Ops: *opsFlag}, peer.NewTally(cfg))
	if err == nil {
		compared, err = cluster.Checked()
	}
	if err != nil {
		again := fmt.Sprintf("go test ./test/mixed -count=1 -run '%s' -mixed.seed=%d -mixed.ops=%d", t.Name(), seed, *opsFlag)
		t.Fatalf("%v\n\nlogs are kept in %s\nagain: %s", err, keepLogs(t, cluster), again)
	}
	if *keepFlag {
		t.Logf("logs are kept in %s", keepLogs(t, cluster))
	}
	return ran, compared
}

// keepLogs copies the members' logs to where they outlive the test.
func keepLogs(t *testing.T, c *Cluster) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mixed-logs-")
	if err != nil || c == nil {
		return fmt.Sprint(dir, " ", err)
	}
	for _, m := range append(slices.Clone(c.gone), c.Members...) {
		text, err := os.ReadFile(m.Log)
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, m.Name+"-"+m.Kind.String()+".log"), text, 0o600))
		if err != nil {
			return err.Error()
		}
	}
	return dir
}

// binaries returns the programs by kind.
func binaries(t *testing.T) [2]string {
	t.Helper()
	both := [2]string{etcd.Binary(t, "etcd"), *oursFlag}
	switch *oursFlag {
	case "etcd":
		both[Holdfast] = both[Etcd]
	case "":
		both[Holdfast] = run.Holdfast(t)
	}
	return both
}
