package kv

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// The hand-written codecs are held against the generated ones: what protobuf writes they must read with the same
// meaning, and what they write must be the very bytes that protobuf writes.

const rounds = 2000

// random draws messages of the data API. Small numbers and short strings come often, extremes sometimes.
type random struct{ *rand.Rand }

func newRandom(t *testing.T) random {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return random{rand.New(rand.NewPCG(seed, 0))}
}

func (r random) number() int64 {
	switch r.IntN(4) {
	case 0:
		return 0
	case 1:
		return r.Int64N(1000)
	case 2:
		return -r.Int64N(1000)
	}
	return int64(r.Uint64())
}

func (r random) bytes() []byte {
	b := make([]byte, r.IntN(4)*r.IntN(80))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (r random) flag() bool { return r.IntN(2) == 0 }

func (r random) rangeRequest() *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: r.bytes(), RangeEnd: r.bytes(), Limit: r.number(), Revision: r.number(),
		SortOrder: pb.RangeRequest_SortOrder(r.IntN(5) - 1), SortTarget: pb.RangeRequest_SortTarget(r.IntN(7) - 1),
		Serializable: r.flag(), KeysOnly: r.flag(), CountOnly: r.flag(),
		MinModRevision: r.number(), MaxModRevision: r.number(), MinCreateRevision: r.number(), MaxCreateRevision: r.number(),
	}
}

func (r random) put() *pb.PutRequest {
	return &pb.PutRequest{Key: r.bytes(), Value: r.bytes(), Lease: r.number(), PrevKv: r.flag(), IgnoreValue: r.flag(), IgnoreLease: r.flag()}
}

func (r random) deleteRange() *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: r.bytes(), RangeEnd: r.bytes(), PrevKv: r.flag()}
}

func (r random) compare() *pb.Compare {
	c := &pb.Compare{Key: r.bytes(), RangeEnd: r.bytes(),
		Result: pb.Compare_CompareResult(r.IntN(6) - 1), Target: pb.Compare_CompareTarget(r.IntN(7) - 1)}
	switch r.IntN(6) {
	case 0:
		c.TargetUnion = &pb.Compare_Version{Version: r.number()}
	case 1:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: r.number()}
	case 2:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: r.number()}
	case 3:
		c.TargetUnion = &pb.Compare_Value{Value: r.bytes()}
	case 4:
		c.TargetUnion = &pb.Compare_Lease{Lease: r.number()}
	}
	return c
}

func (r random) op(depth int) *pb.RequestOp {
	switch r.IntN(5) {
	case 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r.rangeRequest()}}
	case 1:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r.put()}}
	case 2:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r.deleteRange()}}
	case 3:
		if depth < 3 {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r.txn(depth + 1)}}
		}
	}
	return &pb.RequestOp{}
}

func (r random) txn(depth int) *pb.TxnRequest {
	q := &pb.TxnRequest{}
	for range r.IntN(4) {
		q.Compare = append(q.Compare, r.compare())
	}
	for range r.IntN(4) {
		q.Success = append(q.Success, r.op(depth))
	}
	for range r.IntN(3) {
		q.Failure = append(q.Failure, r.op(depth))
	}
	return q
}

func (r random) watchCreate() *pb.WatchCreateRequest {
	q := &pb.WatchCreateRequest{Key: r.bytes(), RangeEnd: r.bytes(), StartRevision: r.number(), ProgressNotify: r.flag(),
		PrevKv: r.flag(), WatchId: r.number(), Fragment: r.flag()}
	for range r.IntN(3) {
		q.Filters = append(q.Filters, pb.WatchCreateRequest_FilterType(r.IntN(4)-1))
	}
	return q
}

// The functions below say what a decoded request means, in protobuf's terms.

