package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"holdfast/util/version"
)

// handler serves everything that is not gRPC. json serves the API as JSON; nil is nobody.
func (a *API) handler(json http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/version", a.version)
	mux.HandleFunc("/debug/vars", a.vars)
	a.addHealth(mux)
	a.addMetrics(mux)
	if a.cfg.SetLogLevel != nil {
		mux.HandleFunc("/config/local/log", a.logLevel)
	}
	if a.cfg.Profiles {
		a.addProfiles(mux)
	}
	if json != nil {
		mux.Handle(newPrefix, a.refuseNames(json))
	}
	return &access{origins: a.cfg.Origins, hosts: a.cfg.Hosts, log: a.log, next: mux}
}

// metricsHandler serves health and metrics alone.
func (a *API) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	a.addHealth(mux)
	a.addMetrics(mux)
	return mux
}

func (a *API) addMetrics(mux *http.ServeMux) {
	mux.Handle("/metrics", a.cfg.Metrics.Handler())
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
func (a *API) version(w http.ResponseWriter, r *http.Request) {
	if !only(http.MethodGet, w, r) {
		return
	}
	WriteVersion(w, a.member.ClusterVersion(), a.member.Status().StorageVersion)
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
		panic(fmt.Sprintf("api: %T has no JSON form: %v", v, err))
	}
	return body
}
