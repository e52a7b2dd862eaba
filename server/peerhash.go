package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/kv"
	"holdfast/mvcc"
)

// PathHashKV is where members ask one another for their hash: GET with an etcdserverpb.HashKVRequest in Go's JSON, answered
// by a HashKVResponse whose header says only the revision. As in etcd.
const PathHashKV = "/members/hashkv"

// HeaderClusterID names the cluster that a request or an answer is about, in hex.
const HeaderClusterID = "X-Etcd-Cluster-ID"

// errPeerCluster says that whoever listens at a peer URL belongs to another cluster.
var errPeerCluster = errors.New("cluster ID mismatch")

// hashKV asks a member, at one of its peer URLs, for its hash up to a revision.
func (c *peerClient) hashKV(ctx context.Context, url string, cluster uint64, rev kv.Revision) peerHash {
	answer, err := c.askHashKV(ctx, url, cluster, rev)
	if err != nil {
		return peerHash{err: err}
	}
	return peerHash{
		hash:     mvcc.Hash{Sum: answer.Hash, Revision: kv.Revision(answer.HashRevision), Compact: kv.Revision(answer.CompactRevision)},
		revision: kv.Revision(answer.Header.GetRevision()),
	}
}

func (c *peerClient) askHashKV(ctx context.Context, url string, cluster uint64, rev kv.Revision) (*pb.HashKVResponse, error) {
	body, err := json.Marshal(&pb.HashKVRequest{Revision: int64(rev)})
	if err != nil {
		return nil, err
	}
	header := contentHeader(contentJSON)
	header.Set(HeaderClusterID, fmt.Sprintf("%x", cluster))
	answer, err := c.askOne(ctx, url, peerRequest{method: http.MethodGet, path: PathHashKV, header: header, body: body})
	if err != nil {
		return nil, err
	}
	said := func(err error) bool { return strings.Contains(string(answer.body), err.Error()) }
	switch {
	case answer.status == http.StatusBadRequest && said(mvcc.ErrCompacted):
		return nil, mvcc.ErrCompacted
	case answer.status == http.StatusBadRequest && said(mvcc.ErrFutureRevision):
		return nil, mvcc.ErrFutureRevision
	case answer.status == http.StatusPreconditionFailed && said(errPeerCluster):
		return nil, errPeerCluster
	case answer.status != http.StatusOK:
		return nil, answer.refusal(PathHashKV)
	}
	var hash pb.HashKVResponse
	if err := json.Unmarshal(answer.body, &hash); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return &hash, nil
}
