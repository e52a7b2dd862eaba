package transport

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"holdfast/util/version"
)

// Headers that members send each other.
const (
	headerFrom       = "X-Server-From" // sender's id
	headerVersion    = "X-Server-Version"
	headerMinVersion = "X-Min-Cluster-Version"
	headerCluster    = "X-Etcd-Cluster-ID"
	headerURLs       = "X-PeerURLs" // the sender's peer URLs, separated by commas
	headerTo         = "X-Raft-To"  // on a request for a stream: whom the sender thinks it asks
	// headerCheckpoints is ours: the checkpoints that the sender reads. An etcd neither sends nor looks at it.
	headerCheckpoints = "X-Holdfast-Checkpoints"
)

// minClusterVersion is the oldest cluster that etcd 3.7 takes part in.
const minClusterVersion = version.OldestCluster

// Why a request is refused with 412. The texts are etcd's: the other side looks for them.
var (
	errIncompatible = errors.New("incompatible version")
	errCluster      = errors.New("cluster ID mismatch")
)

// errNotFound is the answer of a member that does not know the path.
var errNotFound = errors.New("unexpected answer 404 Not Found")

// setHeader says who sends a request.
func (t *Transport) setHeader(h http.Header) {
	h.Set(headerFrom, hex(t.cfg.ID))
	h.Set(headerVersion, version.EtcdVersion)
	h.Set(headerMinVersion, minClusterVersion)
	h.Set(headerCluster, hex(t.cfg.ClusterID))
	if len(t.cfg.URLs) > 0 {
		h.Set(headerURLs, strings.Join(slices.Sorted(slices.Values(t.cfg.URLs)), ","))
	}
	if t.cfg.Checkpoints != "" {
		h.Set(headerCheckpoints, t.cfg.Checkpoints)
	}
}

// checkHeader reports whether whoever sent h may talk to this member.
func (t *Transport) checkHeader(h http.Header) error {
	if err := compatible(h); err != nil {
		t.cfg.Log.Warn("failed version compatibility check", "remote-peer-server-name", h.Get(headerFrom),
			"remote-peer-server-version", h.Get(headerVersion), "remote-peer-server-minimum-cluster-version", h.Get(headerMinVersion), "error", err)
		return errIncompatible
	}
	if h.Get(headerCluster) != hex(t.cfg.ClusterID) {
		t.cfg.Log.Warn("request cluster ID mismatch", "remote-peer-server-name", h.Get(headerFrom),
			"local-member-cluster-id", hex(t.cfg.ClusterID), "remote-peer-cluster-id", h.Get(headerCluster))
		return errCluster
	}
	return nil
}

// compatible compares minor versions: theirs must not be below the oldest cluster we take part in, nor ours below the
// oldest they do.
func compatible(h http.Header) error {
	local, oldest := version.MustParseMinor(version.EtcdVersion), version.MustParseMinor(minClusterVersion)
	theirs, err := parseMinor(h.Get(headerVersion))
	if err != nil {
		return err
	}
	theirOldest, err := parseMinor(h.Get(headerMinVersion))
	switch {
	case err != nil:
		return err
	case theirs.Below(oldest):
		return fmt.Errorf("remote version is too low: remote[%s]=%s, local=%s", h.Get(headerFrom), h.Get(headerVersion), version.EtcdVersion)
	case local.Below(theirOldest):
		return fmt.Errorf("local version is too low: remote[%s]=%s, local=%s", h.Get(headerFrom), h.Get(headerVersion), version.EtcdVersion)
	}
	return nil
}

// parseMinor reads the version of a sender. Without one it is an etcd 2.0, which said nothing.
func parseMinor(text string) (version.Minor, error) {
	if text == "" {
		return version.Minor{Major: 2}, nil
	}
	return version.ParseMinor(text)
}

// answerBytes is how much of a refusal is read, in order to say why.
const answerBytes = 4 << 10

// checkAnswer turns an answer that is not the one wanted into an error and closes it.
func checkAnswer(resp *http.Response, want int) error {
	if resp.StatusCode == want {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	err = errors.Join(err, resp.Body.Close())
	reason := strings.TrimSpace(string(text))
	switch {
	case resp.StatusCode == http.StatusGone,
		resp.StatusCode == http.StatusForbidden && strings.Contains(reason, errFromRemoved.Error()):
		return ErrRemoved
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %s", errNotFound, reason)
	case reason == errIncompatible.Error():
		return errIncompatible
	case reason == errCluster.Error():
		return fmt.Errorf("%w: the peer's is %s", errCluster, resp.Header.Get(headerCluster))
	}
	return errors.Join(fmt.Errorf("unexpected answer %s: %s", resp.Status, reason), err)
}
