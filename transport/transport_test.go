package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestMessagesArrive sends every kind of message that travels between three members and checks that each arrives as it
// was sent, and in order on its channel.
func TestMessagesArrive(t *testing.T) {
	ms := cluster(t, &loopback{}, 3, nil)
	kinds := []raftpb.MessageType{
		raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgAppResp, raftpb.MsgHeartbeatResp, raftpb.MsgProp, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp,
		raftpb.MsgTimeoutNow, raftpb.MsgTransferLeader,
	}
	const rounds = 50
	want := map[*member]map[bool][]*raftpb.Message{} // by receiver, and whether it is an append
	for i := range rounds {
		for _, from := range ms {
			var batch []*raftpb.Message
			for _, to := range ms {
				if from == to {
					continue
				}
				if want[to] == nil {
					want[to] = map[bool][]*raftpb.Message{}
				}
				for k, kind := range kinds {
					m := message(kind, from, to, uint64(i*len(kinds)+k))
					batch = append(batch, m)
					want[to][kind == raftpb.MsgApp] = append(want[to][kind == raftpb.MsgApp], proto.Clone(m).(*raftpb.Message))
				}
			}
			from.Send(append(batch, &raftpb.Message{}, &raftpb.Message{To: new(uint64(99))}))
		}
	}
	for _, to := range ms {
		n := rounds * len(kinds) * (len(ms) - 1)
		eventually(t, "all messages arrive", func() bool { return len(to.raft.messages()) >= n })
		for _, from := range ms {
			for _, isApp := range []bool{true, false} {
				is := func(m *raftpb.Message) bool { return m.GetFrom() == from.id && (m.GetType() == raftpb.MsgApp) == isApp }
				compare(t, filter(to.raft.messages(), is), filter(want[to][isApp], is))
			}
		}
	}
	for _, m := range ms {
		for _, to := range ms {
			if n := m.raft.lost(to.id); n != 0 {
				t.Errorf("member %d was told %d times that %d is unreachable", m.id, n, to.id)
			}
		}
	}
}

func filter(ms []*raftpb.Message, keep func(*raftpb.Message) bool) (kept []*raftpb.Message) {
	for _, m := range ms {
		if keep(m) {
			kept = append(kept, m)
		}
	}
	return kept
}

func compare(t *testing.T, got, want []*raftpb.Message) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages arrived, %d were sent", len(got), len(want))
	}
	for i := range got {
		if !proto.Equal(got[i], want[i]) {
			t.Fatalf("message %d is %v, want %v", i, got[i], want[i])
		}
	}
}

// TestPipeline sends to a member that has not opened any stream: each message is posted by itself.
func TestPipeline(t *testing.T) {
	on := &loopback{}
	a, b := newMember(t, on, 1, nil), newMember(t, on, 2, nil)
	a.AddRemote(2, []string{b.url()})
	for i := range uint64(20) {
		a.Send([]*raftpb.Message{message(raftpb.MsgAppResp, a, b, i)})
	}
	eventually(t, "all messages arrive", func() bool { return len(b.raft.messages()) == 20 })
	eventually(t, "the sender is known where it can be answered", func() bool { return b.peer(1) != nil })
	b.Send([]*raftpb.Message{message(raftpb.MsgApp, b, a, 7)})
	eventually(t, "the answer arrives", func() bool { return len(a.raft.messages()) == 1 })
	if s := a.Stats().Peers[2]; s.Known || s.SentBytes == 0 || !a.ActiveSince(2).IsZero() {
		t.Errorf("a remote counts as a peer: %+v", s)
	}
	if got := b.Stats().Peers[1].ReceivedBytes; got == 0 {
		t.Errorf("no bytes were counted as received")
	}
}

