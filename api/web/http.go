package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"holdfast/util/version"
)

// Clients serves everything that is not gRPC. json serves the API as JSON; nil is nobody.
func (e *Endpoints) Clients(json http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/version", e.version)
	mux.HandleFunc("/debug/vars", e.vars)
	e.addHealth(mux)
	e.addMetrics(mux)
	if e.cfg.SetLogLevel != nil {
		mux.HandleFunc("/config/local/log", e.logLevel)
	}
	if e.cfg.Profiles {
		e.addProfiles(mux)
	}
	if json != nil {
		mux.Handle(newPrefix, json)
	}
	return &access{origins: e.cfg.Origins, hosts: e.cfg.Hosts, log: e.log, next: mux}
}

// Metrics serves health and metrics alone.
func (e *Endpoints) Metrics() http.Handler {
	mux := http.NewServeMux()
	e.addHealth(mux)
	e.addMetrics(mux)
	return mux
}

func (e *Endpoints) addMetrics(mux *http.ServeMux) {
	mux.Handle("/metrics", e.cfg.Metrics.Handler())
}

// only refuses every method but one.
func only(method string, w http.ResponseWriter, r *http.Request) bool {
	if r.Method == method {
		return true
	}
	w.Header().Set("Allow", method)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// version answers with the versions of etcd that the member stands for.
func (e *Endpoints) version(w http.ResponseWriter, r *http.Request) {
	if !only(http.MethodGet, w, r) {
		return
	}
	WriteVersion(w, e.member.ClusterVersion(), e.member.Status().StorageVersion)
}

// WriteVersion answers /version: the version of etcd that this program stands for, and those of the cluster and of the data,
// which are empty while they are not known.
func WriteVersion(w http.ResponseWriter, cluster, stored string) {
	writeJSON(w, http.StatusOK, "application/json", struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
		Storage string `json:"storage"`
	}{version.EtcdVersion, cmp.Or(cluster, "not_decided"), cmp.Or(stored, "unknown")})
}

func writeJSON(w http.ResponseWriter, code int, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(code)
	write(w, string(inJSON(v)))
}

// write ends an answer. A client that went away hears nothing.
func write(w http.ResponseWriter, text string) { _, _ = io.WriteString(w, text) }

// inJSON is for values that have a form in JSON.
func inJSON(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("web: %T has no JSON form: %v", v, err))
	}
	return body
}
