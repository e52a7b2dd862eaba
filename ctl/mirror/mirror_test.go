package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The clusters here are the smallest that can be mirrored: a sorted list of rows and a list of watch answers, and one
// that writes down the transactions it is sent.

type source struct {
	clientv3.KV // the rest is not to be called
	clientv3.Watcher
	revision int64
	rows     []*mvccpb.KeyValue // sorted by key
	answers  []clientv3.WatchResponse
	gets     []clientv3.Op
	watched  clientv3.Op
}

func (s *source) Get(_ context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	op := clientv3.OpGet(key, opts...)
	s.gets = append(s.gets, op)
	page := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: s.revision}}
	for _, row := range s.rows {
		k, end := string(row.Key), string(op.RangeBytes())
		if k < key || end != "\x00" && k >= end {
			continue
		}
		if len(page.Kvs) == pageKeys {
			page.More = true
			break
		}
		page.Kvs = append(page.Kvs, row)
	}
	return (*clientv3.GetResponse)(page), nil
}

func (s *source) Watch(_ context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	s.watched = clientv3.OpGet(key, opts...)
	answers := make(chan clientv3.WatchResponse, len(s.answers))
	for _, answer := range s.answers {
		answers <- answer
	}
	close(answers)
	return answers
}

func (s *source) Close() error { return nil }

type destination struct {
	clientv3.KV
	txns []string // operations, joined with blanks
	fail error
}

func (d *destination) Txn(context.Context) clientv3.Txn { return &txn{d: d} }

type txn struct {
	clientv3.Txn
	d   *destination
	ops []clientv3.Op
}

func (t *txn) Then(ops ...clientv3.Op) clientv3.Txn { t.ops = ops; return t }

func (t *txn) Commit() (*clientv3.TxnResponse, error) {
	if t.d.fail != nil {
		return nil, t.d.fail
	}
	var said []string
	for _, op := range t.ops {
		switch {
		case op.IsPut() && len(op.ValueBytes()) > 10:
			said = append(said, fmt.Sprintf("%s=%d bytes", op.KeyBytes(), len(op.ValueBytes())))
		case op.IsPut():
			said = append(said, fmt.Sprintf("%s=%s", op.KeyBytes(), op.ValueBytes()))
		default:
			said = append(said, fmt.Sprintf("-%s", op.KeyBytes()))
		}
	}
	t.d.txns = append(t.d.txns, strings.Join(said, " "))
	return &clientv3.TxnResponse{}, nil
}

func row(key, value string, revision int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: revision}
}

func put(key, value string, revision int64) *clientv3.Event {
	return (*clientv3.Event)(&mvccpb.Event{Type: mvccpb.Event_PUT, Kv: row(key, value, revision)})
}

func del(key string, revision int64) *clientv3.Event {
	return (*clientv3.Event)(&mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: row(key, "", revision)})
}

func events(all ...*clientv3.Event) clientv3.WatchResponse {
	return clientv3.WatchResponse{Events: all}
}

// ended is how a mirror in these tests ends when nothing goes wrong: the list of answers is over.
const ended = "the watch has ended"

func (s *source) mirror(t *testing.T, to *destination, cfg Config) (*Progress, error) {
	t.Helper()
	progress := new(Progress)
	if cfg.TxnOps == 0 {
		cfg.TxnOps = 128
	}
	return progress, Run(t.Context(), s, to, cfg, progress)
}

func expect(t *testing.T, to *destination, err error, wantErr string, want ...string) {
	t.Helper()
	if err == nil || err.Error() != wantErr {
		t.Errorf("ended with %v, want %q", err, wantErr)
	}
	if !slices.Equal(to.txns, want) {
		t.Errorf("transactions\n%s\nwant\n%s", strings.Join(to.txns, "\n"), strings.Join(want, "\n"))
	}
}