func rangeOf(q *RangeRequest) *pb.RangeRequest {
	return &pb.RangeRequest{Key: q.Key, RangeEnd: q.End, Limit: q.Limit, Revision: int64(q.Revision),
		SortOrder: pb.RangeRequest_SortOrder(q.SortOrder), SortTarget: pb.RangeRequest_SortTarget(q.SortTarget),
		Serializable: q.Serializable, KeysOnly: q.KeysOnly, CountOnly: q.CountOnly,
		MinModRevision: int64(q.MinMod), MaxModRevision: int64(q.MaxMod),
		MinCreateRevision: int64(q.MinCreate), MaxCreateRevision: int64(q.MaxCreate)}
}

func putOf(q *PutRequest) *pb.PutRequest {
	return &pb.PutRequest{Key: q.Key, Value: q.Value, Lease: int64(q.Lease), PrevKv: q.PrevKV, IgnoreValue: q.IgnoreValue, IgnoreLease: q.IgnoreLease}
}

func deleteRangeOf(q *DeleteRangeRequest) *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: q.Key, RangeEnd: q.End, PrevKv: q.PrevKV}
}

func compareOf(c *Compare) *pb.Compare {
	m := &pb.Compare{Key: c.Key, RangeEnd: c.End, Result: pb.Compare_CompareResult(c.Result), Target: pb.Compare_CompareTarget(c.Target)}
	switch c.Union {
	case unionVersion:
		m.TargetUnion = &pb.Compare_Version{Version: c.Number}
	case unionCreate:
		m.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: c.Number}
	case unionMod:
		m.TargetUnion = &pb.Compare_ModRevision{ModRevision: c.Number}
	case unionValue:
		m.TargetUnion = &pb.Compare_Value{Value: c.Value}
	case unionLease:
		m.TargetUnion = &pb.Compare_Lease{Lease: c.Number}
	}
	return m
}

func opOf(o *Op) *pb.RequestOp {
	switch {
	case o.Range != nil:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: rangeOf(o.Range)}}
	case o.Put != nil:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: putOf(o.Put)}}
	case o.DeleteRange != nil:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: deleteRangeOf(o.DeleteRange)}}
	case o.Txn != nil:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txnOf(o.Txn)}}
	}
	return &pb.RequestOp{}
}

