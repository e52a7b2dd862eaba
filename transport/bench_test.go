package transport

import (
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// answering is a raft that answers each append, or hands the answer to whoever waits.
type answering struct {
	fakeRaft
	answer func(*raftpb.Message)
}

func (a *answering) Step(m *raftpb.Message) error { a.answer(m); return nil }

// BenchmarkAppend asks how long an append of 256 bytes takes to another member and the answer back, over loopback, and
// what one costs if many are under way. Expected: two system calls a side and the scheduler, some 50 µs; with many
// under way the codec and a share of a system call, a few µs.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name  string
		depth int
	}{{"one", 1}, {"many", 256}} {
		b.Run(c.name, func(b *testing.B) {
			answers := make(chan struct{}, c.depth)
			leader := &answering{answer: func(*raftpb.Message) { answers <- struct{}{} }}
			follower := &answering{}
			from, to := benchPair(b, leader, follower)
			ack := &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1))}
			follower.answer = func(*raftpb.Message) { to.Send([]*raftpb.Message{ack}) }
			m := message(raftpb.MsgApp, &member{id: 1}, &member{id: 2}, 1)
			m.Entries[0].Data = make([]byte, 256)
			under := 0
			for b.Loop() {
				from.Send([]*raftpb.Message{m})
				if under++; under == c.depth {
					<-answers
					under--
				}
			}
			for range under {
				<-answers
			}
		})
	}
}

// benchPair connects two transports.
func benchPair(b *testing.B, rafts ...Raft) (*Transport, *Transport) {
	b.Helper()
	var ts []*Transport
	var urls []string
	for i, r := range rafts {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		urls = append(urls, "http://"+l.Addr().String())
		t := New(Config{ID: uint64(i + 1), ClusterID: 1, URLs: urls[i:], Raft: r, Log: slog.New(slog.DiscardHandler)})
		ts = append(ts, t)
		server, done := &http.Server{Handler: t.Handler()}, make(chan error, 1)
		go func() { _ = server.Serve(l) }() // ends when closed
		go func() { done <- t.Run(b.Context()) }()
		b.Cleanup(func() {
			if err := <-done; err != nil {
				b.Error(err)
			}
			_ = server.Close()
		})
	}
	ts[0].AddPeer(2, urls[1:])
	ts[1].AddPeer(1, urls[:1])
	open := func(t *Transport, id uint64) bool {
		p := t.peer(id)
		return isOpen(p.msgApp.box) && isOpen(p.message.box)
	}
	for !open(ts[0], 2) || !open(ts[1], 1) {
		time.Sleep(time.Millisecond)
	}
	return ts[0], ts[1]
}
