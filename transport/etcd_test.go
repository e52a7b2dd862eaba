package transport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/test/etcd"
)

var record = flag.Bool("record", false, "write what etcd sends in the live test to testdata")

// golden names the file with the bytes of a stream that an etcd sent.
func golden(kind stream) string {
	return filepath.Join("testdata", "etcd-"+etcd.Version+"-"+string(kind))
}

// TestGolden reads streams that an etcd sent (written by: go test ./transport -run TestEtcdFounds -record) and compares
// what we would have sent for the same messages, byte for byte.
func TestGolden(t *testing.T) {
	for _, kind := range []stream{streamMsgApp, streamMessage} {
		b, err := os.ReadFile(golden(kind))
		if err != nil {
			t.Fatal(err)
		}
		types := sameBytes(t, kind, b)
		for _, typ := range map[stream][]raftpb.MessageType{
			streamMsgApp:  {raftpb.MsgApp, raftpb.MsgHeartbeat},
			streamMessage: {raftpb.MsgHeartbeat, raftpb.MsgPreVote, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgAppResp, raftpb.MsgProp},
		}[kind] {
			if types[typ] == 0 {
				t.Errorf("%s: no %v among what was recorded", kind, typ)
			}
		}
	}
}

// sameBytes decodes a stream, encodes it again and compares. It returns how many messages of each type there were.
func sameBytes(t *testing.T, kind stream, b []byte) map[raftpb.MessageType]int {
	t.Helper()
	ms, err := decodeAll(kind, bytes.NewReader(b), messageBytesMax)
	if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%s: %v", kind, err)
	}
	types := map[raftpb.MessageType]int{}
	for _, m := range ms {
		types[m.GetType()]++
	}
	if again := encodeAll(t, kind, ms); !bytes.HasPrefix(b, again) || err == io.EOF && len(again) != len(b) {
		t.Errorf("%s: %d messages of etcd in %d bytes; ours differ or are %d", kind, len(ms), len(b), len(again))
	}
	return types
}

// etcdProcess is an etcd with an empty data folder.
type etcdProcess struct{ client, peer string }

// startEtcd starts one whose peer URL is peer. In flags, PEER stands for that.
func startEtcd(t *testing.T, peer string, flags ...string) *etcdProcess {
	t.Helper()
	e := &etcdProcess{client: etcd.FreeURL(t), peer: peer}
	output, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(etcd.Binary(t, "etcd"), append([]string{
		"--name", "e", "--data-dir", t.TempDir(), "--listen-client-urls", e.client, "--advertise-client-urls", e.client,
		"--listen-peer-urls", e.peer, "--initial-advertise-peer-urls", e.peer, "--unsafe-no-fsync",
	}, flags...)...)
	for i, arg := range cmd.Args {
		cmd.Args[i] = strings.ReplaceAll(arg, "PEER", e.peer)
	}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed, and says so
		if err := output.Close(); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(output.Name()); t.Failed() && err == nil {
			t.Logf("etcd's log ends with:\n%s", b[max(0, len(b)-4<<10):])
		}
	})
	return e
}