func txnOf(q *TxnRequest) *pb.TxnRequest {
	m := &pb.TxnRequest{}
	for i := range q.Compare {
		m.Compare = append(m.Compare, compareOf(&q.Compare[i]))
	}
	for i := range q.Success {
		m.Success = append(m.Success, opOf(&q.Success[i]))
	}
	for i := range q.Failure {
		m.Failure = append(m.Failure, opOf(&q.Failure[i]))
	}
	return m
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestsMeanWhatProtobufSays(t *testing.T) {
	r := newRandom(t)
	for range rounds {
		check(t, r.rangeRequest(), DecodeRange, rangeOf)
		check(t, r.put(), DecodePut, putOf)
		check(t, r.deleteRange(), DecodeDeleteRange, deleteRangeOf)
		check(t, r.txn(0), DecodeTxn, txnOf)
	}
}

func check[T any, M proto.Message](t *testing.T, m M, decode func([]byte, *T) error, meaning func(*T) M) {
	t.Helper()
	var q T
	if err := decode(marshal(t, m), &q); err != nil {
		t.Fatalf("decode %v: %v", m, err)
	}
	if got := meaning(&q); !proto.Equal(got, m) {
		t.Fatalf("decoded %v\n     from %v", got, m)
	}
}

func TestKeyValueEqualsProtobuf(t *testing.T) {
	r := newRandom(t)
	for range rounds {
		m := &mvccpb.KeyValue{Key: r.bytes(), Value: r.bytes(), CreateRevision: r.number(), ModRevision: r.number(), Version: r.number(), Lease: r.number()}
		want := marshal(t, m)
		v, err := DecodeKeyValue(want)
		if err != nil {
			t.Fatal(err)
		}
		got := v.Append(nil)
		if !bytes.Equal(got, want) || v.Size() != len(want) {
			t.Fatalf("%v: wrote %x (size %d), protobuf %x", m, got, v.Size(), want)
		}
	}
}

func TestCommandRoundTrip(t *testing.T) {
	r := newRandom(t)
	for range rounds {
		h := CommandHeader{ID: r.Uint64(), AuthRevision: uint64(r.IntN(3))}
		if r.flag() {
			h.Username = "someone with a name longer than the room for a header"
		}
		q := r.put()
		d := DraftOf(KindPut, marshal(t, q))
		var put PutRequest
		if err := Decode(&d, KindPut, DecodePut, &put); err != nil {
			t.Fatal(err)
		}
		payload := d.Seal(h)

		var m pb.InternalRaftRequest
		if err := proto.Unmarshal(payload, &m); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(m.Put, q) || m.Header.ID != h.ID || m.Header.Username != h.Username || m.Header.AuthRevision != h.AuthRevision {
			t.Fatalf("protobuf reads %v, sealed %v %v", &m, h, q)
		}
		c, err := DecodeCommand(payload)
		if err != nil {
			t.Fatal(err)
		}
		if c.CommandHeader != h || !proto.Equal(putOf(c.Put), q) {
			t.Fatalf("decoded %v %v, sealed %v %v", c.CommandHeader, c.Put, h, q)
		}
		if got := PayloadID(payload); got != h.ID {
			t.Fatalf("payload id %x, sealed %x", got, h.ID)
		}
	}
}

func TestCommandOfAnotherForm(t *testing.T) {
	put := &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}
	plain := marshal(t, &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 7}, Put: put})
	unknown := append(slices.Clone(plain), 0xfa, 0x7f, 0x01, 'x') // field 2047, bytes
	for _, payload := range [][]byte{plain, unknown} {
		c, err := DecodeCommand(payload)
		if err != nil {
			t.Fatal(err)
		}
		if c.Put == nil || string(c.Put.Key) != "k" || c.ID != 7 {
			t.Fatalf("decoded %+v", c)
		}
	}
	cold, err := EncodeCold(CommandHeader{ID: 9}, &pb.InternalRaftRequest{AuthStatus: &pb.AuthStatusRequest{}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := DecodeCommand(cold)
	if err != nil || c.Cold == nil || c.Cold.AuthStatus == nil || c.ID != 9 || PayloadID(cold) != 9 {
		t.Fatalf("decoded %+v, %v", c, err)
	}
	if _, err := DecodeCommand([]byte{0x22, 0x7f}); !errors.Is(err, ErrMalformed) {
		t.Fatalf("a cut payload gives %v", err)
	}
}

func TestDecodeRewritesWhatIsNotCanonical(t *testing.T) {
	body := marshal(t, &pb.PutRequest{Key: []byte("k")})
	d := DraftOf(KindPut, append(body, 0xfa, 0x7f, 0x01, 'x'))
	var q PutRequest
	if err := Decode(&d, KindPut, DecodePut, &q); err != nil {
		t.Fatal(err)
	}
	if string(q.Key) != "k" || !bytes.Equal(d.Body(), body) {
		t.Fatalf("key %q, body %x", q.Key, d.Body())
	}
	d = DraftOf(KindPut, []byte{0x0a, 0x09})
	if err := Decode(&d, KindPut, DecodePut, &q); !errors.Is(err, ErrMalformed) {
		t.Fatalf("a cut body gives %v", err)
	}
}

// randomRows draws rows and what they are in protobuf.
func (r random) rows(t *testing.T, rows Rows) (Rows, []*mvccpb.KeyValue) {
	var kvs []*mvccpb.KeyValue
	n := r.IntN(6)
	alone := n == 1 && r.flag()
	for range n {
		v := KeyValue{Key: r.bytes(), Value: bytes.Repeat(r.bytes(), 1+r.IntN(300)), Mod: Revision(r.number())}
		switch {
		case alone:
			rows.Hold(v.Append([]byte{}))
		case r.flag():
			rows.Append(v.Append(nil))
		default:
			rows.AppendKeyValue(&v)
		}
		kvs = append(kvs, &mvccpb.KeyValue{Key: v.Key, Value: v.Value, ModRevision: int64(v.Mod)})
	}
	i := 0
	for row := range rows.All() {
		if !bytes.Equal(row, marshal(t, kvs[i])) {
			t.Fatalf("row %d is %x", i, row)
		}
		i++
	}
	if framed := slices.Concat(rows.Chunks()...); i != len(kvs) || rows.Len() != i || rows.Size() != len(framed) {
		t.Fatalf("%d rows of %d, Len %d, Size %d of %d", i, len(kvs), rows.Len(), rows.Size(), len(framed))
	}
	return rows, kvs
}

func (r random) opResult(t *testing.T, depth int) (OpResult, *pb.ResponseOp) {
	rev := Revision(1 + r.Int64N(99))
	h := &pb.ResponseHeader{Revision: int64(rev)}
	switch r.IntN(4) {
	case 0:
		rows, kvs := r.rows(t, Rows{})
		res := &RangeResult{Revision: rev, Rows: rows, Count: r.number(), More: r.flag()}
		return OpResult{Range: res}, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{
			ResponseRange: &pb.RangeResponse{Header: h, Kvs: kvs, Count: res.Count, More: res.More}}}
	case 1:
		res, m := &PutResult{Revision: rev}, &pb.PutResponse{Header: h}
		if r.flag() {
			v := KeyValue{Key: []byte("k"), Value: make([]byte, r.IntN(9000))}
			res.Prev, m.PrevKv = v.Append(nil), &mvccpb.KeyValue{Key: v.Key, Value: v.Value}
		}
		return OpResult{Put: res}, &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: m}}
	case 2:
		rows, kvs := r.rows(t, PrevRows())
		res := &DeleteRangeResult{Revision: rev, Deleted: r.number(), Prev: rows}
		return OpResult{DeleteRange: res}, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{
			ResponseDeleteRange: &pb.DeleteRangeResponse{Header: h, Deleted: res.Deleted, PrevKvs: kvs}}}
	}
	res, m := r.txnResult(t, rev, h, depth+1)
	return OpResult{Txn: res}, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: m}}
}

