package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/run"
)

// advertisedPeer is what both members advertise to their peers. It is nobody's address; that it is the same makes member
// and cluster ids equal.
const advertisedPeer = "http://127.0.0.1:10"

// advertisedClient is what both members advertise to clients, for the same reason.
const advertisedClient = "http://127.0.0.1:11"

// Config says what is compared with what.
type Config struct {
	Etcd    string   // path of etcd's server, the reference
	Ours    string   // path of the server that is held against it
	Cluster *Cluster // nil, or takes the place of Ours
	JSON    bool     // calls go through the JSON gateway of both, where it has them
	TLS     bool     // both make certificates for their client ports
	Etcdutl string   // path of etcd's etcdutl, which reads both servers' snapshots; "" leaves that out
	Dir     string   // folder for the data of an episode; emptied before each

	Known  *regexp.Regexp // nil, or what differences are passed over whose line it matches, to look behind an open one
	Skip   *regexp.Regexp // nil, or leaves out operations whose text it matches, for the same purpose
	Tamper Tamper         // nil, or changes what the second server answers
	Log    io.Writer      // nil, or gets every operation as it runs
}

// wideQuota is far from full and the same in both statuses; the defaults differ.
const wideQuota = "--quota-backend-bytes=4294967296"

// settings are the flags of an episode that operations depend on.
type settings struct {
	maxTxnOps       int
	maxRequestBytes int
	minTTL          int64 // seconds; follows from the election timeout
	flags           []string
}

// settingsOf draws the flags of an episode from its seed: every other one runs with values far from the defaults.
func settingsOf(seed uint64) settings {
	s := settings{maxTxnOps: 128, maxRequestBytes: 1536 << 10, minTTL: 2}
	election, heartbeat := 1000, 100
	if seed%2 == 1 {
		s = settings{maxTxnOps: 9, maxRequestBytes: 1 << 20, minTTL: 1}
		election, heartbeat = 200, 20
	}
	s.flags = []string{
		fmt.Sprintf("--max-txn-ops=%d", s.maxTxnOps),
		fmt.Sprintf("--max-request-bytes=%d", s.maxRequestBytes),
		fmt.Sprintf("--election-timeout=%d", election),
		fmt.Sprintf("--heartbeat-interval=%d", heartbeat),
		wideQuota,
		"--watch-progress-notify-interval=250ms",
		"--bcrypt-cost=4",
		"--log-level=warn",
	}
	return s
}

// forCluster gives settings the election timeout of a cluster, which has more to do for an election than one server.
func (s settings) forCluster(c *Cluster) settings {
	s.minTTL = c.minTTL()
	s.flags = append(s.flags, fmt.Sprintf("--election-timeout=%d", c.ElectionMillis),
		fmt.Sprintf("--heartbeat-interval=%d", c.ElectionMillis/10))
	return s
}

// An Episode is what is run from one seed.
type Episode struct {
	Seed uint64
	Ops  int          // operations drawn, at least; the fixed parts come on top
	Keep map[int]bool // nil, or the places of the drawn operations to run, for making a failing list small
}

// A Failure says that the two servers did not agree, where, and after what.
type Failure struct {
	Seed   uint64
	At     int      // place of the operation in the list; its length when the difference came after it
	Total  int      // operations in the list
	Recent []string // the operations before it, the last one being it
	Found  string
	Logs   [2]string // the last lines each server wrote, the reference first
}

func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d, operation %d of %d:\n%s\n\nthe operations up to there:\n%s\n\nthe end of etcd's log:\n%s\n\nthe end of ours' log:\n%s",
		f.Seed, f.At, f.Total, f.Found, strings.Join(f.Recent, "\n"), f.Logs[0], f.Logs[1])
}

// Run runs one episode and adds what it met to tally. The error is a *Failure when the servers do not agree and
// something else when the comparison could not be made. The number is that of operations run.
func Run(ctx context.Context, cfg Config, e Episode, tally *Tally) (int, error) {
	w := &world{
		differences: cfg.differences(),
		tally:       tally,
		settings:    settingsOf(e.Seed),
		etcdutl:     cfg.Etcdutl,
		known:       cfg.Known,
		skip:        cfg.Skip,
		cluster:     cfg.Cluster,
		began:       time.Now(),
		current:     1,
		leases:      [2]map[int64]int64{{}, {}},
		chosen:      map[int64]int64{},
	}
	if cfg.Cluster != nil {
		w.settings = w.settings.forCluster(cfg.Cluster)
	}
	ops := generate(e.Seed, e.Ops, w.settings)
	if err := w.open(ctx, cfg); err != nil {
		return 0, err
	}
	defer w.close()
	ran := &transcript{log: cfg.Log}
	for i, o := range ops {
		if e.Keep != nil && !e.Keep[i] || w.skips(o) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return ran.count, err
		}
		if d := cfg.disturbance(i); d != nil {
			ran.add(fmt.Sprintf("%6d  disturbed: %s", i, d.Name))
			if err := w.disturb(ctx, d); err != nil {
				return ran.count, ran.failed(w, e.Seed, i, len(ops), err)
			}
		}
		ran.add(fmt.Sprintf("%6d  %s", i, o))
		if err := o.run(w); err != nil {
			return ran.count, ran.failed(w, e.Seed, i, len(ops), err)
		}
	}
	for _, part := range w.closing(ctx, e.Seed) {
		if w.unbuilt[part.needs] != "" || w.omitted[part.needs] != "" || cfg.Skip != nil && cfg.Skip.MatchString(part.name) {
			continue
		}
		ran.add("        " + part.name)
		if err := part.run(); err != nil {
			return ran.count, ran.failed(w, e.Seed, len(ops), len(ops), err)
		}
	}
	if n := int(w.targets[1].calls.Load()); cfg.JSON && n < ran.count/2 {
		return ran.count, fmt.Errorf("only %d of %d operations could be put in JSON", n, ran.count)
	}
	return ran.count, nil
}

