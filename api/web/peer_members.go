package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/login"
	"holdfast/membership"
	"holdfast/server"
)

// members lists the cluster in etcd's JSON, as this member knows it: who wants to join cannot wait for a leader.
func (e *Endpoints) members(w http.ResponseWriter, r *http.Request) {
	if !peerMethod(w, r, http.MethodGet) {
		return
	}
	e.nameCluster(w)
	members, err := e.member.Members(r.Context(), false)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if len(members) == 0 { // what the log has is still to be applied, and nobody is to take this member for one of no cluster
		RefuseStarting(w, server.StartingData)
		return
	}
	e.writeMembers(w, members)
}

// RefuseStarting answers who asks before the member can tell: what it starts with is StartingNew or StartingData of package server.
func RefuseStarting(w http.ResponseWriter, with string) {
	w.Header().Set(server.StartingHeader, with)
	http.Error(w, "the member is starting", http.StatusServiceUnavailable)
}

// promotePath is followed by the id of a learner, in decimal.
const promotePath = "/members/promote/"

// promote gives a learner a vote, for an administrator whose token came along, or for a member that has proved by its certificate to be one:
// it has asked itself whether its client may, who is known there by a certificate, too, or it is an etcd, which passes no tokens on.
// Other members ask the leader for it here, and tell the refusals apart by their text.
func (e *Endpoints) promote(w http.ResponseWriter, r *http.Request) {
	if !peerMethod(w, r, http.MethodPost) {
		return
	}
	e.nameCluster(w)
	text := strings.TrimPrefix(r.URL.Path, promotePath)
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		http.Error(w, fmt.Sprintf("member %s not found in cluster", text), http.StatusNotFound)
		return
	}
	ctx := r.Context()
	if text := r.Header.Get("Authorization"); text != "" {
		ctx = e.cfg.As(ctx, login.Credentials{Token: new(strings.TrimPrefix(text, "Bearer "))})
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		err = e.member.CheckAdmin(ctx)
	}
	var members []membership.Member
	if err == nil {
		members, err = e.member.MemberPromote(ctx, kv.MemberID(id))
	}
	if err != nil {
		e.log.Warn("failed to promote a member", "member-id", kv.MemberID(id).String(), "error", err)
		e.refusePromotion(w, err)
		return
	}
	e.writeMembers(w, members)
}

func (e *Endpoints) refusePromotion(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, membership.ErrNotFound):
		http.Error(w, membership.ErrNotFound.Error(), http.StatusNotFound)
	case errors.Is(err, membership.ErrNotLearner):
		http.Error(w, membership.ErrNotLearner.Error(), http.StatusPreconditionFailed)
	case errors.Is(err, server.ErrLearnerNotReady):
		http.Error(w, status.Convert(e.cfg.OnWire(err)).Message(), http.StatusPreconditionFailed)
	case errors.Is(err, auth.ErrPermissionDenied), errors.Is(err, auth.ErrUserEmpty):
		http.Error(w, status.Convert(e.cfg.OnWire(err)).Message(), http.StatusForbidden)
	default:
		writeJSON(w, http.StatusInternalServerError, "application/json", struct {
			Message string `json:"message"`
		}{"Internal Server Error"})
	}
}

// downgradePatience is how long downgradeEnabled may take to be sure. A cluster of one that grows has no majority before the
// one that asks has joined; an etcd waits for 7 s then, and takes the refusal for a no.
const downgradePatience = 500 * time.Millisecond

// downgradeEnabled tells who wants to join whether the cluster is going back to an older version. As in etcd that is said only by
// a member that is in touch with the others.
func (e *Endpoints) downgradeEnabled(w http.ResponseWriter, r *http.Request) {
	if !peerMethod(w, r, http.MethodGet) {
		return
	}
	e.nameCluster(w)
	ctx, cancel := context.WithTimeout(r.Context(), downgradePatience)
	defer cancel()
	enabled, err := e.member.DowngradeEnabled(ctx)
	if err != nil {
		http.Error(w, fmt.Sprintf("failed linearized read: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprint(w, enabled)
}

// nameCluster says of which cluster an answer is.
func (e *Endpoints) nameCluster(w http.ResponseWriter) {
	w.Header().Set(server.HeaderClusterID, fmt.Sprintf("%x", e.member.ClusterID()))
}

func (e *Endpoints) writeMembers(w http.ResponseWriter, members []membership.Member) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(members); err != nil { // etcd ends the text with a new line, as this does
		e.log.Warn("could not tell another member who belongs to the cluster", "error", err)
	}
}

// peerMethod refuses every method but one.
func peerMethod(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method {
		return true
	}
	w.Header().Set("Allow", method)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}
