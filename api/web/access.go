package web

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// access stands before all that clients are served over HTTP: it lets the pages of browsers in, or not, and keeps out requests that
// a browser was talked into by a name that suddenly points here (DNS rebinding, CVE-2018-5702).
type access struct {
	origins names // of pages that may use the answers
	hosts   names // under which this member may be called without TLS
	log     *slog.Logger
	next    http.Handler
}

// names is a set; an empty one, or one with "*", holds every name.
type names []string

func (n names) has(name string) bool { return n.all() || slices.Contains(n, name) }
func (n names) all() bool            { return len(n) == 0 || slices.Contains(n, "*") }

// oldPrefix is where the API lay before it was settled; it is served as newPrefix is. etcd still does.
const oldPrefix, newPrefix = "/v3beta/", "/v3/"

// ServeHTTP implements http.Handler.
func (a *access) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, old := strings.CutPrefix(r.URL.Path, oldPrefix); old {
		r.URL.Path, r.URL.RawPath = newPrefix+rest, ""
	}
	if host := hostname(r); r.TLS == nil && !a.hosts.has(host) {
		a.log.Warn("rejecting HTTP request to prevent DNS rebinding attacks", "host", host)
		http.Error(w, unknownHost(host), http.StatusMisdirectedRequest)
		return
	}
	if origin := r.Header.Get("Origin"); a.origins.all() {
		allowOrigin(w, "*")
	} else if a.origins.has(origin) {
		allowOrigin(w, origin)
	}
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return
	}
	a.next.ServeHTTP(w, r)
}

// hostname is the name under which the client called, without the port.
func hostname(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

// allowOrigin tells a browser that pages of origin may use the answer.
func allowOrigin(w http.ResponseWriter, origin string) {
	h := w.Header()
	h.Add("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
	h.Add("Access-Control-Allow-Origin", origin)
	h.Add("Access-Control-Allow-Headers", "accept, content-type, authorization")
}

// unknownHost is what a request under a wrong name gets, in the words that etcd's users know.
func unknownHost(host string) string {
	return fmt.Sprintf(`
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist %q

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).
`, host)
}

// SocketOrigin tells whether a page of the request's origin may open a WebSocket: what --cors allows, and pages that this member's
// own address has served.
func (e *Endpoints) SocketOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || names(e.cfg.Origins).has(origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}
