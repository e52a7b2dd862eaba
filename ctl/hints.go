package ctl

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// hints say what to try after an error. They go to standard error, below the error's own line, which stays etcd's.
func hints(err error, program string) []string {
	text := err.Error()
	var out []string
	add := func(hint string) { out = append(out, strings.ReplaceAll(hint, "ctl ", program+" ")) }
	switch code := status.Code(rootOf(err)); {
	case strings.Contains(text, "certificate signed by unknown authority"):
		add("--cacert names the authority that signed the server's certificate; \"ctl check tls\" looks at a set of files")
	case strings.Contains(text, "tls: "), strings.Contains(text, "x509: "):
		add("\"ctl check tls\" says what is wrong with a set of certificates and keys")
	case errors.Is(err, context.DeadlineExceeded), code == codes.Unavailable, code == codes.DeadlineExceeded:
		add("no endpoint gave an answer in time: --endpoints or ETCDCTL_ENDPOINTS says where to ask, \"ctl endpoint health\" who answers; " +
			"a member with TLS wants https:// and --cacert")
	}
	for _, h := range serverHints {
		if errors.Is(err, h.err) || strings.Contains(text, h.err.Error()) {
			add(h.hint)
			break
		}
	}
	return out
}

// leaderHint is for the time of an election.
const leaderHint = "the cluster has no leader, or has just lost one: try again; if that lasts, \"ctl endpoint status --cluster -w table\" shows who is there"

// serverHints belong to the errors of the protocol. The first that fits is given: a text that another one begins with comes after that.
var serverHints = []struct {
	err  error
	hint string
}{
	{rpctypes.ErrNoSpace, "\"ctl alarm list\" shows who is full; compact the history, \"ctl defrag\" a member of etcd, then \"ctl alarm disarm\""},
	{rpctypes.ErrUserEmpty, "authentication is on: --user name:password, or ETCDCTL_USER"},
	{rpctypes.ErrAuthFailed, "the name or the password is wrong; root can set a new one by \"ctl user passwd\""},
	{rpctypes.ErrPermissionDenied, "\"ctl user get NAME --detail\" shows what a user may do; root changes it by \"ctl role grant-permission\""},
	{rpctypes.ErrCompacted, "that revision is no longer kept; ask without --rev, or for a newer one"},
	{rpctypes.ErrFutureRev, "the newest revision stands in the header of any answer: \"ctl get x -w json\""},
	{rpctypes.ErrLeaseNotFound, "leases are written in hexadecimal; \"ctl lease list\" shows them"},
	{rpctypes.ErrKeyNotFound, "only a key that exists has a value or a lease to keep: without --ignore-value and --ignore-lease the key is made"},
	{rpctypes.ErrNoLeader, leaderHint},
	{rpctypes.ErrTimeoutDueToLeaderFail, leaderHint},
	{rpctypes.ErrTimeout, "the members may not reach each other, or their disks are slow: \"ctl endpoint status --cluster -w table\" shows who leads"},
	{rpctypes.ErrCorrupt, "members differ: \"ctl alarm list\" names one, \"ctl endpoint hashkv --cluster\" shows who is alone; replace that member, then \"ctl alarm disarm\""},
	{rpctypes.ErrMemberNotFound, "ids are written in hexadecimal; \"ctl member list\" shows them"},
	{rpctypes.ErrMemberNotLearner, "\"ctl member list\" shows in its last column who learns"},
	{rpctypes.ErrMemberLearnerNotReady, "it has not caught up: \"ctl endpoint status --cluster -w table\" shows how far each member has come"},
	{rpctypes.ErrPeerURLExist, "\"ctl member list\" shows whose peer URL it is"},
	{rpctypes.ErrUnhealthy, "too few members are started for this change: \"ctl endpoint health --cluster\" shows who answers"},
	{rpctypes.ErrGRPCNotSupportedForLearner, "ask a member that votes: \"ctl member list\" shows in its last column who learns"},
	{rpctypes.ErrBadLeaderTransferee, "only a member that votes can lead: \"ctl member list\""},
	{rpctypes.ErrUserNotFound, "\"ctl user list\" shows who there is"},
	{rpctypes.ErrRoleNotFound, "\"ctl role list\" shows which there are"},
	{rpctypes.ErrRoleNotGranted, "\"ctl user get NAME\" shows the roles of a user"},
	{rpctypes.ErrPermissionNotGranted, "\"ctl role get NAME\" shows what was granted: a range is revoked as it was granted, with --prefix or its end"},
	{rpctypes.ErrRootUserNotExist, "\"ctl user add root\" comes first"},
	{rpctypes.ErrRootRoleNotExist, "\"ctl user grant-role root root\" comes first"},
	{rpctypes.ErrAuthNotEnabled, "\"ctl auth enable\" turns it on; without it nobody needs to say who he is"},
	{rpctypes.ErrInvalidAuthToken, "a token of --auth-jwt-token that the member does not know, or that is over"},
	{rpctypes.ErrWrongDowngradeVersionFormat, "a version is written as 3.6"},
	{rpctypes.ErrInvalidDowngradeTargetVersion, "it goes down by one minor version at a time: \"ctl endpoint status -w table\" shows the members'"},
	{rpctypes.ErrRequestTooLarge, "the server bounds requests by its --max-request-bytes; the client's own bound is a flag of the same name"},
}

// rootOf is the innermost error, which is the one that carries a status.
func rootOf(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
