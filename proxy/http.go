package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"
)

// handler answers HTTP. /metrics and /health speak of the cluster, what is below /proxy of the proxy.
func (p *Proxy) handler(profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", p.relayMetrics)
	mux.HandleFunc("/health", answerHealth(p.clusterHealth))
	mux.Handle("/proxy/metrics", p.metrics.Handler())
	mux.HandleFunc("/proxy/health", answerHealth(p.ownHealth))
	if profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// health is an answer about it, in etcd's form.
type health struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

func answerHealth(ask func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		h := health{Health: "true"}
		if err := ask(r.Context()); err != nil {
			h = health{"false", err.Error()}
		}
		body, err := json.Marshal(h)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if h.Health != "true" {
			http.Error(w, string(body), http.StatusServiceUnavailable)
			return
		}
		w.Write(body) // a client that has gone does not need it
	}
}

// The bounds of questions about health, etcd's.
const (
	rangeTimeout = time.Second
	watchTimeout = 3 * time.Second
)

// clusterHealth reads from the cluster.
func (p *Proxy) clusterHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	_, err := p.direct.Get(ctx, "a")
	return healthOf(err)
}

// healthOf is what a range says of health: that it is not allowed shows that somebody is there to say so.
func healthOf(err error) error {
	switch status.Convert(asStatus(err)).Message() {
	case "", rpctypes.ErrorDesc(rpctypes.ErrGRPCPermissionDenied), rpctypes.ErrorDesc(rpctypes.ErrGRPCUserEmpty):
		return nil
	}
	return fmt.Errorf("GET ERROR:%w", err)
}

// ownHealth makes the way of a client: a range, and a watch that is created.
func (p *Proxy) ownHealth(ctx context.Context) error {
	service := &kvService{Proxy: p}
	reading, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	_, err := service.Range(reading, &pb.RangeRequest{Key: []byte("a")})
	if err := healthOf(err); err != nil {
		return err
	}
	watching, stop := context.WithTimeout(ctx, watchTimeout)
	defer stop()
	if _, created := <-p.client.Watch(watching, "a", clientv3.WithCreatedNotify()); !created || watching.Err() != nil {
		return errors.New("WATCH TIMEOUT")
	}
	return nil
}

// relayTimeout and relayBytes bound what a member may take and say when asked for its metrics; a member with a thousand series more than
// any has 1 MB.
const (
	relayTimeout = 10 * time.Second
	relayBytes   = 64 << 20
)

// relayMetrics asks a member, any, for its metrics.
func (p *Proxy) relayMetrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), relayTimeout)
	defer cancel()
	body, err := p.fetch(ctx, "/metrics")
	if err != nil {
		p.log.Warn("could not ask a member for its metrics", "error", err)
		http.Error(w, "Internal server error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	w.Write(body) // a client that has gone does not need it
}

func (p *Proxy) fetch(ctx context.Context, path string) ([]byte, error) {
	members := p.client.Endpoints()
	target := members[rand.IntN(len(members))] + path
	if !strings.HasPrefix(target, "http") {
		scheme := "http://"
		if p.cfg.TLS != nil {
			scheme = "https://"
		}
		target = scheme + target
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	client := p.cfg.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	a, err := client.Do(q)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	return io.ReadAll(io.LimitReader(a.Body, relayBytes))
}
