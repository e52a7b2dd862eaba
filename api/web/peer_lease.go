package web

import (
	"context"
	"errors"
	"io"
	"net/http"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/lease"
	"holdfast/server"
)

// What members hear from the one they take for the leader, in etcd's words.
var (
	errNotPrimary   = errors.New("not a primary lessor")
	errPeerTooSlow  = errors.New("waiting for node to catch up its applied index has timed out")
	errUnread       = errors.New("error reading body")
	errUnreadable   = errors.New("error unmarshalling request")
	errBodyTooLarge = errors.New("request body too large")
)

// peerBodyMax bounds what another member may ask for in a body; etcd's number.
const peerBodyMax = 64 << 10

// peerLeaseRenew renews a lease for another member.
func (e *Endpoints) peerLeaseRenew(w http.ResponseWriter, r *http.Request) {
	servePeerLease(w, r, func(ctx context.Context, body []byte) ([]byte, error) {
		var q pb.LeaseKeepAliveRequest
		if err := proto.Unmarshal(body, &q); err != nil {
			return nil, errUnreadable
		}
		ttl, err := e.member.LeaseRenewHere(ctx, kv.LeaseID(q.ID))
		if err != nil {
			return nil, err
		}
		return proto.Marshal(&pb.LeaseKeepAliveResponse{ID: q.ID, TTL: ttl})
	}, http.StatusBadRequest)
}

// peerLeaseTimeToLive tells another member how long a lease has to live.
func (e *Endpoints) peerLeaseTimeToLive(w http.ResponseWriter, r *http.Request) {
	servePeerLease(w, r, func(ctx context.Context, body []byte) ([]byte, error) {
		var q pb.LeaseTimeToLiveRequest
		body, err := kv.DecodeLeaseInternal(body)
		if err != nil || proto.Unmarshal(body, &q) != nil {
			return nil, errUnreadable
		}
		status, err := e.member.LeaseTimeToLiveHere(ctx, kv.LeaseID(q.ID), q.Keys)
		if err != nil {
			return nil, err
		}
		answer, err := proto.Marshal(&pb.LeaseTimeToLiveResponse{
			Header: &pb.ResponseHeader{}, ID: q.ID, TTL: status.Remaining, GrantedTTL: status.Granted, Keys: status.Keys,
		})
		return kv.AppendLeaseInternal(nil, answer), err
	}, http.StatusInternalServerError)
}

// servePeerLease answers a request about a lease. failed is the status that etcd gives to what has none of its own, a
// member that does not lead among it.
func servePeerLease(w http.ResponseWriter, r *http.Request, answer func(ctx context.Context, body []byte) ([]byte, error), failed int) {
	if r.Method != http.MethodPost {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	body, err := readPeerBody(w, r)
	if err == nil {
		body, err = answer(r.Context(), body)
	}
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "application/protobuf")
		w.Write(body) // a member that went away hears nothing
	case errors.Is(err, errBodyTooLarge):
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
	case errors.Is(err, errUnread), errors.Is(err, errUnreadable):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, lease.ErrNotFound):
		http.Error(w, lease.ErrNotFound.Error(), http.StatusNotFound)
	case errors.Is(err, server.ErrAppliedTimeout), errors.Is(err, server.ErrTimeout):
		http.Error(w, errPeerTooSlow.Error(), http.StatusRequestTimeout)
	case errors.Is(err, server.ErrNotLeader):
		http.Error(w, errNotPrimary.Error(), failed)
	default:
		http.Error(w, err.Error(), failed)
	}
}

func readPeerBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, peerBodyMax))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, errBodyTooLarge
	}
	if err != nil {
		return nil, errUnread
	}
	return body, nil
}
