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
		}
	}
	return out
}

// serverHints belong to the errors of the protocol.
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