// disturbance returns what happens to a cluster before the operation at a place.
func (cfg Config) disturbance(place int) *Disturbance {
	if cfg.Cluster == nil || cfg.Cluster.Disturb == nil {
		return nil
	}
	return cfg.Cluster.Disturb(place)
}

// transcript remembers the operations run last.
type transcript struct {
	log    io.Writer
	recent []string
	count  int
}

// recentMax is how many operations a report shows; a difference is seldom older than a scene.
const recentMax = 30

// logLines is how much of a server's log a report shows; servers log warnings only.
const logLines = 10

func (t *transcript) add(line string) {
	t.count++
	if t.log != nil {
		fmt.Fprintln(t.log, line)
	}
	t.recent = append(t.recent, line)
	if len(t.recent) > recentMax {
		t.recent = t.recent[1:]
	}
}

// failed makes the error of an episode from that of an operation.
func (t *transcript) failed(w *world, seed uint64, at, total int, err error) error {
	var d *difference
	if !errors.As(err, &d) {
		return fmt.Errorf("seed %d, operation %d: %w", seed, at, err)
	}
	f := &Failure{Seed: seed, At: at, Total: total, Recent: t.recent, Found: d.text}
	for t, target := range w.targets {
		f.Logs[t] = target.server.LogTail(logLines)
	}
	return f
}

// open starts both servers on empty folders and the watches on everything.
func (w *world) open(ctx context.Context, cfg Config) error {
	for t, binary := range []string{cfg.Etcd, cfg.Ours} {
		name := []string{"etcd", "ours"}[t]
		dir := filepath.Join(cfg.Dir, name)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("start an episode: %w", err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("start an episode: %w", err)
		}
		side, err := w.start(ctx, t, binary, dir, clientTLS(cfg))
		if err != nil {
			w.close()
			return err
		}
		w.targets[t] = &target{name: name, dir: dir, server: side, json: cfg.JSON, tls: clientTLS(cfg), web: http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS(cfg)}}}
	}
	w.targets[1].tamper = cfg.Tamper
	for t := range w.targets {
		if err := w.connect(t); err != nil {
			w.close()
			return err
		}
	}
	w.keys = map[string]keyState{}
	for t := range w.targets {
		if r, ok := w.targets[t].call(0, memberStatus, nil, &pb.StatusRequest{}).only().(*pb.StatusResponse); ok {
			w.selfID[t] = r.Header.MemberId
		}
	}
	if w.chosen != nil {
		w.chosen[int64(w.selfID[0])] = int64(w.selfID[1])
	}
	return nil
}

// start starts one side, with TLS if its clients have one.
func (w *world) start(ctx context.Context, t int, binary, dir string, secure *tls.Config) (Side, error) {
	if t == 1 && w.cluster != nil {
		return w.cluster.Open(ctx, dir, w.settings.flags)
	}
	cfg := run.Config{
		Binary: binary, Dir: dir, Args: w.settings.flags, TLS: secure,
		AdvertisePeer: advertisedPeer, AdvertiseClient: advertisedClient,
	}
	if cfg.TLS != nil {
		cfg.Args = append(slices.Clone(cfg.Args), "--auto-tls")
	}
	server, err := run.Start(ctx, cfg)
	return single{server}, err
}

// clientTLS believes whatever a server makes for itself; nil is plaintext.
func clientTLS(cfg Config) *tls.Config {
	if !cfg.TLS {
		return nil
	}
	return &tls.Config{InsecureSkipVerify: true}
}

// connect opens connections and histories of a side that has just started, one history on each member. They begin with the
// oldest revision kept, as a watch from the past is owed everything from there on.
func (w *world) connect(t int) error {
	target := w.targets[t]
	if err := target.connect(); err != nil {
		return err
	}
	if t == 1 && w.cluster != nil {
		if err := target.learnIDs(); err != nil {
			return w.differ("%v", err)
		}
	}
	var all []*history
	for conn := range target.members {
		h, err := target.openHistory(conn, max(2, w.compacted))
		if err != nil {
			return w.differ("%v", err)
		}
		all = append(all, h)
	}
	w.histories[t] = all[0]
	if t == 1 {
		w.others = all[1:]
	}
	return nil
}

func (w *world) close() {
	w.closeStreams()
	for _, t := range w.targets {
		if t != nil {
			t.close()
			t.server.Kill()
		}
	}
}

// opening draws what every episode begins with: the rules of a store nobody has compacted yet. With atZero the first
// compaction is at 0, which is allowed once.
func (g *gen) opening(atZero bool) []op {
	never := g.hashKV(0)
	never.rule = "1.8 HashKV of a store never compacted has compact_revision -1"
	never.met = saw(func(r *pb.HashKVResponse) bool { return r.CompactRevision == -1 })
	first := g.compact(0, true)
	first.rule, first.met = "1.8 first compaction at 0", done
	ops := []op{
		g.call(kvRange, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}),
		g.call(memberList, &pb.MemberListRequest{Linearizable: true}),
		g.call(put, &pb.PutRequest{Key: []byte("a"), Value: []byte("1")}),
		never,
	}
	if atZero {
		ops = append(ops, first, g.hashKV(0))
	}
	if g.chance(2) {
		ops = append(ops, g.call(compact, &pb.CompactionRequest{Revision: -1}))
	}
	return ops
}
