package security

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"holdfast/tlsconf/tlstest"
)

// The load of TestRotation: 200 connections are opened in a second, by as many workers as it takes, up to workersMax.
const (
	openInterval = 5 * time.Millisecond
	workersMax   = 256
)

// crowd opens connections, makes one request on each, and closes them.
type crowd struct {
	p      *party
	opened atomic.Uint64
	failed atomic.Uint64

	mu    sync.RWMutex // held for reading by each request, for writing by who wants all of them to end
	first atomic.Pointer[error]
}

// run opens until ctx ends and waits for all.
func (c *crowd) run(ctx context.Context) {
	tick := time.NewTicker(openInterval)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, workersMax)
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		slots <- struct{}{} // a slow machine opens fewer
		wg.Go(func() {
			defer func() { <-slots }()
			c.one(i)
		})
	}
}

// one is a put over gRPC, or every fourth time a request of HTTP.
func (c *crowd) one(i int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	c.opened.Add(1)
	var err error
	if i%4 == 0 {
		err = c.health(i%8 == 0)
	} else {
		err = c.put(fmt.Sprint("k", i%100))
	}
	if err != nil {
		c.failed.Add(1)
		c.first.CompareAndSwap(nil, &err)
	}
}

func (c *crowd) put(key string) error {
	conn, err := grpc.NewClient(c.p.Client, grpc.WithTransportCredentials(credentials.NewTLS(c.p.me.Load())))
	if err != nil {
		return err
	}
	defer conn.Close()
	return put(context.Background(), conn, key)
}

func (c *crowd) health(h2 bool) error {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: c.p.me.Load().Clone(), ForceAttemptHTTP2: h2}}
	defer client.CloseIdleConnections()
	if got := fetch(context.Background(), &client, "https://"+c.p.Client+"/health"); !strings.Contains(got, `"health":"true"`) {
		return fmt.Errorf("/health: %s", got)
	}
	return nil
}

// settle returns when every request that had begun has ended: what comes next is shown and believed by all.
func (c *crowd) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
}

// TestRotation replaces a certificate, the authorities and the list of revoked certificates of a running member by changing files, while 200 connections
// are opened in a second: not one request fails, and afterwards those count who should. Long: 20 s for each step.
func TestRotation(t *testing.T) {
	p := newParty(t)
	p.start()
	last := 2 * time.Second
	if *long {
		last = 20 * time.Second
	}
	next := tlstest.NewCA(t, "next")
	mallory := next.Issue(t, tlstest.Leaf{Name: "mallory", ClientOnly: true})
	server := tlstest.Leaf{Name: "member", Hosts: []string{"127.0.0.1", "localhost"}}

	c := &crowd{p: p}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.run(ctx)
	}()
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"as it was", func() {}},
		{"another certificate of the same authority", func() { p.ca.Issue(t, server).Files(t, p.dir, "server") }},
		{"another list", func() { tlstest.Write(t, p.path("crl"), p.ca.Revoke(t, p.ca.Issue(t, tlstest.Leaf{}))) }},
		{"both authorities", func() {
			tlstest.Write(t, p.path("ca.pem"), append(p.ca.CertPEM(), next.CertPEM()...))
			p.me.Store(p.client("client", p.ca, p.ca, next))
			c.settle()
		}},
		{"a certificate of the next authority", func() { next.Issue(t, server).Files(t, p.dir, "server") }},
		{"clients of the next authority", func() {
			p.me.Store(p.client("client", next, p.ca, next))
			c.settle()
		}},
		{"the next authority alone, and its list", func() {
			tlstest.Write(t, p.path("ca.pem"), next.CertPEM())
			tlstest.Write(t, p.path("crl"), next.RevokePEM(t, mallory))
			p.me.Store(p.client("client", next, next))
		}},
		{"a certificate written before its key", func() {
			pair := next.Issue(t, server)
			tlstest.Write(t, p.path("server.pem"), pair.CertPEM())
			time.Sleep(last / 2)
			tlstest.Write(t, p.path("server-key.pem"), pair.KeyPEM(t))
		}},
	} {
		step.do()
		time.Sleep(last) // connections are opened meanwhile; nothing is measured
		t.Logf("%s: %d connections so far, %d requests failed", step.name, c.opened.Load(), c.failed.Load())
		if first := c.first.Load(); first != nil {
			t.Errorf("%s: %v", step.name, *first)
			break
		}
	}
	cancel()
	<-ended
	if n := c.failed.Load(); n > 0 || c.opened.Load() == 0 {
		t.Errorf("%d of %d requests failed", n, c.opened.Load())
	}
	for who, cfg := range map[string]*tls.Config{
		"revoked": p.configOf(mallory, next), "of an authority that was taken out": p.client("old", p.ca, next),
	} {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
		if got := fetch(t.Context(), &client, "https://"+p.Client+"/health"); !strings.Contains(got, "tls: ") {
			t.Errorf("a client that is %s was served: %s", who, got)
		}
		client.CloseIdleConnections()
	}
}
