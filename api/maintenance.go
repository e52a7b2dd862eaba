package api

import (
	"context"
	"errors"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/server"
	"holdfast/util/version"
)

type maintenance struct {
	*API
	pb.UnimplementedMaintenanceServer
}

// Alarm implements pb.MaintenanceServer.
func (s *maintenance) Alarm(ctx context.Context, q *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	check := s.member.CheckAdmin
	if q.Action == pb.AlarmRequest_GET {
		check = s.member.CheckUser
	}
	if err := check(ctx); err != nil {
		return nil, toWire(err)
	}
	alarms, err := s.member.Alarm(ctx, server.AlarmAction(q.Action),
		membership.Alarm{Member: kv.MemberID(q.MemberID), Type: membership.AlarmType(q.Alarm)})
	if err != nil {
		return nil, toWire(err)
	}
	answer := &pb.AlarmResponse{Header: s.header()}
	for _, a := range alarms {
		answer.Alarms = append(answer.Alarms, &pb.AlarmMember{MemberID: uint64(a.Member), Alarm: pb.AlarmType(a.Type)})
	}
	return answer, nil
}

// Status implements pb.MaintenanceServer.
func (s *maintenance) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	if err := s.member.CheckUser(ctx); err != nil {
		return nil, toWire(err)
	}
	h := s.header()
	m := s.member.Status()
	return &pb.StatusResponse{
		Header: h, Version: m.Version, StorageVersion: m.StorageVersion,
		DbSize: m.Size, DbSizeInUse: m.SizeInUse, DbSizeQuota: m.Quota,
		Leader: uint64(m.Leader), RaftIndex: uint64(m.Committed), RaftAppliedIndex: uint64(m.Applied), RaftTerm: uint64(m.Term),
		IsLearner: m.IsLearner, Errors: m.Errors,
		DowngradeInfo: &pb.DowngradeInfo{Enabled: m.Downgrade.Enabled, TargetVersion: m.Downgrade.TargetVersion},
	}, nil
}

// Defragment implements pb.MaintenanceServer.
func (s *maintenance) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	if err := s.member.Defragment(ctx); err != nil {
		return nil, toWire(err)
	}
	return &pb.DefragmentResponse{}, nil
}

// Hash implements pb.MaintenanceServer.
func (s *maintenance) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	sum, err := s.member.Hash(ctx)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.HashResponse{Header: s.header(), Hash: sum}, nil
}

// HashKV implements pb.MaintenanceServer.
func (s *maintenance) HashKV(ctx context.Context, q *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	h, err := s.member.HashKV(ctx, kv.Revision(q.Revision))
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.HashKVResponse{
		Header: s.header(), Hash: h.Sum, CompactRevision: int64(h.Compact), HashRevision: int64(h.Revision),
	}, nil
}

// blobBytes is how much of a snapshot one message carries, as in etcd.
const blobBytes = 32 << 10

// digestBytes is the SHA-256 behind the database, which comes as a message of its own.
const digestBytes = 32

// Snapshot implements pb.MaintenanceServer.
func (s *maintenance) Snapshot(_ *pb.SnapshotRequest, stream grpc.ServerStreamingServer[pb.SnapshotResponse]) (err error) {
	if err := s.member.CheckAdmin(stream.Context()); err != nil {
		return toWire(err)
	}
	began := time.Now()
	snap, err := s.member.Snapshot(stream.Context())
	if err != nil {
		return toWire(err)
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	total := snap.Size - digestBytes
	s.log.Info("sending database snapshot to client", "total-bytes", total, "storage-version", snap.Version)
	for left := total; left > 0; {
		blob := make([]byte, min(blobBytes, left)) // gRPC keeps it after SendMsg
		if _, err := io.ReadFull(snap, blob); err != nil {
			return toWire(err)
		}
		left -= int64(len(blob))
		if err := stream.Send(&pb.SnapshotResponse{RemainingBytes: uint64(left), Blob: blob, Version: snap.Version}); err != nil {
			return err
		}
	}
	digest, err := io.ReadAll(snap)
	if err != nil {
		return toWire(err)
	}
	if err := stream.Send(&pb.SnapshotResponse{Blob: digest, Version: snap.Version}); err != nil {
		return err
	}
	s.log.Info("successfully sent database snapshot to client", "total-bytes", total, "took", time.Since(began))
	return nil
}

// MoveLeader implements pb.MaintenanceServer.
func (s *maintenance) MoveLeader(ctx context.Context, q *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	if err := s.member.MoveLeader(ctx, kv.MemberID(q.TargetID)); err != nil {
		return nil, toWire(err)
	}
	return &pb.MoveLeaderResponse{}, nil
}

// Downgrade implements pb.MaintenanceServer.
func (s *maintenance) Downgrade(ctx context.Context, q *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	var cluster string
	var err error
	switch q.Action {
	case pb.DowngradeRequest_VALIDATE:
		cluster, err = s.member.DowngradeValidate(ctx, q.Version)
	case pb.DowngradeRequest_ENABLE:
		cluster, err = s.member.DowngradeEnable(ctx, q.Version)
	case pb.DowngradeRequest_CANCEL:
		cluster, err = s.member.DowngradeCancel(ctx)
	default:
		err = errUnknownMethod
	}
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.DowngradeResponse{Header: s.header(), Version: version.Short(cluster)}, nil
}

// errUnknownMethod has no code of its own in etcd.
var errUnknownMethod = status.Error(codes.Unknown, "etcdserver: unknown method")
