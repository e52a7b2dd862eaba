package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), memberCollector{a.member}, a.load)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
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
	if why != "" {
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

// memberCollector shows what the member knows of itself under etcd's names.
type memberCollector struct{ member Member }

var (
	hasLeader = gauge("etcd_server_has_leader", "Whether a leader is known: 1, or 0.")
	isLeader  = gauge("etcd_server_is_leader", "Whether this member leads: 1, or 0.")
	isLearner = gauge("etcd_server_is_learner", "Whether this member has no vote: 1, or 0.")
	dbSize    = gauge("etcd_mvcc_db_total_size_in_bytes", "What the data takes on disk, at least what is in use.")
	dbInUse   = gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Encoded bytes of all revisions that are kept.")
	quota     = gauge("etcd_server_quota_backend_bytes", "Bound of the bytes of all revisions that are kept.")
	committed = gauge("etcd_server_proposals_committed_total", "Index of the last committed entry.")
	applied   = gauge("etcd_server_proposals_applied_total", "Index of the last applied entry.")
	revision  = gauge("etcd_debugging_mvcc_current_revision", "Current revision of the store.")
	serverVer = prometheus.NewDesc("etcd_server_version", "Version of etcd that the member stands for. Always 1.", []string{"server_version"}, nil)
	buildInfo = prometheus.NewDesc("holdfast_build_info", "Version of Holdfast. Always 1.", []string{"version", "commit"}, nil)
)

func gauge(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

// Describe implements prometheus.Collector.
func (c memberCollector) Describe(out chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, out)
}

// Collect implements prometheus.Collector.
func (c memberCollector) Collect(out chan<- prometheus.Metric) {
	s := c.member.Status()
	for desc, v := range map[*prometheus.Desc]float64{
		hasLeader: one(s.Leader != 0), isLeader: one(s.Leader == c.member.ID()), isLearner: one(s.IsLearner),
		dbSize: float64(s.Size), dbInUse: float64(s.SizeInUse), quota: float64(s.Quota),
		committed: float64(s.Committed), applied: float64(s.Applied), revision: float64(c.member.Header().Revision),
	} {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v)
	}
	out <- prometheus.MustNewConstMetric(serverVer, prometheus.GaugeValue, 1, version.EtcdVersion)
	out <- prometheus.MustNewConstMetric(buildInfo, prometheus.GaugeValue, 1, version.Holdfast(), version.Commit())
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
