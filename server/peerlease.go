package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
	"holdfast/lease"
)

// Where members ask the leader about leases. Bodies are protobuf, as in etcd.
const (
	// PathLeases takes a LeaseKeepAliveRequest.
	PathLeases = "/leases"
	// PathLeasesInternal takes a LeaseTimeToLiveRequest in its envelope, see kv.AppendLeaseInternal.
	PathLeasesInternal = "/leases/internal"
)

// leaseAnswerMax bounds an answer about a lease, which may list all its keys; etcd's number.
const leaseAnswerMax = 100 << 20

// renewLease asks the leader, at one of its peer URLs, to renew a lease.
func (c *peerClient) renewLease(ctx context.Context, url string, id kv.LeaseID) (ttl int64, err error) {
	body, err := proto.Marshal(&pb.LeaseKeepAliveRequest{ID: int64(id)})
	if err != nil {
		return 0, err
	}
	if body, err = c.askLease(ctx, url, PathLeases, body); err != nil {
		return 0, err
	}
	var answer pb.LeaseKeepAliveResponse
	if err := proto.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if kv.LeaseID(answer.ID) != id {
		return 0, fmt.Errorf("%s renewed lease %s instead of %s", url, kv.LeaseID(answer.ID), id)
	}
	return answer.TTL, nil
}

// leaseTimeToLive asks the leader, at one of its peer URLs, how long a lease has to live.
func (c *peerClient) leaseTimeToLive(ctx context.Context, url string, id kv.LeaseID, keys bool) (LeaseStatus, error) {
	body, err := proto.Marshal(&pb.LeaseTimeToLiveRequest{ID: int64(id), Keys: keys})
	if err != nil {
		return LeaseStatus{}, err
	}
	if body, err = c.askLease(ctx, url, PathLeasesInternal, kv.AppendLeaseInternal(nil, body)); err != nil {
		return LeaseStatus{}, err
	}
	var answer pb.LeaseTimeToLiveResponse
	if body, err = kv.DecodeLeaseInternal(body); err == nil {
		err = proto.Unmarshal(body, &answer)
	}
	if err != nil {
		return LeaseStatus{}, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if kv.LeaseID(answer.ID) != id {
		return LeaseStatus{}, fmt.Errorf("%s told of lease %s instead of %s", url, kv.LeaseID(answer.ID), id)
	}
	return LeaseStatus{Granted: answer.GrantedTTL, Remaining: answer.TTL, Keys: answer.Keys}, nil
}

// askLease posts a request about a lease and returns the body of the answer.
func (c *peerClient) askLease(ctx context.Context, url, path string, body []byte) ([]byte, error) {
	answer, err := c.askOne(ctx, url, peerRequest{
		method: http.MethodPost, path: path, header: contentHeader(contentProtobuf), body: body, answerMax: leaseAnswerMax,
	})
	switch {
	case err != nil:
		return nil, err
	case answer.status == http.StatusNotFound && strings.TrimSpace(string(answer.body)) == lease.ErrNotFound.Error():
		return nil, lease.ErrNotFound
	case answer.status != http.StatusOK:
		return nil, answer.refusal(path)
	}
	return answer.body, nil
}

// refusal is what a member said instead of answering.
func (a *peerAnswer) refusal(path string) error {
	text := strings.TrimSpace(string(a.body[:min(len(a.body), 1<<10)]))
	return errors.New(a.url + path + " answered " + http.StatusText(a.status) + ": " + text)
}