// TestReconnect restarts a member's listener: its peers come back by themselves, and are active in between only as
// long as they could not know.
func TestReconnect(t *testing.T) {
	ms := cluster(t, &loopback{}, 2, nil)
	a, b := ms[0], ms[1]
	since, before := a.ActiveSince(2), a.Stats().Peers[2].Disconnections
	if since.IsZero() {
		t.Fatal("a peer with open streams is not active")
	}
	b.hangUp()
	eventually(t, "the peer is inactive", func() bool { return a.ActiveSince(2).IsZero() })
	// More than one where something still arrived on a connection after another was gone.
	if a.Stats().Peers[2].Disconnections == before {
		t.Error("no disconnection was counted")
	}
	l, err := net.Listen("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	b.serve(l)
	eventually(t, "the peer is active", func() bool { return !a.ActiveSince(2).IsZero() && b.open(1) && a.open(2) })
	if !a.ActiveSince(2).After(since) {
		t.Error("the break does not show in the time since when the peer is active")
	}
	b.Send([]*raftpb.Message{message(raftpb.MsgApp, b, a, 1), message(raftpb.MsgHeartbeat, b, a, 2)})
	eventually(t, "messages arrive again", func() bool { return len(a.raft.messages()) >= 2 })
}

// TestRefused checks that a peer which was connected and whose machine refuses connections is reported once, also when
// it has several URLs, and one that never was connected is not.
func TestRefused(t *testing.T) {
	on := &loopback{}
	a, b := newMember(t, on, 1, nil), newMember(t, on, 2, nil)
	unused := on.listen(t, 0)
	address := unused.Addr().String()
	if err := unused.Close(); err != nil {
		t.Fatal(err)
	}
	a.AddPeer(3, []string{"http://" + address})
	a.AddPeer(2, []string{"http://" + address, b.url()})
	b.AddPeer(1, []string{a.url()})
	for range 2 {
		eventually(t, "streams are open", func() bool { return a.open(2) && b.open(1) })
		b.hangUp()
		if id := <-a.refused; id != 2 {
			t.Fatalf("member %d is said to be down, it was never up", id)
		}
		l, err := net.Listen("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		b.serve(l)
	}
	if n := len(a.refused); n != 0 {
		t.Errorf("%d more reports", n)
	}
}

// TestRemovedMember checks that a member which was removed hears of it, by the answer to a stream and to a post.
func TestRemovedMember(t *testing.T) {
	t.Run("stream", func(t *testing.T) {
		ms := cluster(t, &loopback{}, 2, nil)
		ms[0].raft.remove(2)
		ms[0].RemovePeer(2)
		if err := <-ms[1].result; !errors.Is(err, ErrRemoved) {
			t.Errorf("Run of the removed member returned %v, want ErrRemoved", err)
		} else {
			ms[1].result <- err
		}
	})
	t.Run("post", func(t *testing.T) {
		on := &loopback{}
		a, b := newMember(t, on, 1, nil), newMember(t, on, 2, nil)
		a.raft.remove(2)
		b.AddRemote(1, []string{a.url()})
		b.Send([]*raftpb.Message{message(raftpb.MsgVote, b, a, 1)})
		if err := <-b.result; !errors.Is(err, ErrRemoved) {
			t.Errorf("Run of the removed member returned %v, want ErrRemoved", err)
		} else {
			b.result <- err
		}
		if len(a.raft.messages()) != 0 || a.peer(2) != nil {
			t.Error("a removed member's message was taken, or it became a remote")
		}
	})
}

// TestRemovePeer checks that nothing is sent to a peer that was removed, and that its connections end.
func TestRemovePeer(t *testing.T) {
	ms := cluster(t, &loopback{}, 3, nil)
	p := ms[0].peer(2)
	ms[0].raft.remove(2)
	ms[0].RemovePeer(2)
	eventually(t, "the streams are closed", func() bool { return !isOpen(p.msgApp.box) && !isOpen(p.message.box) })
	ms[0].Send([]*raftpb.Message{message(raftpb.MsgVote, ms[0], ms[1], 1), message(raftpb.MsgVote, ms[0], ms[2], 1)})
	eventually(t, "others get theirs", func() bool { return len(ms[2].raft.messages()) == 1 })
	if len(ms[1].raft.messages()) != 0 || !ms[0].ActiveSince(2).IsZero() || ms[0].Stats().Peers[2].Known {
		t.Error("the removed peer lives on")
	}
	if ms[0].peer(2) != nil {
		t.Error("the removed peer came back as a remote")
	}
	ms[0].RemovePeer(2) // a log that is replayed does that
}

// TestUpdatePeer moves a member to another address.
func TestUpdatePeer(t *testing.T) {
	on := &loopback{}
	ms := cluster(t, on, 2, nil)
	b := ms[1]
	b.hangUp()
	l := on.listen(t, 2)
	b.address = l.Addr().String()
	b.serve(l)
	ms[0].UpdatePeer(2, []string{b.url()})
	eventually(t, "the peer is found", func() bool { return b.open(1) && !ms[0].ActiveSince(2).IsZero() })
}

// TestRequests asks the handler what it must refuse, and compares status and text with etcd's.
func TestRequests(t *testing.T) {
	a := newMember(t, &loopback{}, 1, nil)
	a.AddPeer(2, []string{"http://127.0.0.1:1"})
	a.raft.remove(3)
	ok := map[string]string{headerFrom: "2", headerVersion: "3.7.0", headerMinVersion: "3.0.0", headerCluster: hex(testCluster), headerTo: "1"}
	body := func(m *raftpb.Message) string {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	vote := func(from, to uint64) string {
		return body(&raftpb.Message{Type: raftpb.MsgVote.Enum(), From: new(from), To: new(to), Term: new(uint64(1))})
	}
	framed := func(b string) string {
		f, err := appendFrame(nil, func(dst []byte) ([]byte, error) { return append(dst, b...), nil })
		if err != nil {
			t.Fatal(err)
		}
		return string(f)
	}
	cases := []struct {
		name, method, path, body string
		header                   map[string]string
		status                   int
		text                     string
	}{
		{"message", "POST", "/raft", vote(2, 1), nil, 204, ""},
		{"message by GET", "GET", "/raft", "", nil, 405, "Method Not Allowed\n"},
		{"message of another cluster", "POST", "/raft", vote(2, 1), map[string]string{headerCluster: "c2"}, 412, "cluster ID mismatch\n"},
		{"message of an old version", "POST", "/raft", vote(2, 1), map[string]string{headerVersion: "2.3.8"}, 412, "incompatible version\n"},
		{"message of no version", "POST", "/raft", vote(2, 1), map[string]string{headerVersion: ""}, 412, "incompatible version\n"},
		{"message of a version that is none", "POST", "/raft", vote(2, 1), map[string]string{headerVersion: "three"}, 412, "incompatible version\n"},
		{"message of a newer version", "POST", "/raft", vote(2, 1), map[string]string{headerVersion: "4.1.0-rc.1+git"}, 204, ""},
		{"message of a cluster too new", "POST", "/raft", vote(2, 1), map[string]string{headerMinVersion: "3.8.0"}, 412, "incompatible version\n"},
		{"message that is none", "POST", "/raft", "\xff\xff\xff", nil, 400, ""},
		{"message from a removed member", "POST", "/raft", vote(3, 1), nil, 403, `{"message":"cannot process message from removed member"}` + "\n"},
		{"message to another member", "POST", "/raft", vote(2, 5), nil, 403, `{"message":"cannot process message to mismatch member"}` + "\n"},
		{"stream by POST", "POST", "/raft/stream/msgapp/2", "", nil, 405, "Method Not Allowed\n"},
		{"stream of another cluster", "GET", "/raft/stream/msgapp/2", "", map[string]string{headerCluster: "c2"}, 412, "cluster ID mismatch\n"},
		{"stream of no kind", "GET", "/raft/stream/2", "", nil, 404, "invalid path\n"},
		{"stream of another kind", "GET", "/raft/stream/other/2", "", nil, 404, "invalid path\n"},
		{"stream for nobody", "GET", "/raft/stream/message/x", "", nil, 404, "invalid from\n"},
		{"stream for a stranger", "GET", "/raft/stream/message/9", "", nil, 404, "error sender not found\n"},
		{"stream for a removed member", "GET", "/raft/stream/message/3", "", nil, 410, "removed member\n"},
		{"stream from another member", "GET", "/raft/stream/message/2", "", map[string]string{headerTo: "7"}, 412, "to field mismatch\n"},
		{"snapshot by GET", "GET", "/raft/snapshot", "", nil, 405, "Method Not Allowed\n"},
		{"snapshot of another cluster", "POST", "/raft/snapshot", "", map[string]string{headerCluster: "c2"}, 412, "cluster ID mismatch\n"},
		{"snapshot without a message", "POST", "/raft/snapshot", "", nil, 400, ""},
		{"snapshot with another message", "POST", "/raft/snapshot", framed(vote(2, 1)), nil, 400, "wrong raft message type\n"},
		{"probe", "GET", "/raft/probing", "", nil, 200, ""},
	}
	for _, c := range cases {
		r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		for k, v := range ok {
			r.Header.Set(k, v)
		}
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		resp := do(t, a, r)
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.status || c.text != "" && string(text) != c.text {
			t.Errorf("%s: %d %q, want %d %q", c.name, resp.StatusCode, text, c.status, c.text)
		}
	}
	a.raft.stepErr = errors.New("no")
	r := httptest.NewRequest("POST", "/raft", strings.NewReader(vote(2, 1)))
	for k, v := range ok {
		r.Header.Set(k, v)
	}
	if resp := do(t, a, r); resp.StatusCode != 500 {
		t.Errorf("a message that raft does not take: %d, want 500", resp.StatusCode)
	}
}

// do sends r to m over the network.
func do(t *testing.T, m *member, r *http.Request) *http.Response {
	t.Helper()
	u, err := parseURL(m.url())
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", u.Scheme, u.Host
	resp, err := http.DefaultClient.Do(r.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// TestAnotherCluster checks that members of two clusters do not become peers, and go on trying.
func TestAnotherCluster(t *testing.T) {
	on := &loopback{}
	a := newMember(t, on, 1, nil)
	b := newMember(t, on, 2, func(c *Config) { c.ClusterID++ })
	a.AddPeer(2, []string{b.url()})
	b.AddPeer(1, []string{a.url()})
	a.Send([]*raftpb.Message{message(raftpb.MsgVote, a, b, 1)})
	eventually(t, "the message is reported as lost", func() bool { return a.raft.lost(2) > 0 })
	if !a.ActiveSince(2).IsZero() || len(b.raft.messages()) != 0 || a.Stats().Peers[2].SentFailures == 0 {
		t.Error("members of two clusters talk to each other")
	}
}

// TestRemotesAreBounded checks that requests under ever new names do not make ever more remotes.
func TestRemotesAreBounded(t *testing.T) {
	a := newMember(t, &loopback{}, 1, nil)
	for id := range uint64(3 * remotesMax) {
		h := http.Header{}
		h.Set(headerFrom, hex(id+10))
		h.Set(headerURLs, "http://127.0.0.1:1")
		a.addSender(h)
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if n := a.remotes(); n != remotesMax {
		t.Errorf("%d remotes, want %d", n, remotesMax)
	}
}

// TestAddPeer checks who stands under an id when it is added again: a member stays as it is, a remote becomes a member.
func TestAddPeer(t *testing.T) {
	on := &loopback{}
	a, b := newMember(t, on, 1, nil), newMember(t, on, 2, nil)
	b.AddPeer(1, []string{a.url()})
	a.AddRemote(2, []string{"http://127.0.0.1:1"})
	remote := a.peer(2)
	a.AddRemote(2, []string{b.url()})
	if a.peer(2) != remote {
		t.Fatal("a remote was replaced by another")
	}
	a.AddPeer(2, []string{b.url()})
	eventually(t, "streams are open", func() bool { return a.open(2) && b.open(1) })
	member := a.peer(2)
	a.AddPeer(2, []string{"http://127.0.0.1:1"})
	a.AddRemote(2, []string{"http://127.0.0.1:1"})
	a.AddPeer(1, []string{a.url()})
	if a.peer(2) != member || a.peer(1) != nil {
		t.Error("a member was replaced, or a transport is its own peer")
	}
	select {
	case <-remote.done:
	default:
		t.Error("the remote lives on")
	}
}

// TestStopped checks that nothing is taken once Run has returned.
func TestStopped(t *testing.T) {
	ms := cluster(t, &loopback{}, 2, nil)
	a := ms[0]
	l := (&loopback{}).listen(t, 0)
	a.stop()
	a.address = l.Addr().String()
	a.serve(l)
	defer a.hangUp()
	if resp := do(t, a, httptest.NewRequest("GET", "/raft/probing", nil)); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a transport that has stopped answers %d, want 503", resp.StatusCode)
	}
	a.AddPeer(7, []string{"http://127.0.0.1:1"})
	a.Send([]*raftpb.Message{message(raftpb.MsgVote, a, ms[1], 1)})
	if a.peer(7) != nil {
		t.Error("a transport that has stopped takes in peers")
	}
}

// TestBadURLs checks that URLs which are none stop nobody.
func TestBadURLs(t *testing.T) {
	ms := cluster(t, &loopback{}, 2, nil)
	ms[0].AddPeer(3, []string{"x", "unix://a:1", "http://nohost"})
	ms[0].UpdatePeer(3, nil)
	ms[0].Send([]*raftpb.Message{
		message(raftpb.MsgVote, ms[0], &member{id: 3}, 1),
		message(raftpb.MsgVote, ms[0], ms[1], 1),
	})
	eventually(t, "the others get theirs", func() bool { return len(ms[1].raft.messages()) == 1 })
	eventually(t, "the message is reported as lost", func() bool { return ms[0].raft.lost(3) > 0 })
}

// TestUnknownName gives one peer a name that nothing answers for, the lookup hanging: the others do not wait.
func TestUnknownName(t *testing.T) {
	on := &loopback{}
	hang := func(c *Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "nowhere") {
				<-ctx.Done()
				return nil, &net.DNSError{Err: "no such host", Name: "nowhere", IsNotFound: true}
			}
			return on.dial(ctx, network, address)
		}
	}
	a, b := newMember(t, on, 1, hang), newMember(t, on, 2, nil)
	a.AddPeer(3, []string{"http://nowhere:2380"})
	a.AddPeer(2, []string{b.url()})
	b.AddPeer(1, []string{a.url()})
	eventually(t, "streams are open", func() bool { return a.open(2) && b.open(1) })
	a.Send([]*raftpb.Message{message(raftpb.MsgVote, a, &member{id: 3}, 1), message(raftpb.MsgVote, a, b, 1)})
	eventually(t, "the other gets its message", func() bool { return len(b.raft.messages()) == 1 })
	if len(a.refused) != 0 {
		t.Error("a name that is unknown counts as a machine that refuses")
	}
}

// TestTLS runs two members over TLS, each showing a certificate and asking for one.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	config := &tls.Config{
		Certificates: server.TLS.Certificates, RootCAs: pool, ClientCAs: pool, ServerName: "example.com",
		ClientAuth: tls.RequireAnyClientCert,
	}
	on := &loopback{}
	var ms []*member
	for id := range uint64(2) {
		m := newMember(t, on, id+1, func(c *Config) { c.TLS = func(string) *tls.Config { return config } })
		m.hangUp()
		l := on.listen(t, 0)
		m.address = l.Addr().String()
		m.serve(tls.NewListener(l, config))
		ms = append(ms, m)
	}
	ms[0].AddPeer(2, []string{"https://" + ms[1].address})
	ms[1].AddPeer(1, []string{"https://" + ms[0].address})
	eventually(t, "streams are open", func() bool { return ms[0].open(2) && ms[1].open(1) })
	ms[0].Send([]*raftpb.Message{message(raftpb.MsgVote, ms[0], ms[1], 1)})
	eventually(t, "the message arrives", func() bool { return len(ms[1].raft.messages()) == 1 })
}

// TestMessageLimit checks that a message larger than a member reads is lost, and nothing else.
func TestMessageLimit(t *testing.T) {
	ms := cluster(t, &loopback{}, 2, func(c *Config) { c.MessageBytesMax = 1 << 10 })
	large := message(raftpb.MsgApp, ms[0], ms[1], 1)
	large.Entries[0].Data = bytes.Repeat([]byte{'x'}, 2<<10)
	ms[0].Send([]*raftpb.Message{large})
	eventually(t, "a small message arrives", func() bool {
		ms[0].Send([]*raftpb.Message{message(raftpb.MsgApp, ms[0], ms[1], 2)})
		got := ms[1].raft.messages()
		return len(got) > 0 && got[0].GetIndex() == 2
	})
}

// TestPicker walks through the URLs of a peer.
func TestPicker(t *testing.T) {
	var p picker
	if _, err := p.pick("/"); err == nil {
		t.Fatal("a URL was picked out of none")
	}
	p.set(parseURLs([]string{"http://b:1", "http://a:1", "http://c:1"}, nil))
	r := rand.New(rand.NewPCG(1, 1))
	for _, want := range []string{"a:1", "b:1", "c:1", "a:1"} {
		u, err := p.pick("/raft")
		if err != nil || u.Host != want || u.Path != "/raft" {
			t.Fatalf("picked %v (%v), want %s", u, err, want)
		}
		for range 1 + r.IntN(3) { // several may find out that the same one does not work
			p.failed(u)
		}
	}
}