func (r random) txnResult(t *testing.T, rev Revision, h *pb.ResponseHeader, depth int) (*TxnResult, *pb.TxnResponse) {
	res, m := &TxnResult{Revision: rev, Succeeded: r.flag()}, &pb.TxnResponse{Header: h}
	m.Succeeded = res.Succeeded
	for range r.IntN(5 - depth) {
		o, om := r.opResult(t, depth)
		res.Responses, m.Responses = append(res.Responses, o), append(m.Responses, om)
	}
	return res, m
}

func TestAnswersEqualProtobuf(t *testing.T) {
	r := newRandom(t)
	for range rounds / 4 {
		rev := Revision(1 + r.Int64N(99))
		h := Header{ClusterID: r.Uint64(), MemberID: MemberID(r.Uint64()), RaftTerm: Term(r.number())}
		mh := &pb.ResponseHeader{ClusterId: h.ClusterID, MemberId: uint64(h.MemberID), RaftTerm: uint64(h.RaftTerm), Revision: int64(rev)}
		res, m := r.txnResult(t, rev, mh, 0)
		got := slices.Concat(res.Encode(h)...)
		if want := marshal(t, m); !bytes.Equal(got, want) {
			t.Fatalf("%v:\n wrote    %x\n protobuf %x", m, got, want)
		}
	}
}

