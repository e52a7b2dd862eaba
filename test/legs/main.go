// Command legs runs the tests of this repository in parts, one after the other or two at a time, and prints for each what it may
// take and what it took. A part that fails or exceeds its budget fails the run; the others are run all the same.
//
//	legs check | test | peer | mixed | crash | sim | cluster | ops | hosts | kube | clients | ctl | utl | metrics | security | fuzz | bench | microbench | profile
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// leg is one part: a command, its budget and what it needs in the environment.
type leg struct {
	name   string
	budget time.Duration
	dir    string // from the root of the repository; empty is the root
	env    []string
	argv   []string
	beside bool // may run at the same time as its neighbours
}

func shell(name string, budget time.Duration, script string) leg {
	return leg{name: name, budget: budget, argv: []string{"sh", "-euc", script}}
}

// beside marks legs that may run at the same time.
func beside(legs ...leg) []leg {
	for i := range legs {
		legs[i].beside = true
	}
	return legs
}

// unprofiled builds nothing by cmd/holdfast/default.pgo. With it everything that the command consists of is compiled once more beside what its own
// packages' tests need; the binary alone is worth that.
func unprofiled(l leg) leg {
	l.env = append(l.env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -pgo=off"))
	return l
}

// The budgets hold for two cores with warm caches, with room for a slow day; what compiles for the first time has one of
// its own, in the legs called "prepare".

// staticcheck is built from a module of its own, so that the product does not depend on it.
const staticcheck = `(cd test/tools && go build -o ../../.cache/staticcheck honnef.co/go/tools/cmd/staticcheck)`

func check() []leg {
	return []leg{
		shell("formatting", 20*time.Second, `bad=$(gofmt -l $(git ls-files '*.go')); test -z "$bad" || { echo "not formatted (make fmt): $bad"; exit 1; }`),
		shell("build", 15*time.Minute, "CGO_ENABLED=0 go build -o bin/holdfast ./cmd/holdfast"),
		shell("prepare the tools", 5*time.Minute, staticcheck),
		unprofiled(shell("vet", 10*time.Minute, "go vet ./...")),
		unprofiled(shell("staticcheck", 5*time.Minute, ".cache/staticcheck ./...")),
		unprofiled(shell("unit tests", 10*time.Minute, "go test -short $(go list ./... | grep -v '^holdfast/test/')")),
	}
}

// What is built once, from other modules.
var (
	prepareEtcd = shell("prepare etcd", 10*time.Minute, "go run ./test/etcd/build")
	prepareKube = shell("prepare kube-apiserver", 20*time.Minute, "cd test/kube && go run ./apiserver")
)

func all() []leg {
	return append(append(check(), prepareEtcd, prepareKube,
		unprofiled(shell("race detector and fuzz seeds", 15*time.Minute, race))),
		beside( // the longest first
			shell("mixed, short", 6*time.Minute, "go test -count=1 ./test/mixed"),
			shell("peer, short", 6*time.Minute, "go test -count=1 ./test/peer"),
			shell("cluster, short", 6*time.Minute, "go test -count=1 -parallel 4 ./test/cluster"),
			shell("crash, short", 5*time.Minute, "go test -count=1 ./test/crash"),
			shell("bench, each row for a moment", 4*time.Minute, "go test -count=1 ./bench -run 'TestEveryRow|TestProfiles'"),
			shell("clients", 10*time.Minute, "go test -count=1 ./test/clients"),
			shell("kube, short", 5*time.Minute, "cd test/kube && CGO_ENABLED=0 go test -trimpath -count=1 ."),
			shell("ctl, short", 4*time.Minute, "go test -count=1 ./test/ctl"),
			shell("utl", 5*time.Minute, "go test -count=1 ./test/utl"),
			shell("metrics", 3*time.Minute, "go test -count=1 ./test/metrics"),
			shell("security, short", 4*time.Minute, "go test -count=1 ./test/security"),
			shell("hosts", 4*time.Minute, "go test -count=1 ./test/hosts"),
			shell("ops", 4*time.Minute, "go test -count=1 ./test/ops"),
			shell("sim, short", 5*time.Minute, "go test -count=1 ./test/sim"),
			shell("sim, planted mistakes", 5*time.Minute, "go test -count=1 -v -tags plant_all ./test/sim -run TestPlanted"),
		)...)
}

// race runs the tests under the race detector. Its own code, which is C, crashes now and then in bubbles of time with very many goroutines (Go
// 1.26.8, once in four runs of package server): then, if no test failed and no race was found, what did not pass is run once more.
const race = `out=.cache/race.txt
detect() { go test -race -short $(go list ./... | grep -v '^holdfast/test') >$out 2>&1; }
if detect; then cat $out; exit 0; fi
if ! grep -q '^runtime: g 0 .* unknown pc' $out || grep -q -e '^ *--- FAIL' -e 'DATA RACE' -e '^panic:' $out; then cat $out; exit 1; fi
echo 'the race detector crashed; once more'
detect || { cat $out; exit 1; }
cat $out`

// peer holds 200,000 operations (OPS) against etcd, and then etcd against itself; or it repeats one SEED of so many
// operations.
const peer = `if test -n "${SEED:-}"; then
	go test -count=1 -v -timeout 30m ./test/peer -run TestPeer/episodes -peer.seed="$SEED" -peer.ops="${OPS:-8000}"
else
	HOLDFAST_PEER_SELF=1 HOLDFAST_PEER_OPS="${OPS:-200000}" go test -count=1 -v -timeout 45m ./test/peer -peer.ops=8000
fi`

// cluster records the figures of Holdfast and etcd, in turns, and runs ROUNDS rounds and the tests with names; or it repeats the rounds
// from one SEED.
const cluster = `if test -n "${SEED:-}"; then
	go test -count=1 -v -timeout 120m ./test/cluster -run TestRounds -seed="$SEED" -rounds="${ROUNDS:-1}"
else
	go test -count=1 -v -timeout 30m ./test/cluster -run 'Failover|E14' -measure=20 -record="$PWD/bench/results/$(date +%F)-cluster.jsonl"
	go test -count=1 -v -timeout 30m ./test/cluster -run E14 -e14.mb=1024 -record="$PWD/bench/results/$(date +%F)-cluster.jsonl"
	go test -count=1 -v -timeout 120m -parallel 2 ./test/cluster -rounds="${ROUNDS:-300}"
fi`

// mixed holds each kind of cluster against etcd for TIME, or repeats one SEED.
const mixed = `go test -count=1 -v -timeout 40m ./test/mixed -mixed.time="${TIME:-5m}" -mixed.ops=1200 -mixed.seed="${SEED:-0}"`

// planted checks the simulator's judge: a build for each mistake made on purpose, which must find it.
const planted = `for file in test/sim/plant_*_test.go; do
	tag=$(basename "$file" _test.go)
	go vet -tags "$tag" ./test/sim
	go test -count=1 -v -timeout 10m -tags "$tag" ./test/sim -run TestPlanted
done`

// bench measures what the environment says: ROWS, ROUNDS, MINUTES, HOLDFAST, KEEP.
const bench = `DIR="${DIR:-.cache/bench}" bin/holdfast bench --etcd=.cache/etcd-3.7.3/etcd --results=bench/results`

// microbench runs the benchmarks beside the hot paths COUNT times and compares them with bench/micro.txt, which RECORD=true replaces.
const microbench = `(cd test/tools && go build -o ../../.cache/benchstat golang.org/x/perf/cmd/benchstat)
now=.cache/microbench.txt
: >$now
while read -r pkg pattern; do
	go test -run '^$' -bench "$pattern" -benchmem -count "${COUNT:-6}" -benchtime "${BENCHTIME:-200ms}" "$pkg" | tee -a $now
done <<-'END'
	./api ^(BenchmarkCodec|BenchmarkGet)$
	./apply ^BenchmarkPut$
	./mvcc ^(BenchmarkPut|BenchmarkRange|BenchmarkCount100k|BenchmarkPage500of100k)$
	./mvcc/census ^(BenchmarkCreate|BenchmarkLocate)$
	./watch ^(BenchmarkFanout|BenchmarkAppend)$
	./raftlog ^(BenchmarkEncodeEntry|BenchmarkAppend)$
	./replica ^BenchmarkPropose$
	./transport ^(BenchmarkMsgAppStream|BenchmarkProposals)$
END
if test -n "${RECORD:-}"; then cp $now bench/micro.txt; else .cache/benchstat bench/micro.txt $now; fi`

// profile has bench record what the member does with its CPU, and makes of it what the compiler goes by when it builds the binary.
const profile = `rm -rf .cache/profiles
DIR="${DIR:-.cache/bench}" bin/holdfast bench --rows='^(put-(16|1000|tls-1000|members-3)|get-(16|1000)|kube-update-200|list-10000|page-500|watch-(tls-)?1000)$' \
	--rounds="${ROUNDS:-1}" --profiles=.cache/profiles --results=.cache/profiles/results
go tool pprof -proto .cache/profiles/*.pb.gz >.cache/profiles/default.pgo
mv .cache/profiles/default.pgo cmd/holdfast/default.pgo
ls -l cmd/holdfast/default.pgo`

// fuzzAll runs each fuzz target for FUZZTIME.
const fuzzAll = `for pkg in $(go list ./... | grep -v '^holdfast/test'); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "$pkg $target"
		go test -run '^$' -fuzz "^$target$" -fuzztime "${FUZZTIME:-30s}" "$pkg"
	done
done`

// strangers runs the fuzz targets of what listens, for FUZZTIME each.
const strangers = `for target in api/FuzzPort api/FuzzConstantPorts api/FuzzGateway api/FuzzMetadata transport/FuzzMsgAppStream transport/FuzzMessageStream; do
	go test -run '^$' -fuzz "^${target#*/}$" -fuzztime "${FUZZTIME:-30s}" "./${target%/*}"
done`

// long are the long forms of the whole-system tests, with what they need.
var long = map[string][]leg{
	"peer":  {prepareEtcd, shell("peer", 45*time.Minute, peer)},
	"mixed": {prepareEtcd, shell("mixed", 45*time.Minute, mixed)},
	"sim": {
		shell("sim", 60*time.Minute, `go test -count=1 -v -timeout 60m ./test/sim -seed="${SEED:-1}" -rounds="${ROUNDS:-500}"`),
		shell("sim, every majority lost", 40*time.Minute,
			`go test -count=1 -v -timeout 40m ./test/sim -run TestRecoverFromAnyLoss -seed="${SEED:-1}" -rounds="${ROUNDS:-500}" -losses=60`),
		shell("sim, planted mistakes", 30*time.Minute, planted),
	},
	"cluster": {prepareEtcd, shell("cluster", 150*time.Minute, cluster)},
	"ops":     {prepareEtcd, shell("ops", 15*time.Minute, "go test -count=1 -v -timeout 14m ./test/ops -ops.mb=1024")},
	"hosts":   {prepareEtcd, shell("hosts", 10*time.Minute, "go test -count=1 -v ./test/hosts")},
	"metrics": {prepareEtcd, shell("metrics", 15*time.Minute, "HOLDFAST_METRICS=long go test -count=1 -v -timeout 14m ./test/metrics")},
	"clients": {prepareEtcd, shell("clients", 15*time.Minute, "go test -count=1 -v ./test/clients")},
	"ctl":     {prepareEtcd, shell("ctl", 20*time.Minute, "go test -count=1 -v -timeout 20m ./test/ctl -ctl.long")},
	"utl":     {prepareEtcd, shell("utl", 30*time.Minute, "go test -count=1 -v -timeout 30m ./test/utl -older -harm=20")},
	"crash": {
		shell("crash", 30*time.Minute, "HOLDFAST_CRASHES=2000 HOLDFAST_KILLS=200 go test -count=1 -v -timeout 25m ./test/crash"),
		shell("crash, log and store", 30*time.Minute, "HOLDFAST_CRASHES=2000 go test -count=1 -v -run Crash ./raftlog ./mvcc"),
	},
	"security": {prepareEtcd,
		shell("security, decisions", 5*time.Minute, "go test -count=1 -v -run TestEveryRequest ./auth -auth.exhaustive"),
		shell("security, members", 20*time.Minute, "go test -count=1 -v -timeout 20m ./test/security -security.long"),
		shell("security, strangers at every port", 10*time.Minute, strangers)},
	"fuzz":       {shell("fuzz", 60*time.Minute, fuzzAll)},
	"bench":      {prepareEtcd, shell("bench", 90*time.Minute, bench)},
	"microbench": {shell("microbench", 20*time.Minute, microbench)},
	"profile":    {shell("profile", 30*time.Minute, profile)},
	"kube": {prepareEtcd, prepareKube, shell("kube", 30*time.Minute,
		"cd test/kube && CGO_ENABLED=0 go test -trimpath -count=1 -v -timeout 20m -run TestKube . -args -objects=10000 -limit=15m")},
}

func legsOf(what string) ([]leg, error) {
	switch what {
	case "check":
		return check(), nil
	case "test":
		return all(), nil
	}
	if legs, found := long[what]; found {
		return legs, nil
	}
	return nil, fmt.Errorf("legs: there is no %q", what)
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: legs check|test|peer|mixed|crash|sim|cluster|ops|hosts|kube|clients|ctl|utl|metrics|security|fuzz|bench|microbench|profile")
		os.Exit(2)
	}
	legs, err := legsOf(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	failed := runAll(ctx, legs)
	if len(failed) > 0 {
		fmt.Printf("failed: %s\n", strings.Join(failed, ", "))
	}
	fmt.Printf("took %v\n%d passed, %d failed\n", time.Since(began).Round(time.Second), len(legs)-len(failed), len(failed))
	if len(failed) > 0 {
		os.Exit(1)
	}
}

// besideMax is how many legs run at a time where they may: whole systems wait for clocks and disks more than they compute.
const besideMax = 2

// runAll runs legs in their order, neighbours that may at the same time, and returns the names of those that failed.
func runAll(ctx context.Context, legs []leg) (failed []string) {
	var mu sync.Mutex // guards failed, and the output of legs that run at the same time
	for len(legs) > 0 && ctx.Err() == nil {
		n := 1
		for legs[0].beside && n < len(legs) && legs[n].beside {
			n++
		}
		var lanes errgroup.Group
		lanes.SetLimit(besideMax)
		for _, l := range legs[:n] {
			lanes.Go(func() error {
				var whole bytes.Buffer
				var out io.Writer = os.Stdout
				if n > 1 { // told as a whole, at its end
					out = &whole
				}
				err := l.run(ctx, out)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					fmt.Fprintf(out, "FAIL  %s: %v\n", l.name, err)
					failed = append(failed, l.name)
				}
				_, err = whole.WriteTo(os.Stdout)
				return err
			})
		}
		if err := lanes.Wait(); err != nil {
			return append(failed, err.Error()) // nobody reads the output
		}
		legs = legs[n:]
	}
	return failed
}

// run runs one leg in a process group of its own, so that nothing it started outlives its budget.
func (l leg) run(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "----  %s (budget %v)\n", l.name, l.budget)
	ctx, cancel := context.WithTimeout(ctx, l.budget)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.argv[0], l.argv[1:]...)
	cmd.Dir, cmd.Env = l.dir, append(os.Environ(), l.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began).Round(100 * time.Millisecond)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("not done within its budget of %v", l.budget)
	}
	if err != nil {
		return fmt.Errorf("%w after %v", err, took)
	}
	fmt.Fprintf(out, "ok    %s took %v of %v\n", l.name, took, l.budget)
	return nil
}
