package server

import "errors"

// What a caller may be told besides the errors of apply, mvcc, lease, auth and membership.
var (
	// ErrTimeout says that a request was not carried out, or not confirmed, in time.
	ErrTimeout = errors.New("request timed out")
	// ErrTimeoutLeaderFail is ErrTimeout where the leader was lost while the request waited.
	ErrTimeoutLeaderFail = errors.New("request timed out, possibly due to previous leader failure")
	// ErrTimeoutConnectionLost is ErrTimeout where this member knows no leader.
	ErrTimeoutConnectionLost = errors.New("request timed out, possibly due to connection lost")
	// ErrAppliedTimeout says that this member is too far behind in applying what was committed before the request.
	ErrAppliedTimeout = errors.New("request timed out, waiting for the applied index took too long")
	// ErrLeaderChanged ends a read whose leader was replaced while it was being confirmed.
	ErrLeaderChanged = errors.New("leader changed")
	// ErrNoLeader refuses what needs a leader while none is known.
	ErrNoLeader = errors.New("no leader")
	// ErrNotLeader refuses what only the leader does.
	ErrNotLeader = errors.New("not leader")
	// ErrBadLeaderTransferee refuses to hand leadership to a member that cannot take it.
	ErrBadLeaderTransferee = errors.New("bad leader transferee")
	// ErrLeaderTransferTimeout says that a new leader did not take over in time.
	ErrLeaderTransferTimeout = errors.New("request timed out, leader transfer took too long")
	// ErrStopped says that the member is stopping.
	ErrStopped = errors.New("server stopped")
	// ErrTooManyRequests refuses a proposal because too many are under way.
	ErrTooManyRequests = errors.New("too many requests")
	// ErrDowngradeFormat refuses a downgrade to what is no version.
	ErrDowngradeFormat = errors.New("wrong downgrade target version format")
	// ErrDowngradeTarget refuses a downgrade to a version that is not the one before the cluster's.
	ErrDowngradeTarget = errors.New("invalid downgrade target version")
	// ErrDowngradeInProgress refuses a downgrade while there is one.
	ErrDowngradeInProgress = errors.New("cluster has a downgrade job in progress")
	// ErrNoDowngrade says that there is no downgrade to cancel.
	ErrNoDowngrade = errors.New("no inflight downgrade job")
	// ErrNoClusterVersion refuses a downgrade before the version of the cluster is decided.
	ErrNoClusterVersion = errors.New("cluster version not found during downgrade")
	// ErrRequestTooLarge refuses a request whose log entry would exceed Config.RequestBytesMax.
	ErrRequestTooLarge = errors.New("request is too large")
)
