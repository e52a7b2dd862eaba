package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"holdfast/kv"
)

// leadsTimeout is how long a connection to an address, and an answer from there, may take.
const leadsTimeout = 5 * time.Second

// LeadsTo says why a client URL does not lead to a member. Behind TLS it is not asked who answers: it may want a certificate.
func LeadsTo(ctx context.Context, u url.URL, member kv.MemberID) error {
	ctx, cancel := context.WithTimeout(ctx, leadsTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	if err := raw.Close(); err != nil || u.Scheme == "https" {
		return err
	}
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	r, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	err = errors.Join(err, conn.Close())
	switch code := status.Code(err); {
	case err == nil && r.Header.GetMemberId() != uint64(member):
		return fmt.Errorf("the member %s of the cluster %x answers", kv.MemberID(r.Header.GetMemberId()), r.Header.GetClusterId())
	case code == codes.Unavailable, code == codes.DeadlineExceeded, code == codes.Unimplemented:
		return fmt.Errorf("no member answers: %w", err)
	}
	return nil // whoever refuses to answer may be it
}