// What exists is copied first, then each revision becomes one transaction.
func TestCopyThenFollow(t *testing.T) {
	s := &source{revision: 7, rows: []*mvccpb.KeyValue{row("a", "1", 2), row("b", "2", 7)},
		answers: []clientv3.WatchResponse{events(put("a", "3", 8), del("b", 8), put("c", "1", 9)), events(put("c", "2", 10))}}
	to := &destination{}
	progress, err := s.mirror(t, to, Config{})
	expect(t, to, err, ended, "a=1 b=2", "a=3 -b", "c=1", "c=2")
	if keys, revision := progress.Keys.Load(), progress.Revision.Load(); keys != 6 || revision != 10 {
		t.Errorf("%d keys up to revision %d, want 6 up to 10", keys, revision)
	}
	if first := s.watched.Rev(); first != 8 {
		t.Errorf("watched from revision %d, want 8", first)
	}
}

// All pages are read at the revision of the first, and none twice.
func TestPages(t *testing.T) {
	s := &source{revision: 5}
	for i := range pageKeys*2 + 1 {
		s.rows = append(s.rows, row(fmt.Sprintf("k%05d", i), "v", 2))
	}
	to := &destination{}
	progress, err := s.mirror(t, to, Config{TxnOps: 1000})
	if err == nil || err.Error() != ended || progress.Keys.Load() != pageKeys*2+1 {
		t.Errorf("%d keys, ended with %v", progress.Keys.Load(), err)
	}
	var revisions []int64
	for _, op := range s.gets {
		revisions = append(revisions, op.Rev())
	}
	if !slices.Equal(revisions, []int64{0, 5, 5}) {
		t.Errorf("read at revisions %v", revisions)
	}
}

// The prefix is exchanged in names only at their beginning, whether what exists is copied or not.
func TestPrefixes(t *testing.T) {
	for _, revision := range []int64{0, 3} {
		s := &source{revision: 2, rows: []*mvccpb.KeyValue{row("p/p/a", "1", 2)},
			answers: []clientv3.WatchResponse{events(del("p/p/a", 3))}}
		to := &destination{}
		_, err := s.mirror(t, to, Config{Prefix: "p/", DestPrefix: "q/", Revision: revision})
		want := []string{"q/p/a=1", "-q/p/a"}
		if revision > 0 {
			want = want[1:]
		}
		expect(t, to, err, ended, want...)
		if first := s.watched.Rev(); first != 3 {
			t.Errorf("watched from revision %d, want 3", first)
		}
	}
}

// Transactions are bounded by number and by bytes; what is too large by itself goes alone.
func TestBounds(t *testing.T) {
	large := strings.Repeat("x", batchBytesMax*2/3)
	huge := strings.Repeat("x", batchBytesMax*2)
	s := &source{revision: 1, answers: []clientv3.WatchResponse{
		events(put("a", "1", 2), put("b", "1", 2), put("c", "1", 2)),
		events(put("d", large, 3), put("e", large, 3)),
		events(put("f", "1", 4), put("g", huge, 4)),
	}}
	to := &destination{}
	_, err := s.mirror(t, to, Config{TxnOps: 2})
	expect(t, to, err, ended, "a=1 b=1", "c=1", "d=699050 bytes", "e=699050 bytes", "f=1", "g=2097152 bytes")
}

func TestCompacted(t *testing.T) {
	s := &source{revision: 1, answers: []clientv3.WatchResponse{{CompactRevision: 9, Canceled: true}}}
	if _, err := s.mirror(t, &destination{}, Config{Revision: 3}); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("ended with %v", err)
	}
}

// A destination that refuses ends the mirror, and the progress says what it has.
func TestRefused(t *testing.T) {
	s := &source{revision: 4, rows: []*mvccpb.KeyValue{row("a", "1", 2)}}
	to := &destination{fail: rpctypes.ErrNoSpace}
	progress, err := s.mirror(t, to, Config{})
	if !errors.Is(err, rpctypes.ErrNoSpace) || progress.Keys.Load() != 0 || progress.Revision.Load() != 0 {
		t.Errorf("ended with %v after %d keys, revision %d", err, progress.Keys.Load(), progress.Revision.Load())
	}
}
