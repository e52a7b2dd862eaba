package api

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"holdfast/kv"
	"holdfast/lease"
)

// leaseService is the generated service, but for its stream, which has our own messages.
func leaseService() *grpc.ServiceDesc {
	desc := pb.Lease_ServiceDesc
	desc.Streams = []grpc.StreamDesc{{StreamName: "LeaseKeepAlive", ServerStreams: true, ClientStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		return srv.(*leases).keepAlive(stream)
	}}}
	return &desc
}

type leases struct {
	*API
	pb.UnimplementedLeaseServer
}

// LeaseGrant implements pb.LeaseServer.
func (s *leases) LeaseGrant(ctx context.Context, q *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	l, err := s.member.LeaseGrant(ctx, kv.LeaseGrantRequest{ID: kv.LeaseID(q.ID), TTL: q.TTL})
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.LeaseGrantResponse{Header: s.header(), ID: int64(l.ID), TTL: l.TTL}, nil
}

// LeaseRevoke implements pb.LeaseServer.
func (s *leases) LeaseRevoke(ctx context.Context, q *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if err := s.member.LeaseRevoke(ctx, kv.LeaseID(q.ID)); err != nil {
		return nil, toWire(err)
	}
	return &pb.LeaseRevokeResponse{Header: s.header()}, nil
}

// LeaseTimeToLive implements pb.LeaseServer.
func (s *leases) LeaseTimeToLive(ctx context.Context, q *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	status, err := s.member.LeaseTimeToLive(ctx, kv.LeaseID(q.ID), q.Keys)
	if errors.Is(err, lease.ErrNotFound) {
		return &pb.LeaseTimeToLiveResponse{Header: s.header(), ID: q.ID, TTL: -1}, nil
	}
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.LeaseTimeToLiveResponse{
		Header: s.header(), ID: q.ID, TTL: status.Remaining, GrantedTTL: status.Granted, Keys: status.Keys,
	}, nil
}

// LeaseLeases implements pb.LeaseServer.
func (s *leases) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	ids, err := s.member.Leases(ctx)
	if err != nil {
		return nil, toWire(err)
	}
	answer := &pb.LeaseLeasesResponse{Header: s.header()}
	for _, id := range ids {
		answer.Leases = append(answer.Leases, &pb.LeaseStatus{ID: int64(id)})
	}
	return answer, nil
}

// keepAlive serves one stream of renewals.
func (s *leases) keepAlive(stream grpc.ServerStream) error {
	ctx := stream.Context()
	err := s.receive(ctx, func() error { return s.renew(stream) })
	if errors.Is(err, context.Canceled) {
		return cause(ctx, err)
	}
	return err
}

// renew renews leases one after the other, as the client asks. The header is from before the renewal: a lease that
// is revoked at a revision is never seen renewed at a later one.
func (s *leases) renew(stream grpc.ServerStream) error {
	for {
		var q keepAliveCall
		if err := stream.RecvMsg(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			s.stats.Failed(stream.Context(), "receive", "lease-keepalive", err)
			return err
		}
		h := s.member.Header()
		ttl, err := s.member.LeaseRenew(stream.Context(), q.id)
		if err != nil && !errors.Is(err, lease.ErrNotFound) {
			return toWire(err)
		}
		if err := stream.SendMsg(outbound{kv.AppendKeepAlive(nil, &h, q.id, ttl)}); err != nil {
			s.stats.Failed(stream.Context(), "send", "lease-keepalive", err)
			return err
		}
	}
}
