package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/status"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/metrics"
	"holdfast/server"
)

// healthTimeout bounds the read that /health makes.
const healthTimeout = 5 * time.Second

// healthCheck is one question whose answer decides whether the member is well.
type healthCheck struct {
	name string
	run  func(*Endpoints, context.Context) error
}

// The checks of /livez and /readyz, in the order in which they are told. A member that fails livez is better restarted, one that
// fails readyz should get no requests.
var (
	readHere     = healthCheck{"serializable_read", func(e *Endpoints, ctx context.Context) error { return e.healthRead(ctx, true) }}
	readAgreed   = healthCheck{"linearizable_read", func(e *Endpoints, ctx context.Context) error { return e.healthRead(ctx, false) }}
	notCorrupt   = healthCheck{"data_corruption", (*Endpoints).checkCorruption}
	notLearner   = healthCheck{"non_learner", (*Endpoints).checkLearner}
	livezChecks  = []healthCheck{readHere}
	readyzChecks = []healthCheck{notCorrupt, readHere, readAgreed, notLearner}
)

func (e *Endpoints) checkCorruption(context.Context) error {
	if e.member.HasAlarm(membership.AlarmCorrupt) {
		return errors.New("alarm activated: CORRUPT")
	}
	return nil
}

func (e *Endpoints) checkLearner(context.Context) error {
	if e.member.IsLearner() {
		return errors.New("not supported for learner")
	}
	return nil
}

// healthReads is how often a read is tried while users or roles change.
const healthReads = 3

// healthRead makes a read that finds nothing, and passes on in etcd's words why it failed. Nobody logs in to ask for health: it is
// read as root.
func (e *Endpoints) healthRead(ctx context.Context, serializable bool) (err error) {
	asRoot := server.WithIdentity(ctx, func() (server.Identity, error) {
		return server.Identity{User: auth.Root, Revision: e.member.Auth().Revision()}, nil
	})
	for range healthReads {
		_, _, err = e.member.RangeWithin(asRoot, &kv.RangeRequest{
			KeyRange: kv.KeyRange{Key: []byte{0}}, KeysOnly: true, Limit: 1, Serializable: serializable,
		}, nil)
		if !errors.Is(err, auth.ErrOldRevision) {
			break
		}
	}
	if err != nil {
		return errors.New(status.Convert(e.cfg.OnWire(err)).Message())
	}
	return nil
}

// addHealth serves /health, /livez and /readyz, and each check of those two by itself.
func (e *Endpoints) addHealth(mux *http.ServeMux) {
	mux.HandleFunc("/health", e.serveHealth)
	for root, checks := range map[string][]healthCheck{"/livez": livezChecks, "/readyz": readyzChecks} {
		kind := root[1:]
		mux.HandleFunc(root, func(w http.ResponseWriter, r *http.Request) { e.runChecks(w, r, kind, e.without(r, checks)) })
		for _, c := range checks {
			mux.HandleFunc(root+"/"+c.name, func(w http.ResponseWriter, r *http.Request) { e.runChecks(w, r, kind, []healthCheck{c}) })
		}
	}
}

// without are the checks that the request does not exclude. A name that is none is no reason to fail: it may be one of another version.
func (e *Endpoints) without(r *http.Request, checks []healthCheck) []healthCheck {
	excluded := r.URL.Query()["exclude"]
	var unknown []string
	for _, name := range excluded {
		if name != "" && !slices.ContainsFunc(checks, func(c healthCheck) bool { return c.name == name }) {
			unknown = append(unknown, strconv.Quote(name))
		}
	}
	if len(unknown) > 0 {
		e.log.Warn("some health checks cannot be excluded", "missing-health-checks", strings.Join(unknown, ","))
	}
	return slices.DeleteFunc(slices.Clone(checks), func(c healthCheck) bool { return slices.Contains(excluded, c.name) })
}

// runChecks answers with what the checks found. Whoever asks for more than a code by ?verbose is told each result.
func (e *Endpoints) runChecks(w http.ResponseWriter, r *http.Request, kind string, checks []healthCheck) {
	if !only(http.MethodGet, w, r) {
		return
	}
	found, failed := "", false
	for _, c := range checks {
		err := c.run(e, r.Context())
		e.health.count(kind, c.name, err == nil)
		if err != nil {
			found, failed = found+fmt.Sprintf("[-]%s failed: %v\n", c.name, err), true
		} else {
			found += fmt.Sprintf("[+]%s ok\n", c.name)
		}
	}
	if failed {
		e.log.Error("Health check error", "path", r.URL.Path, "reason", found, "status-code", http.StatusServiceUnavailable)
		http.Error(w, found, http.StatusServiceUnavailable)
		return
	}
	if !r.URL.Query().Has("verbose") {
		found = ""
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	write(w, found+"ok\n")
}

// healthStats counts the outcomes of checks.
type healthStats struct {
	healthy, unhealthy atomic.Uint64 // answers of /health

	mu sync.Mutex // guards the field below
	by map[checkID]*outcomes
}

// checkID is a check of livez or readyz.
type checkID struct{ kind, name string }

type outcomes struct {
	passed, failed uint64
	last           bool
}

func (h *healthStats) count(kind, name string, passed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.by[checkID{kind, name}]
	if o == nil {
		if h.by == nil {
			h.by = map[checkID]*outcomes{}
		}
		o = new(outcomes)
		h.by[checkID{kind, name}] = o
	}
	if o.last = passed; passed {
		o.passed++
	} else {
		o.failed++
	}
}

// sample shows what was counted: outcomes that were there, as etcd does.
func (h *healthStats) sample(s *metrics.Sample) {
	s.Set(metrics.HealthSuccesses, float64(h.healthy.Load()))
	s.Set(metrics.HealthFailures, float64(h.unhealthy.Load()))
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, o := range h.by {
		s.Bool(metrics.HealthCheck, o.last, id.kind, id.name)
		if o.passed > 0 {
			s.Set(metrics.HealthChecks, float64(o.passed), id.kind, id.name, "success")
		}
		if o.failed > 0 {
			s.Set(metrics.HealthChecks, float64(o.failed), id.kind, id.name, "error")
		}
	}
}

// serveHealth tells whether the member can serve: no alarm, a leader, and a read that works.
func (e *Endpoints) serveHealth(w http.ResponseWriter, r *http.Request) {
	if !only(http.MethodGet, w, r) {
		return
	}
	why := e.unhealthy(r)
	text := string(inJSON(struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}{strconv.FormatBool(why == ""), why}))
	if why != "" {
		e.health.unhealthy.Add(1)
		e.log.Warn("serving /health false", "reason", why)
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	e.health.healthy.Add(1)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	write(w, text)
}

// unhealthy says what is wrong with the member, in etcd's words; nothing if all is well.
func (e *Endpoints) unhealthy(r *http.Request) string {
	q := r.URL.Query()
	for _, t := range []membership.AlarmType{membership.AlarmNoSpace, membership.AlarmCorrupt} {
		if !slices.Contains(q["exclude"], t.String()) && e.member.HasAlarm(t) {
			return "ALARM " + t.String()
		}
	}
	serializable := q.Get("serializable") == "true"
	if !serializable && e.member.Leader() == 0 {
		return "RAFT NO LEADER"
	}
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	if err := e.healthRead(ctx, serializable); err != nil {
		return "RANGE ERROR:" + err.Error()
	}
	return ""
}
