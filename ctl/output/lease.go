package output

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Granted is a new lease.
func Granted(r *clientv3.LeaseGrantResponse) Answer {
	return Answer{
		message: r,
		simple:  func(w *page) { w.line("lease %016x granted with TTL(%ds)", r.ID, r.TTL) },
		fields:  func(w *page) { w.lease(r.ResponseHeader, r.ID, r.TTL) },
	}
}

// Revoked is the end of a lease.
func Revoked(id clientv3.LeaseID, r *clientv3.LeaseRevokeResponse) Answer {
	m := (*pb.LeaseRevokeResponse)(r)
	return Answer{
		message: r, // the client's type: there is no protobuf form in etcdctl
		simple:  func(w *page) { w.line("lease %016x revoked", id) },
		fields:  func(w *page) { w.header(m.GetHeader()) },
	}
}

// Kept is a lease that begins anew.
func Kept(r *clientv3.LeaseKeepAliveResponse) Answer {
	return Answer{
		message: r,
		simple:  func(w *page) { w.line("lease %016x keepalived with TTL(%d)", r.ID, r.TTL) },
		fields:  func(w *page) { w.lease(r.ResponseHeader, r.ID, r.TTL) },
	}
}

// Lease is what is left of a lease; keys says that its keys were asked for.
func Lease(r *clientv3.LeaseTimeToLiveResponse, keys bool) Answer {
	return Answer{
		message: r,
		simple: func(w *page) {
			if r.GrantedTTL == 0 && r.TTL == -1 {
				w.line("lease %016x already expired", r.ID)
				return
			}
			fmt.Fprintf(w, "lease %016x granted with TTL(%ds), remaining(%ds)", r.ID, r.GrantedTTL, r.TTL)
			if keys {
				fmt.Fprintf(w, ", attached keys(%s)", r.Keys)
			}
			w.line("")
		},
		fields: func(w *page) {
			w.lease(r.ResponseHeader, r.ID, r.TTL)
			w.field("GrantedTTL", r.GrantedTTL)
			for _, key := range r.Keys {
				w.line("%q : %q", "Key", key)
			}
		},
	}
}

// Leases are all leases there are.
func Leases(r *clientv3.LeaseLeasesResponse) Answer {
	return Answer{
		message: r,
		simple: func(w *page) {
			w.line("found %d leases", len(r.Leases))
			for _, l := range r.Leases {
				w.line("%016x", l.ID)
			}
		},
		fields: func(w *page) {
			w.header(r.ResponseHeader)
			for _, l := range r.Leases {
				w.id("ID", int64(l.ID))
			}
		},
	}
}

func (w *page) lease(h *pb.ResponseHeader, id clientv3.LeaseID, ttl int64) {
	w.header(h)
	w.id("ID", int64(id))
	w.field("TTL", ttl)
}