// ctl runs etcdctl and returns what it prints.
func (e *etcdProcess) ctl(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(etcd.Binary(t, "etcdctl"), append([]string{"--endpoints", e.client, "--command-timeout", "20s"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// live is a raft node of ours behind a transport. It has no state machine.
type live struct {
	*member
	node *raft.RawNode
	log  *raft.MemoryStorage
	conf *raftpb.ConfState

	wire wire

	mu    sync.Mutex // guards the fields above, not those of wire, and below
	types map[raftpb.MessageType]int
	term  uint64
	state raft.StateType
}

// Step, ReportUnreachable, ReportSnapshot and IsIDRemoved are the live node's Raft.
func (l *live) Step(m *raftpb.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.types[m.GetType()]++
	return l.node.Step(m)
}

func (l *live) ReportUnreachable(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.node.ReportUnreachable(id)
}

func (l *live) ReportSnapshot(id uint64, arrived bool) { l.raft.ReportSnapshot(id, arrived) }
func (l *live) IsIDRemoved(uint64) bool                { return false }

// startLive starts a node with an empty log that listens at url and knows etcd.
func startLive(t *testing.T, url string, id, clusterID, etcdID uint64, e *etcdProcess) *live {
	t.Helper()
	l := &live{log: raft.NewMemoryStorage(), types: map[raftpb.MessageType]int{}}
	var err error
	l.node, err = raft.NewRawNode(&raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: l.log, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 512,
		CheckQuorum: true, PreVote: true, Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	if err == nil {
		l.member = newMember(t, fixed(strings.TrimPrefix(url, "http://")), id, func(c *Config) {
			c.ClusterID, c.URLs, c.Raft, c.Dial = clusterID, []string{url}, l, l.wire.dial
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	l.AddPeer(etcdID, []string{e.peer})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(2 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			l.advance(t)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// fixed is a network with one address to listen on.
type fixed string

func (f fixed) listen(t *testing.T, _ uint64) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", string(f))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (fixed) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// advance does what raft asks for. Time passes in it, a heartbeat interval every 50 calls.
func (l *live) advance(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.types[-1]++; l.types[-1]%50 == 0 {
		l.node.Tick()
	}
	for l.node.HasReady() {
		r := l.node.Ready()
		var err error
		if !raft.IsEmptySnap(r.Snapshot) {
			err = l.log.ApplySnapshot(r.Snapshot)
		}
		err = errors.Join(err, l.log.Append(r.Entries))
		if !raft.IsEmptyHardState(r.HardState) {
			err = errors.Join(err, l.log.SetHardState(r.HardState))
		}
		for _, e := range r.CommittedEntries {
			if e.GetType() == raftpb.EntryConfChange {
				cc := new(raftpb.ConfChange)
				err = errors.Join(err, proto.Unmarshal(e.Data, cc))
				l.conf = l.node.ApplyConfChange(cc)
			}
		}
		if err != nil {
			t.Error(err)
		}
		l.Send(r.Messages)
		l.node.Advance(r)
	}
	status := l.node.BasicStatus()
	l.term, l.state = status.GetTerm(), status.RaftState
}

// got returns how many messages of a type have come.
func (l *live) got(typ raftpb.MessageType) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.types[typ]
}

func (l *live) leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == raft.StateLeader
}

// wire keeps what comes over the connections that are dialled.
type wire struct {
	mu    sync.Mutex // guards the field below, and what its elements keep
	conns []*tapped
}

type tapped struct {
	net.Conn
	w       *wire
	out, in bytes.Buffer
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, &tapped{Conn: conn, w: w})
	return w.conns[len(w.conns)-1], nil
}

func (c *tapped) Write(b []byte) (int, error) {
	c.w.mu.Lock()
	c.out.Write(b)
	c.w.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.in.Write(b[:n])
	return n, err
}

// streams returns the bodies of the answers to requests for a stream.
func (w *wire) streams(t *testing.T, kind stream) (bodies [][]byte) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(c.out.Bytes())))
		if err != nil || !strings.HasPrefix(req.URL.Path, pathStream+string(kind)) {
			continue
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(c.in.Bytes())), req)
		if err != nil || resp.StatusCode != http.StatusOK {
			continue
		}
		b, _ := io.ReadAll(resp.Body) // the answer has no end yet
		bodies = append(bodies, b)
	}
	return bodies
}

// TestEtcdFounds founds a cluster of an etcd and a node of ours. etcd is elected with our vote, replicates to us, hands
// the leadership over, forwards what its client writes, and takes our appends. Everything it sends is compared with what
// we would have sent.
func TestEtcdFounds(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd")
	}
	url := etcd.FreeURL(t)
	e := startEtcd(t, etcd.FreeURL(t), "--initial-cluster", "e=PEER,us="+url, "--initial-cluster-token", "live")
	us, theirs := membership.MemberID([]string{url}, "live", 0), membership.MemberID([]string{e.peer}, "live", 0)
	cluster := membership.ClusterID([]kv.MemberID{us, theirs})
	l := startLive(t, url, uint64(us), cluster, uint64(theirs), e)

	e.ctl(t, "put", "a", "1")
	for _, typ := range []raftpb.MessageType{raftpb.MsgPreVote, raftpb.MsgVote, raftpb.MsgApp, raftpb.MsgHeartbeat} {
		eventually(t, fmt.Sprintf("etcd sends %v", typ), func() bool { return l.got(typ) > 0 || l.leads() })
	}
	if l.leads() { // our node may have been faster
		t.Log("our node was elected first")
	} else {
		for i := range 20 {
			e.ctl(t, "put", fmt.Sprint("key", i), strings.Repeat("v", i*100))
		}
		e.ctl(t, "move-leader", hex(uint64(us)))
	}
	eventually(t, "we lead", l.leads)
	e.ctl(t, "put", "b", "2")
	if got := string(e.ctl(t, "get", "b", "--print-value-only")); got != "2\n" {
		t.Errorf("etcd reads %q, want 2", got)
	}
	for _, typ := range []raftpb.MessageType{raftpb.MsgVoteResp, raftpb.MsgAppResp, raftpb.MsgHeartbeatResp, raftpb.MsgProp, raftpb.MsgReadIndex} {
		eventually(t, fmt.Sprintf("etcd sends %v", typ), func() bool { return l.got(typ) > 0 })
	}
	oldSnapshot(t, l, uint64(theirs))
	if *record {
		time.Sleep(2 * heartbeatInterval) // for heartbeats of the link
	}
	for kind, bodies := range compareWithEtcd(t, l) {
		if *record {
			if err := os.WriteFile(golden(kind), bodies[len(bodies)-1], 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// oldSnapshot sends a snapshot of a term long gone: etcd takes the database and raft ignores it.
func oldSnapshot(t *testing.T, l *live, to uint64) {
	t.Helper()
	database := bytes.Repeat([]byte("no database"), 1<<16)
	l.snapshots.body, l.snapshots.size = bytes.NewReader(database), int64(len(database))
	l.Send([]*raftpb.Message{snapshotMessage(l.member, &member{id: to}, 1, 1)})
	eventually(t, "the outcome is reported", func() bool { return len(l.raft.reports()) == 1 })
	if !l.raft.reports()[0] {
		t.Error("etcd did not take a snapshot")
	}
}

// compareWithEtcd compares every stream that etcd sent and returns them.
func compareWithEtcd(t *testing.T, l *live) map[stream][][]byte {
	t.Helper()
	all := map[stream][][]byte{}
	for _, kind := range []stream{streamMsgApp, streamMessage} {
		bodies := l.wire.streams(t, kind)
		if len(bodies) == 0 {
			t.Fatalf("%s: etcd sent no stream", kind)
		}
		for _, b := range bodies {
			t.Logf("%s: %d bytes, %v", kind, len(b), sameBytes(t, kind, b))
		}
		all[kind] = bodies
	}
	return all
}

// TestEtcdSnapshots adds our node to an etcd that has forgotten the beginning of its log, so that it is sent a snapshot. Then
// our node leads and sends the same one to another etcd, which serves what is in it and the entries that follow.
func TestEtcdSnapshots(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcds")
	}
	e := startEtcd(t, etcd.FreeURL(t), "--initial-cluster", "e=PEER", "--snapshot-count", "5", "--snapshot-catchup-entries", "5",
		"--max-learners", "2", "--strict-reconfig-check=false") // it wants members to be connected for five seconds
	for i := range 20 {
		e.ctl(t, "put", fmt.Sprint("key", i), strings.Repeat("v", 1000))
	}
	url, second := etcd.FreeURL(t), etcd.FreeURL(t)
	added := e.add(t, "second", second) // first, so that the snapshot knows both: raft takes none that it is not in
	us := e.add(t, "us", url)
	l := startLive(t, url, us.Member.ID, us.Header.ClusterID, us.Header.MemberID, e)
	eventually(t, "a snapshot arrives", func() bool { return l.got(raftpb.MsgSnap) > 0 })
	e.ctl(t, "put", "after", "it")
	eventually(t, "entries follow", func() bool { return l.got(raftpb.MsgApp) > 1 })
	compareWithEtcd(t, l)

	e.ctl(t, "member", "promote", hex(us.Member.ID))
	e.ctl(t, "move-leader", hex(us.Member.ID))
	eventually(t, "we lead", l.leads)
	kept, _ := l.snapshots.received()
	database := kept[len(kept)-1]
	l.snapshots.body, l.snapshots.size = bytes.NewReader(database), int64(len(database))
	l.AddPeer(added.Member.ID, []string{second})
	e2 := startEtcd(t, second, "--name", "second", "--initial-cluster-state", "existing",
		"--initial-cluster", "second=PEER,us="+url+",e="+e.peer)
	eventually(t, "the snapshot was sent", func() bool { return len(l.raft.reports()) > 0 })
	if !l.raft.reports()[0] {
		t.Error("etcd did not take a snapshot")
	}
	for key, want := range map[string]string{"key7": strings.Repeat("v", 1000), "after": "it"} {
		eventually(t, "the second etcd has "+key, func() bool {
			return string(e2.ctl(t, "get", key, "--print-value-only", "--consistency", "s")) == want+"\n"
		})
	}
}

// added is what etcdctl tells of a new member.
type added struct {
	Header struct {
		ClusterID uint64 `json:"cluster_id"`
		MemberID  uint64 `json:"member_id"`
	} `json:"header"`
	Member struct{ ID uint64 } `json:"member"`
}

// add makes whoever is to serve at peer a learner.
func (e *etcdProcess) add(t *testing.T, name, peer string) (a added) {
	t.Helper()
	if err := json.Unmarshal(e.ctl(t, "member", "add", name, "--learner", "--peer-urls", peer, "-w", "json"), &a); err != nil {
		t.Fatal(err)
	}
	return a
}
