package api

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/apply"
	"holdfast/auth"
	"holdfast/lease"
	"holdfast/membership"
	"holdfast/mvcc"
	"holdfast/server"
)

// errNotEnoughStarted has no code of its own in etcd.
var errNotEnoughStarted = status.Error(codes.Unknown, "etcdserver: re-configuration failed due to not enough started members")

// wire is the only table from errors to codes and texts on the wire. Some of etcd's errors leave it without their code,
// and clients have learnt to live with that.
var wire = []struct{ err, on error }{
	{mvcc.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{mvcc.ErrFutureRevision, rpctypes.ErrGRPCFutureRev},

	{lease.ErrNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{lease.ErrExists, rpctypes.ErrGRPCLeaseExist},
	{lease.ErrTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},

	{apply.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{apply.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{apply.ErrCorrupt, rpctypes.ErrGRPCCorrupt},

	{auth.ErrRootUserNotExist, rpctypes.ErrGRPCRootUserNotExist},
	{auth.ErrRootRoleNotExist, rpctypes.ErrGRPCRootRoleNotExist},
	{auth.ErrUserExists, rpctypes.ErrGRPCUserAlreadyExist},
	{auth.ErrUserNotFound, rpctypes.ErrGRPCUserNotFound},
	{auth.ErrUserEmpty, rpctypes.ErrGRPCUserEmpty},
	{auth.ErrRoleExists, rpctypes.ErrGRPCRoleAlreadyExist},
	{auth.ErrRoleNotFound, rpctypes.ErrGRPCRoleNotFound},
	{auth.ErrRoleEmpty, rpctypes.ErrGRPCRoleEmpty},
	{auth.ErrRoleNotGranted, rpctypes.ErrGRPCRoleNotGranted},
	{auth.ErrPermissionNotGiven, rpctypes.ErrGRPCPermissionNotGiven},
	{auth.ErrPermissionNotGranted, rpctypes.ErrGRPCPermissionNotGranted},
	{auth.ErrPermissionDenied, rpctypes.ErrGRPCPermissionDenied},
	{auth.ErrInvalidManagement, rpctypes.ErrGRPCInvalidAuthMgmt},
	{auth.ErrNotEnabled, rpctypes.ErrGRPCAuthNotEnabled},
	{auth.ErrFailed, rpctypes.ErrGRPCAuthFailed},
	{auth.ErrNoPasswordUser, status.Error(codes.Unknown, auth.ErrNoPasswordUser.Error())},
	{auth.ErrOldRevision, rpctypes.ErrGRPCAuthOldRevision},
	{auth.ErrInvalidToken, rpctypes.ErrGRPCInvalidAuthToken},

	{membership.ErrRemoved, rpctypes.ErrGRPCMemberNotFound},
	{membership.ErrExists, rpctypes.ErrGRPCMemberExist},
	{membership.ErrNotFound, rpctypes.ErrGRPCMemberNotFound},
	{membership.ErrPeerURLExists, rpctypes.ErrGRPCPeerURLExist},
	{membership.ErrNotLearner, rpctypes.ErrGRPCMemberNotLearner},
	{membership.ErrTooManyLearners, rpctypes.ErrGRPCTooManyLearners},
	{membership.ErrLastVoter, errNotEnoughStarted},

	{server.ErrTimeout, rpctypes.ErrGRPCTimeout},
	{server.ErrTimeoutLeaderFail, rpctypes.ErrGRPCTimeoutDueToLeaderFail},
	{server.ErrTimeoutConnectionLost, rpctypes.ErrGRPCTimeoutDueToConnectionLost},
	{server.ErrAppliedTimeout, rpctypes.ErrGRPCTimeoutWaitAppliedIndex},
	{server.ErrLeaderChanged, rpctypes.ErrGRPCLeaderChanged},
	{server.ErrNoLeader, rpctypes.ErrGRPCNoLeader},
	{server.ErrNotLeader, rpctypes.ErrGRPCNotLeader},
	{server.ErrBadLeaderTransferee, rpctypes.ErrGRPCBadLeaderTransferee},
	{server.ErrLeaderTransferTimeout, status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long")},
	{server.ErrNotEnoughStarted, errNotEnoughStarted},
	{server.ErrUnhealthy, rpctypes.ErrGRPCUnhealthy},
	{server.ErrLearnerNotReady, rpctypes.ErrGRPCLearnerNotReady},
	{server.ErrStopped, rpctypes.ErrGRPCStopped},
	{mvcc.ErrNoRoom, status.Error(codes.Unknown, "etcdserver: too many requests")},
	{server.ErrTooManyRequests, status.Error(codes.Unknown, "etcdserver: too many requests")},
	{server.ErrDowngradeFormat, rpctypes.ErrGRPCWrongDowngradeVersionFormat},
	{server.ErrDowngradeTarget, rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
	{server.ErrDowngradeInProgress, rpctypes.ErrGRPCDowngradeInProcess},
	{server.ErrNoDowngrade, rpctypes.ErrGRPCNoInflightDowngrade},
	{server.ErrNoClusterVersion, rpctypes.ErrGRPCClusterVersionUnavailable},
	{server.ErrRequestTooLarge, rpctypes.ErrGRPCRequestTooLarge},
}

// toWire puts an error into etcd's words. What is no error of ours goes out as it is: errors of gRPC and of contexts have
// their codes, others have none.
func toWire(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, is := status.FromError(err); is {
		return err
	}
	for _, row := range wire {
		if errors.Is(err, row.err) {
			return row.on
		}
	}
	return status.Error(codes.Unknown, err.Error())
}