func TestStreamMessages(t *testing.T) {
	r := newRandom(t)
	for range rounds {
		m := r.watchCreate()
		var q WatchRequest
		if err := DecodeWatch(marshal(t, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: m}}), &q); err != nil {
			t.Fatal(err)
		}
		want := WatchCreate{KeyRange: KeyRange{Key: m.Key, End: m.RangeEnd}, Start: Revision(m.StartRevision), ProgressNotify: m.ProgressNotify,
			NoPut: slices.Contains(m.Filters, 0), NoDelete: slices.Contains(m.Filters, 1), PrevKV: m.PrevKv, ID: m.WatchId, Fragment: m.Fragment}
		got := *q.Create
		if !bytes.Equal(got.Key, want.Key) || !bytes.Equal(got.End, want.End) {
			t.Fatalf("decoded %v from %v", got, m)
		}
		got.KeyRange, want.KeyRange = KeyRange{}, KeyRange{}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("decoded %+v from %v", got, m)
		}
	}
	var q WatchRequest
	cancel := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: -5}}}
	if err := DecodeWatch(marshal(t, cancel), &q); err != nil || q.Cancel == nil || *q.Cancel != -5 {
		t.Fatalf("%v: %+v", err, q)
	}
	progress := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	if err := DecodeWatch(marshal(t, progress), &q); err != nil || !q.Progress {
		t.Fatalf("%v: %+v", err, q)
	}
	h := Header{ClusterID: 1, MemberID: 2, Revision: 3, RaftTerm: 4}
	a := WatchAnswer{WatchID: -1, Created: true, Canceled: true, CompactRevision: 5, CancelReason: "because", Fragment: true}
	e := Event{Type: EventDelete, KV: (&KeyValue{Key: []byte("k"), Mod: 3}).Append(nil), Prev: (&KeyValue{Key: []byte("k"), Value: []byte("v")}).Append(nil)}
	got := AppendEvent(a.Append(nil, &h), &e, true)
	want := marshal(t, &pb.WatchResponse{Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 4},
		WatchId: -1, Created: true, Canceled: true, CompactRevision: 5, CancelReason: "because", Fragment: true,
		Events: []*mvccpb.Event{{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: 3}, PrevKv: &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("v")}}}})
	if !bytes.Equal(got, want) || SizeEvent(&e, true) != len(AppendEvent(nil, &e, true)) {
		t.Fatalf("wrote %x\nprotobuf %x", got, want)
	}
}

// FuzzRequests asks that what a hand-written decoder accepts, protobuf accepts too, with the same meaning: an entry
// that protobuf refuses would stop every etcd member that reads it.
func FuzzRequests(f *testing.F) {
	r := random{rand.New(rand.NewPCG(1, 2))}
	for range 20 {
		f.Add(marshal(f, r.rangeRequest()))
		f.Add(marshal(f, r.put()))
		f.Add(marshal(f, r.deleteRange()))
		f.Add(marshal(f, r.txn(0)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzOne(t, b, DecodeRange, rangeOf, new(pb.RangeRequest))
		fuzzOne(t, b, DecodePut, putOf, new(pb.PutRequest))
		fuzzOne(t, b, DecodeDeleteRange, deleteRangeOf, new(pb.DeleteRangeRequest))
		fuzzOne(t, b, DecodeTxn, txnOf, new(pb.TxnRequest))
	})
}

func fuzzOne[T any, M proto.Message](t *testing.T, b []byte, decode func([]byte, *T) error, meaning func(*T) M, m M) {
	t.Helper()
	var q T
	if decode(b, &q) != nil {
		return
	}
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatalf("%T: accepted %x, protobuf says %v", m, b, err)
	}
	if got := meaning(&q); !proto.Equal(got, m) {
		t.Fatalf("%x read as %v, protobuf %v", b, got, m)
	}
}

// FuzzCommand asks the same of whole payloads.
func FuzzCommand(f *testing.F) {
	f.Add(marshal(f, &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 3}, Put: &pb.PutRequest{Key: []byte("k")}}))
	f.Add(marshal(f, &pb.InternalRaftRequest{ID: 4, LeaseRevoke: &pb.LeaseRevokeRequest{ID: 9}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		var m pb.InternalRaftRequest
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, &m); err != nil && len(c.Username) == 0 {
			t.Fatalf("accepted %x, protobuf says %v", b, err)
		}
		if c.Put != nil && m.Put != nil && !proto.Equal(putOf(c.Put), m.Put) {
			t.Fatalf("%x read as %v, protobuf %v", b, c.Put, m.Put)
		}
	})
}
