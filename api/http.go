package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"google.golang.org/grpc/status"

	"holdfast/kv"
	"holdfast/membership"
	"holdfast/util/version"
)

// handler serves everything that is not gRPC.
func (a *API) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/version", a.version)
	a.addHealth(mux)
	if a.cfg.Profiles {
		addProfiles(mux)
	}
	return mux
}

func addProfiles(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// metricsHandler serves health and metrics alone.
func (a *API) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	a.addHealth(mux)
	return mux
}

func (a *API) addHealth(mux *http.ServeMux) {
	mux.HandleFunc("/health", a.health)
	mux.Handle("/metrics", a.cfg.Metrics.Handler())
}

// getOnly refuses every method but GET and HEAD.
func getOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// version answers with the versions of etcd that the member stands for.
func (a *API) version(w http.ResponseWriter, r *http.Request) {
	if !getOnly(w, r) {
		return
	}
	decided, stored := cmp.Or(a.member.ClusterVersion(), "not_decided"), cmp.Or(a.member.Status().StorageVersion, "unknown")
	writeJSON(w, http.StatusOK, "application/json", struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
		Storage string `json:"storage"`
	}{version.EtcdVersion, decided, stored})
}

// healthTimeout bounds the read that /health makes.
const healthTimeout = 5 * time.Second

// health tells whether the member can serve: no alarm, a leader, and a read that works.
func (a *API) health(w http.ResponseWriter, r *http.Request) {
	if !getOnly(w, r) {
		return
	}
	why := a.unhealthy(r)
	code := http.StatusOK
	if why == "" {
		a.calls.healthy.Add(1)
	} else {
		a.calls.unhealthy.Add(1)
		code = http.StatusServiceUnavailable
		a.log.Warn("serving /health false", "reason", why)
	}
	writeJSON(w, code, "text/plain; charset=utf-8", struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}{fmt.Sprint(why == ""), why})
}

// unhealthy says what is wrong with the member, in etcd's words; nothing if all is well.
func (a *API) unhealthy(r *http.Request) string {
	excluded := map[string]bool{}
	for _, name := range r.URL.Query()["exclude"] {
		excluded[name] = true
	}
	for _, t := range []membership.AlarmType{membership.AlarmNoSpace, membership.AlarmCorrupt} {
		if !excluded[t.String()] && a.member.HasAlarm(t) {
			return "ALARM " + t.String()
		}
	}
	serializable := r.URL.Query().Get("serializable") == "true"
	if !serializable && a.member.Leader() == 0 {
		return "RAFT NO LEADER"
	}
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	_, err := a.member.Range(ctx, &kv.RangeRequest{
		KeyRange: kv.KeyRange{Key: []byte{0}}, KeysOnly: true, Limit: 1, Serializable: serializable,
	})
	if err != nil {
		return "RANGE ERROR:" + status.Convert(toWire(err)).Message()
	}
	return ""
}

func writeJSON(w http.ResponseWriter, code int, kind string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("api: %T has no JSON form: %v", v, err))
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(code)
	w.Write(body) // a client that went away hears nothing
}
