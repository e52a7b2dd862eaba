package peer

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/etcd"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// An exchange is an HTTP request that both servers get.
type exchange struct {
	method, path, body string
	head               string        // "Name: value", several with "; " between them
	for_               time.Duration // how long to listen to an answer that does not end; 0: it ends
}

func get(path string) exchange        { return exchange{method: "GET", path: path} }
func post(path, body string) exchange { return exchange{method: "POST", path: path, body: body} }
func (e exchange) with(head string) exchange {
	e.head = head
	return e
}

func (e exchange) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s [%s] %.120s", e.method, e.path, e.head, e.body))
}

// heard is what came back.
type heard struct {
	status int
	head   map[string]string // those that matter
	body   string
}

// callKind is the content type of the call behind an answer of the gateway.
const callKind = "Grpc-Metadata-Content-Type"

// headsThatMatter are compared; the others are the date, lengths and what follows from how the answer was cut into pieces.
var headsThatMatter = []string{
	"Content-Type", "Allow", "Location", "X-Content-Type-Options", callKind, "Transfer-Encoding", "Trailer", "Connection",
	"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Www-Authenticate",
}

func (e exchange) send(ctx context.Context, client *http.Client, base string) heard {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tooLate := time.AfterFunc(cmp.Or(e.for_, callTimeout), cancel)
	defer tooLate.Stop()
	q, err := http.NewRequestWithContext(ctx, e.method, base+e.path, strings.NewReader(e.body))
	if err != nil {
		panic(fmt.Sprintf("peer: %s: %v", e, err))
	}
	for _, line := range strings.Split(e.head, "; ") {
		if name, value, given := strings.Cut(line, ": "); given {
			q.Header.Set(name, value)
			if name == "Host" {
				q.Host = value
			}
		}
	}
	r, err := client.Do(q)
	if err != nil {
		return heard{body: "no answer: " + regexp.MustCompile(`https?://[^"]*`).ReplaceAllString(err.Error(), "it")}
	}
	defer r.Body.Close()
	if e.for_ > 0 {
		tooLate.Stop()
	}
	body := listenTo(r.Body, e.for_)
	got := heard{status: r.StatusCode, head: map[string]string{}, body: body}
	for _, name := range headsThatMatter {
		if v := r.Header.Values(name); len(v) > 0 {
			got.head[name] = strings.Join(v, ", ")
		}
	}
	if len(r.TransferEncoding) > 0 && e.for_ > 0 {
		got.head["Transfer-Encoding"] = r.TransferEncoding[0]
	}
	return got
}

