package output

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Put is the answer to a put.
func Put(r *clientv3.PutResponse) Answer { return put((*pb.PutResponse)(r)) }

func put(r *pb.PutResponse) Answer {
	return Answer{
		message: r,
		simple: func(w *page) {
			w.line("OK")
			if r.GetPrevKv() != nil {
				w.pair(r.GetPrevKv(), false)
			}
		},
		fields: func(w *page) {
			w.header(r.GetHeader())
			if r.GetPrevKv() != nil {
				w.pairFields("Prev", r.GetPrevKv())
			}
		},
	}
}

// Get is the answer to a get. valueOnly leaves the keys out of the simple form.
func Get(r *clientv3.GetResponse, valueOnly bool) Answer {
	return get((*pb.RangeResponse)(r), valueOnly)
}

func get(r *pb.RangeResponse, valueOnly bool) Answer {
	return Answer{
		message: r,
		simple: func(w *page) {
			for _, kv := range r.GetKvs() {
				w.pair(kv, valueOnly)
			}
		},
		fields: func(w *page) {
			w.header(r.GetHeader())
			for _, kv := range r.GetKvs() {
				w.pairFields("", kv)
			}
			w.field("More", r.GetMore())
			w.field("Count", r.GetCount())
		},
	}
}

// Del is the answer to a deletion.
func Del(r *clientv3.DeleteResponse) Answer { return del((*pb.DeleteRangeResponse)(r)) }

func del(r *pb.DeleteRangeResponse) Answer {
	return Answer{
		message: r,
		simple: func(w *page) {
			w.line("%d", r.GetDeleted())
			for _, kv := range r.GetPrevKvs() {
				w.pair(kv, false)
			}
		},
		fields: func(w *page) {
			w.header(r.GetHeader())
			w.field("Deleted", r.GetDeleted())
			for _, kv := range r.GetPrevKvs() {
				w.pairFields("Prev", kv)
			}
		},
	}
}

// Txn is the answer to a transaction: whether its conditions held, then the answer of each operation.
func Txn(r *clientv3.TxnResponse) Answer {
	m := (*pb.TxnResponse)(r)
	return Answer{
		message: m,
		simple: func(w *page) {
			if m.GetSucceeded() {
				w.line("SUCCESS")
			} else {
				w.line("FAILURE")
			}
			for _, op := range m.GetResponses() {
				w.line("")
				if a, ok := operation(op); ok {
					a.simple(w)
				} else {
					w.line("unexpected response %+v", op)
				}
			}
		},
		fields: func(w *page) {
			w.header(m.GetHeader())
			w.field("Succeeded", m.GetSucceeded())
			for _, op := range m.GetResponses() {
				if a, ok := operation(op); ok {
					a.fields(w)
				} else {
					w.line("%q : %q", "Unknown", fmt.Sprintf("%+v", op.GetResponse()))
				}
			}
		},
		json: func() any { return txnJSON(m) },
	}
}

// operation is the answer of one operation of a transaction. A transaction within a transaction has no text.
func operation(op *pb.ResponseOp) (Answer, bool) {
	switch r := op.GetResponse().(type) {
	case *pb.ResponseOp_ResponsePut:
		return put(r.ResponsePut), true
	case *pb.ResponseOp_ResponseRange:
		return get(r.ResponseRange, false), true
	case *pb.ResponseOp_ResponseDeleteRange:
		return del(r.ResponseDeleteRange), true
	}
	return Answer{}, false
}

// txnText is a transaction's answer in json: the name of the operation stands within "Response".
type txnText struct {
	Header    *pb.ResponseHeader `json:"header,omitempty"`
	Succeeded bool               `json:"succeeded,omitempty"`
	Responses []opText           `json:"responses,omitempty"`
}

type opText struct {
	Response struct {
		Range  *pb.RangeResponse       `json:"response_range,omitempty"`
		Put    *pb.PutResponse         `json:"response_put,omitempty"`
		Delete *pb.DeleteRangeResponse `json:"response_delete_range,omitempty"`
		Txn    *txnText                `json:"response_txn,omitempty"`
	} `json:"Response"`
}

func txnJSON(r *pb.TxnResponse) *txnText {
	if r == nil {
		return nil
	}
	text := &txnText{Header: r.GetHeader(), Succeeded: r.GetSucceeded()}
	for _, op := range r.GetResponses() {
		var t opText
		t.Response.Range, t.Response.Put = op.GetResponseRange(), op.GetResponsePut()
		t.Response.Delete, t.Response.Txn = op.GetResponseDeleteRange(), txnJSON(op.GetResponseTxn())
		text.Responses = append(text.Responses, t)
	}
	return text
}

// Watch is one message of a watch. In protobuf it is the server's message, in json the client's.
func Watch(r *clientv3.WatchResponse) Answer {
	return Answer{
		message: &pb.WatchResponse{
			Header: r.Header, Events: r.Events, CompactRevision: r.CompactRevision, Canceled: r.Canceled, Created: r.Created,
		},
		json: func() any { return r },
		simple: func(w *page) {
			for _, e := range r.Events {
				w.line("%v", e.GetType())
				if e.GetPrevKv() != nil {
					w.pair(e.GetPrevKv(), false)
				}
				w.pair(e.GetKv(), false)
			}
		},
		fields: func(w *page) {
			w.header(r.Header)
			for _, e := range r.Events {
				w.field("Type", e.GetType())
				if e.GetPrevKv() != nil {
					w.pairFields("Prev", e.GetPrevKv())
				}
				w.pairFields("", e.GetKv())
			}
		},
	}
}
