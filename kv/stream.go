package kv

import (
	"google.golang.org/protobuf/encoding/protowire"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// WatchCreate asks for the events of a range (WatchCreateRequest).
type WatchCreate struct {
	KeyRange
	// Start is the first revision wanted; 0 is the next one to come.
	Start          Revision
	ProgressNotify bool
	NoPut          bool
	NoDelete       bool
	PrevKV         bool
	// ID is the id the client chose; 0 lets the stream choose.
	ID       int64
	Fragment bool
}

// WatchRequest is one message of a watch stream's client: exactly one field is set, none where the client set none.
type WatchRequest struct {
	Create   *WatchCreate
	Cancel   *int64
	Progress bool
}

// DecodeWatch reads a WatchRequest. What it returns does not alias b. The error wraps ErrMalformed.
func DecodeWatch(b []byte, q *WatchRequest) error {
	err := decodeWatch(b, q)
	if err == nil {
		return nil
	}
	canonical, err := canonicalMessage(new(pb.WatchRequest), b)
	if err != nil {
		return err
	}
	return decodeWatch(canonical, q)
}

func decodeWatch(b []byte, q *WatchRequest) error {
	*q = WatchRequest{}
	r := reader{rest: b}
	for r.next() {
		body := r.bytes()
		if r.err == nil && (q.Create != nil || q.Cancel != nil || q.Progress) {
			r.fail()
		}
		if r.err != nil {
			break
		}
		switch r.num {
		case 1:
			q.Create = new(WatchCreate)
			r.err = decodeWatchCreate(body, q.Create)
		case 2:
			q.Cancel = new(int64)
			r.err = decodeWatchCancel(body, q.Cancel)
		case 3:
			q.Progress = true
			if len(body) > 0 {
				r.fail()
			}
		default:
			r.fail()
		}
	}
	return r.err
}

func decodeWatchCreate(b []byte, q *WatchCreate) error {
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case 1:
			q.Key = append([]byte(nil), r.bytes()...)
		case 2:
			q.End = append([]byte(nil), r.bytes()...)
		case 3:
			q.Start = Revision(r.int64())
		case 4:
			q.ProgressNotify = r.bool()
		case 5:
			q.decodeFilters(&r)
		case 6:
			q.PrevKV = r.bool()
		case 7:
			q.ID = r.int64()
		case 8:
			q.Fragment = r.bool()
		default:
			r.fail()
		}
	}
	return r.err
}

// decodeFilters takes the filters packed or one by one, as protobuf does. Unknown filters have no effect.
func (q *WatchCreate) decodeFilters(r *reader) {
	if r.typ == protowire.VarintType {
		q.addFilter(r.int32())
		return
	}
	packed := reader{rest: r.bytes(), typ: protowire.VarintType}
	for r.err == nil && packed.err == nil && len(packed.rest) > 0 {
		q.addFilter(packed.int32())
	}
	if packed.err != nil {
		r.fail()
	}
}

func (q *WatchCreate) addFilter(f int32) {
	switch f {
	case int32(pb.WatchCreateRequest_NOPUT):
		q.NoPut = true
	case int32(pb.WatchCreateRequest_NODELETE):
		q.NoDelete = true
	}
}

func decodeWatchCancel(b []byte, id *int64) error {
	r := reader{rest: b}
	for r.next() {
		if r.num != 1 {
			r.fail()
			break
		}
		*id = r.int64()
	}
	return r.err
}

// WatchAnswer is a WatchResponse without its events.
type WatchAnswer struct {
	WatchID         int64
	Created         bool
	Canceled        bool
	CompactRevision Revision
	CancelReason    string
	Fragment        bool
}

// Append adds the encoding of a under header h to dst. Framed events (AppendEvent) may follow it.
func (a *WatchAnswer) Append(dst []byte, h *Header) []byte {
	dst = AppendHeader(dst, h)
	dst = appendInt(dst, 2, a.WatchID)
	dst = appendBool(dst, 3, a.Created)
	dst = appendBool(dst, 4, a.Canceled)
	dst = appendInt(dst, 5, int64(a.CompactRevision))
	dst = appendBytes(dst, 6, []byte(a.CancelReason))
	return appendBool(dst, 7, a.Fragment)
}

// DecodeKeepAlive reads a LeaseKeepAliveRequest. The error wraps ErrMalformed.
func DecodeKeepAlive(b []byte, id *LeaseID) error {
	var q LeaseRevokeRequest // of the same form: the id in field 1
	if err := decodeLeaseRevoke(b, &q); err != nil {
		canonical, err := canonicalMessage(new(pb.LeaseKeepAliveRequest), b)
		if err != nil {
			return err
		}
		if err := decodeLeaseRevoke(canonical, &q); err != nil {
			return err
		}
	}
	*id = q.ID
	return nil
}

// AppendKeepAlive adds the encoding of a LeaseKeepAliveResponse to dst. ttl is in seconds, 0 for a lease that is gone.
func AppendKeepAlive(dst []byte, h *Header, id LeaseID, ttl int64) []byte {
	return appendInt(appendInt(AppendHeader(dst, h), 2, int64(id)), 3, ttl)
}
