package api

import (
	"context"
	"errors"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestLearnerAnswers is the table of what a member without a vote answers: as etcd's, status, serializable ranges and
// snapshots. The check comes before all others.
func TestLearnerAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		s.fake.learner.Store(true)
		s.fake.leaderless.Store(true)
		ctx := t.Context()
		needy := metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
		key := []byte("k")
		first := func(stream interface{ RecvMsg(any) error }, err error, into any) error {
			if err != nil {
				return err
			}
			return stream.RecvMsg(into)
		}
		for _, c := range []struct {
			name   string
			served bool
			call   func(context.Context) error
		}{
			{"status", true, func(ctx context.Context) error {
				_, err := s.maintenance.Status(ctx, &pb.StatusRequest{})
				return err
			}},
			{"serializable range", true, func(ctx context.Context) error {
				_, err := s.kv.Range(ctx, &pb.RangeRequest{Key: key, Serializable: true})
				return err
			}},
			{"snapshot", true, func(ctx context.Context) error {
				stream, err := s.maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
				return first(stream, err, new(pb.SnapshotResponse))
			}},
			{"linearizable range", false, func(ctx context.Context) error {
				_, err := s.kv.Range(ctx, &pb.RangeRequest{Key: key})
				return err
			}},
			{"range without a key", false, func(ctx context.Context) error {
				_, err := s.kv.Range(ctx, &pb.RangeRequest{})
				return err
			}},
			{"range stream", false, func(ctx context.Context) error {
				stream, err := s.kv.RangeStream(ctx, &pb.RangeRequest{Key: key, Serializable: true})
				return first(stream, err, new(pb.RangeStreamResponse))
			}},
			{"put", false, func(ctx context.Context) error {
				_, err := s.kv.Put(ctx, &pb.PutRequest{Key: key})
				return err
			}},
			{"serializable txn", false, func(ctx context.Context) error {
				read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, Serializable: true}}}
				_, err := s.kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{read}})
				return err
			}},
			{"watch", false, func(ctx context.Context) error {
				stream, err := s.watch.Watch(ctx)
				return first(stream, err, new(pb.WatchResponse))
			}},
			{"lease keepalive", false, func(ctx context.Context) error {
				stream, err := s.lease.LeaseKeepAlive(ctx)
				return first(stream, err, new(pb.LeaseKeepAliveResponse))
			}},
			{"member list", false, func(ctx context.Context) error {
				_, err := s.cluster.MemberList(ctx, &pb.MemberListRequest{})
				return err
			}},
			{"hash", false, func(ctx context.Context) error {
				_, err := s.maintenance.HashKV(ctx, &pb.HashKVRequest{})
				return err
			}},
			{"alarm list", false, func(ctx context.Context) error {
				_, err := s.maintenance.Alarm(ctx, &pb.AlarmRequest{})
				return err
			}},
			{"health", false, func(ctx context.Context) error {
				_, err := healthpb.NewHealthClient(s.conn).Check(ctx, &healthpb.HealthCheckRequest{})
				return err
			}},
		} {
			err := c.call(ctx)
			if c.served && err != nil || !c.served && !errors.Is(err, rpctypes.ErrGRPCNotSupportedForLearner) {
				t.Errorf("%s: %v", c.name, err)
			}
			if err := c.call(needy); !c.served && !errors.Is(err, rpctypes.ErrGRPCNotSupportedForLearner) ||
				c.served && status.Code(err) != codes.Unavailable {
				t.Errorf("%s, where a leader is asked for and there is none: %v", c.name, err)
			}
		}
	})
}

// TestMembershipCalls walks a learner through its life at a sole member and compares what the answers say with etcd's: the
// new member, all members by id, no revision.
func TestMembershipCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		ctx := t.Context()
		for _, urls := range [][]string{nil, {""}, {"ftp://127.0.0.1:1"}, {"http://127.0.0.1"}, {"127.0.0.1:1"}, {"http://127.0.0.1:1/path"}} {
			if _, err := s.cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls}); !errors.Is(err, rpctypes.ErrGRPCMemberBadURLs) {
				t.Errorf("add %q: %v", urls, err)
			}
		}
		urls := []string{"http://127.0.0.1:8", "http://127.0.0.1:9"}
		added, err := s.cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{urls[1], " " + urls[0]}, IsLearner: true})
		if err != nil {
			t.Fatal(err)
		}
		m := added.Member
		if !m.IsLearner || !slices.Equal(m.PeerURLs, urls) || m.Name != "" || len(m.ClientURLs) != 0 {
			t.Errorf("added %v", m)
		}
		self := added.Header.MemberId
		if h := added.Header; h.Revision != 0 || h.ClusterId == 0 || h.RaftTerm == 0 {
			t.Errorf("header %v", h)
		}
		check := func(what string, members []*pb.Member, err error, want ...uint64) {
			t.Helper()
			var ids []uint64
			for _, m := range members {
				ids = append(ids, m.ID)
			}
			slices.Sort(want)
			if err != nil || !slices.Equal(ids, want) {
				t.Errorf("%s: members %x, want %x, %v", what, ids, want, err)
			}
		}
		check("add", added.Members, nil, self, m.ID)
		refused := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		_, err = s.cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls[:1], IsLearner: true})
		refused("add the same address", err, rpctypes.ErrGRPCPeerURLExist)
		_, err = s.cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:7"}, IsLearner: true})
		refused("add a second learner", err, rpctypes.ErrGRPCTooManyLearners)
		_, err = s.cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: m.ID})
		refused("promote", err, rpctypes.ErrGRPCLearnerNotReady)
		_, err = s.cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: self})
		refused("promote a voter", err, rpctypes.ErrGRPCMemberNotLearner)
		_, err = s.cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 77})
		refused("promote nobody", err, rpctypes.ErrGRPCMemberNotFound)
		_, err = s.cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: self})
		refused("remove the only voter", err, errNotEnoughStarted)
		_, err = s.maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: m.ID})
		refused("let a learner lead", err, rpctypes.ErrGRPCBadLeaderTransferee)

		updated, err := s.cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: m.ID, PeerURLs: []string{"http://127.0.0.1:7"}})
		check("update", updated.GetMembers(), err, self, m.ID)
		list, err := s.cluster.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
		check("list", list.GetMembers(), err, self, m.ID)
		for _, one := range list.GetMembers() {
			if one.ID == m.ID && !slices.Equal(one.PeerURLs, []string{"http://127.0.0.1:7"}) {
				t.Errorf("after the update %v", one)
			}
		}
		removed, err := s.cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: m.ID})
		check("remove", removed.GetMembers(), err, self)
		_, err = s.cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: m.ID})
		refused("remove again", err, rpctypes.ErrGRPCMemberNotFound)
		_, err = s.cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 77})
		refused("update nobody", err, rpctypes.ErrGRPCMemberNotFound)
	})
}
