package web

import (
	"encoding/json"
	"fmt"
	"net/http"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/kv"
	"holdfast/server"
)

// peerHashKV tells another member the hash of the keys up to a revision.
func (e *Endpoints) peerHashKV(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	cluster := fmt.Sprintf("%x", e.member.ClusterID())
	if theirs := r.Header.Get(server.HeaderClusterID); theirs != "" && theirs != cluster {
		http.Error(w, "cluster ID mismatch", http.StatusPreconditionFailed)
		return
	}
	body, err := readPeerBody(w, r)
	var q pb.HashKVRequest
	if err == nil && json.Unmarshal(body, &q) != nil {
		err = errUnreadable
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	hash, err := e.member.HashKV(r.Context(), kv.Revision(q.Revision))
	if err != nil {
		e.log.Warn("failed to get hashKV", "requested-revision", q.Revision, "error", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set(server.HeaderClusterID, cluster)
	writeJSON(w, http.StatusOK, "application/json", &pb.HashKVResponse{
		Header: &pb.ResponseHeader{Revision: int64(e.member.Header().Revision)},
		Hash:   hash.Sum, CompactRevision: int64(hash.Compact), HashRevision: int64(hash.Revision),
	})
}