// listenTo reads body to its end, or what comes within for_ if that is not 0. It stops to read before the request is cancelled:
// whether the server's word on that still comes through is chance.
func listenTo(body io.Reader, for_ time.Duration) string {
	var till <-chan time.Time
	if for_ > 0 {
		till = time.After(for_)
	}
	pieces, heard := make(chan string), ""
	over := make(chan struct{})
	defer close(over)
	go func() {
		defer close(pieces)
		buf := make([]byte, 32<<10)
		for {
			n, err := body.Read(buf)
			piece := string(buf[:n])
			if err != nil && err != io.EOF {
				piece += " and then " + err.Error()
			}
			select {
			case pieces <- piece:
			case <-over:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case piece, more := <-pieces:
			if heard += piece; !more {
				return heard
			}
		case <-till:
			return heard
		}
	}
}

// freeNumbers are fields of JSON answers whose values each server has for itself; differences.txt has the reasons.
func freeNumbers(d differences) map[string]bool {
	free := map[string]bool{}
	for name, t := range d.fields {
		if t.how == "positive" || t.how == "any" {
			free[string(name.Name())] = true
		}
	}
	return free
}

// plain makes one value of what is to be compared of a body: JSON without the numbers that are free, or the lines in order where
// their order is free.
func plain(free map[string]bool, body string) any {
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	var values []any
	for {
		var v any
		if err := decoder.Decode(&v); err != nil {
			if err == io.EOF && len(values) > 0 {
				// What is said about one watch has no order towards what is said about another.
				slices.SortFunc(values, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
				return values
			}
			lines := strings.Split(oneBlank(strings.ReplaceAll(body, "\u00a0", " ")), "\n")
			slices.Sort(lines)
			return lines
		}
		values = append(values, without(free, v))
	}
}

// without takes the free numbers out of v.
func without(free map[string]bool, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range maps.Keys(v) {
			if free[name] {
				v[name] = "free"
			} else if text, is := v[name].(string); is {
				v[name] = oneBlank(strings.ReplaceAll(text, "\u00a0", " "))
			} else {
				v[name] = without(free, v[name])
			}
		}
		return v
	case []any:
		for i := range v {
			v[i] = without(free, v[i])
		}
	}
	return v
}

// TestHTTP holds what our server answers over HTTP against what etcd does: status, headers and bodies of the same requests in the
// same order, good ones and bad ones.
func TestHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	free := freeNumbers(loadDifferences(differencesText))
	dir, ca := t.TempDir(), tlstest.NewCA(t, "ca")
	cert, key := ca.Issue(t, tlstest.Leaf{Hosts: []string{"127.0.0.1"}}).Files(t, dir, "server")
	secret := &tls.Config{RootCAs: tlstest.Pool(ca)}
	withTLS := []string{"--cert-file=" + cert, "--key-file=" + key}
	restricted := []string{"--cors=http://ours.example:80,https://ours.example:443", "--host-whitelist=127.0.0.1,good.example"}
	for name, c := range map[string]struct {
		tls       *tls.Config
		http2     bool
		flags     []string
		exchanges []exchange
	}{
		"gateway":              {nil, false, []string{"--enable-pprof"}, gatewayExchanges()},
		"gateway, TLS":         {secret, false, withTLS, fewStreams(gatewayExchanges())},
		"gateway, HTTP/2":      {secret, true, withTLS, fewStreams(gatewayExchanges())},
		"health":               {nil, false, nil, healthExchanges},
		"health, HTTP/2":       {secret, true, withTLS, healthExchanges},
		"no gateway":           {nil, false, []string{"--enable-grpc-gateway=false"}, closedExchanges},
		"restricted":           {nil, false, restricted, restrictedExchanges},
		"restricted, with TLS": {secret, false, append(restricted, withTLS...), restrictedExchanges},
	} {
		t.Run(name, func(t *testing.T) {
			client := &http.Client{
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
				Transport:     &http.Transport{TLSClientConfig: c.tls.Clone(), ForceAttemptHTTP2: c.http2},
			}
			t.Cleanup(client.CloseIdleConnections)
			var at [2]string
			for i, binary := range []string{etcd.Binary(t, "etcd"), oursFor(t)} {
				dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				s, err := run.Start(t.Context(), run.Config{
					Binary: binary, Dir: dir, AdvertisePeer: advertisedPeer, AdvertiseClient: advertisedClient, TLS: c.tls,
					Args: append([]string{"--log-level=error", "--bcrypt-cost=4", wideQuota}, c.flags...),
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.Kill)
				at[i] = s.ClientURL()
			}
			for _, e := range c.exchanges {
				if c.http2 && strings.Contains(e.head, "application/grpc") {
					continue // differences.txt, at its end
				}
				var want, got heard
				var both sync.WaitGroup
				both.Go(func() { want = e.send(t.Context(), client, at[0]) })
				both.Go(func() { got = e.send(t.Context(), client, at[1]) })
				both.Wait()
				want.body = strings.ReplaceAll(want.body, `"storage":"3.5.0"`, `"storage":"3.7.0"`) // a young etcd raises it within half a minute
				if c.tls != nil && got.head[callKind] == "" {
					delete(want.head, callKind) // differences.txt, at its end
				}
				if want.status != got.status || !reflect.DeepEqual(want.head, got.head) || !reflect.DeepEqual(plain(free, want.body), plain(free, got.body)) {
					t.Errorf("%s\netcd %d %v %.4000q\nours %d %v %.4000q", e, want.status, want.head, want.body, got.status, got.head, got.body)
				}
			}
		})
	}
}
