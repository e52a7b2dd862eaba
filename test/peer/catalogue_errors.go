package peer

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// An apiError is an error of the API: its code and its whole text.
type apiError struct {
	code codes.Code
	text string
}

// apiErrors are the errors one member can be made to answer, in groups by the service or method that alone answers them,
// "" for those that others answer as well.
var apiErrors = []struct {
	by     protoreflect.FullName
	errors []apiError
}{
	{"", []apiError{
		{codes.InvalidArgument, "etcdserver: key is not provided"},
		{codes.InvalidArgument, "etcdserver: key not found"},
		{codes.InvalidArgument, "etcdserver: value is provided"},
		{codes.InvalidArgument, "etcdserver: lease is provided"},
		{codes.InvalidArgument, "etcdserver: too many operations in txn request"},
		{codes.InvalidArgument, "etcdserver: duplicate key given in txn request"},
		{codes.InvalidArgument, "etcdserver: invalid client api version"},
		{codes.InvalidArgument, "etcdserver: invalid sort option"},
		{codes.InvalidArgument, "etcdserver: request is too large"},
		{codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"},
		{codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{codes.OutOfRange, "etcdserver: too large lease TTL"},
		{codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"},
		{codes.NotFound, "etcdserver: requested lease not found"},
		{codes.FailedPrecondition, "etcdserver: lease already exists"},
		{codes.FailedPrecondition, "etcdserver: bad leader transferee"},
		{codes.DataLoss, "etcdserver: corrupt cluster"},
		{codes.Unimplemented, "RangeStream does not support custom sort orders"},
		{codes.Unimplemented, "RangeStream does not support revision filters"},
	}},
	{"etcdserverpb.Cluster.MemberAdd", []apiError{
		{codes.InvalidArgument, "etcdserver: given member URLs are invalid"},
		{codes.FailedPrecondition, "etcdserver: Peer URLs already exists"},
		{codes.FailedPrecondition, "etcdserver: too many learner members in cluster"},
	}},
	{"etcdserverpb.Cluster.MemberPromote", []apiError{
		{codes.FailedPrecondition, "etcdserver: can only promote a learner member"},
		{codes.FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader"},
	}},
	{"etcdserverpb.Cluster.MemberRemove", []apiError{
		{codes.NotFound, "etcdserver: member not found"},
		{codes.Unknown, "etcdserver: re-configuration failed due to not enough started members"},
	}},
	{"etcdserverpb.Maintenance.Downgrade", []apiError{
		{codes.InvalidArgument, "etcdserver: wrong downgrade target version format"},
		{codes.InvalidArgument, "etcdserver: invalid downgrade target version"},
		{codes.FailedPrecondition, "etcdserver: cluster has a downgrade job in progress"},
	}},
	{"etcdserverpb.Auth", []apiError{
		{codes.InvalidArgument, "etcdserver: user name is empty"},
		{codes.InvalidArgument, "etcdserver: role name is empty"},
		{codes.InvalidArgument, "etcdserver: permission not given"},
		{codes.FailedPrecondition, "etcdserver: root user does not exist"},
		{codes.FailedPrecondition, "etcdserver: root user does not have root role"},
		{codes.FailedPrecondition, "etcdserver: user name already exists"},
		{codes.FailedPrecondition, "etcdserver: user name not found"},
		{codes.FailedPrecondition, "etcdserver: role name already exists"},
		{codes.FailedPrecondition, "etcdserver: role name not found"},
		{codes.FailedPrecondition, "etcdserver: role is not granted to the user"},
		{codes.FailedPrecondition, "etcdserver: permission is not granted to the role"},
		{codes.FailedPrecondition, "etcdserver: authentication is not enabled"},
		{codes.InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"},
		{codes.InvalidArgument, "etcdserver: invalid auth management"},
		{codes.PermissionDenied, "etcdserver: permission denied"},
		{codes.Unauthenticated, "etcdserver: invalid auth token"},
	}},
}

// unreachable are the errors of the API that one member cannot be made to answer, with the reason.
var unreachable = map[string]string{
	"revision of auth store is old":              "needs a change of users between the check of a request and its application",
	"too many requests":                          "needs 5000 committed entries that are not applied",
	"member ID already exist":                    "ids contain the second; the same one is drawn twice only within it",
	"cluster ID mismatch":                        "spoken between members",
	"no inflight downgrade job":                  "etcd logs it and answers the cancellation with the cluster version",
	"not leader":                                 "the only member leads",
	"not capable":                                "needs a cluster version below 3.0",
	"rpc not supported for learner":              "the only member votes",
	"cluster version not found during downgrade": "the version is decided before the first request is served",
	"no leader":                                  "the only member leads",
	"leader changed":                             "the only member leads",
	"server stopped":                             "seen only while a process ends, at no certain moment",
	"request timed out":                          "needs a stalled disk",
	"request timed out, possibly due to previous leader failure":     "needs a second member",
	"request timed out, possibly due to connection lost":             "needs a second member",
	"request timed out, waiting for the applied index took too long": "needs a stalled apply",
	"unhealthy cluster":         "needs a second member",
	"watch canceled":            "sent to a client that has gone",
	"request canceled":          "sent to a client that has gone",
	"context deadline exceeded": "the client's own clock answers first",
}

func (e apiError) String() string { return fmt.Sprintf("1.4 %s: %s", e.code, e.text) }
