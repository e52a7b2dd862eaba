package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/server"
	"holdfast/util/urllist"
)

// cluster serves the membership. As in etcd the headers of its answers say nothing of the revision.
type cluster struct {
	*API
	pb.UnimplementedClusterServer
}

// MemberAdd implements pb.ClusterServer.
func (s *cluster) MemberAdd(ctx context.Context, q *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	urls, err := urllist.Parse(q.PeerURLs)
	if err != nil {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	added, all, err := s.member.MemberAdd(ctx, urllist.Texts(urls), q.IsLearner)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.MemberAddResponse{Header: s.headerAt(0), Member: memberOnWire(added), Members: membersOnWire(all)}, nil
}

// MemberRemove implements pb.ClusterServer.
func (s *cluster) MemberRemove(ctx context.Context, q *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	all, err := s.member.MemberRemove(ctx, kv.MemberID(q.ID))
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.MemberRemoveResponse{Header: s.headerAt(0), Members: membersOnWire(all)}, nil
}

// MemberUpdate implements pb.ClusterServer. As in etcd it takes any text for an address.
func (s *cluster) MemberUpdate(ctx context.Context, q *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	all, err := s.member.MemberUpdate(ctx, kv.MemberID(q.ID), q.PeerURLs)
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.MemberUpdateResponse{Header: s.headerAt(0), Members: membersOnWire(all)}, nil
}

// MemberList implements pb.ClusterServer.
func (s *cluster) MemberList(ctx context.Context, q *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	all, err := s.member.Members(ctx, q.Linearizable)
	if err != nil {
		return nil, toWire(err)
	}
	if err := s.member.CheckUser(ctx); err != nil {
		return nil, toWire(err)
	}
	return &pb.MemberListResponse{Header: s.headerAt(0), Members: membersOnWire(all)}, nil
}

// MemberPromote implements pb.ClusterServer.
func (s *cluster) MemberPromote(ctx context.Context, q *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	if err := s.member.CheckAdmin(ctx); err != nil {
		return nil, toWire(err)
	}
	if c := credentialsOf(ctx); c.Token != nil {
		ctx = server.WithToken(ctx, *c.Token)
	}
	all, err := s.member.MemberPromote(ctx, kv.MemberID(q.ID))
	if err != nil {
		return nil, toWire(err)
	}
	return &pb.MemberPromoteResponse{Header: s.headerAt(0), Members: membersOnWire(all)}, nil
}

func membersOnWire(members []membership.Member) []*pb.Member {
	all := make([]*pb.Member, len(members))
	for i := range members {
		all[i] = memberOnWire(members[i])
	}
	return all
}

func memberOnWire(m membership.Member) *pb.Member {
	return &pb.Member{ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
}
