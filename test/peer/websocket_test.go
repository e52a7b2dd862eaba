package peer

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"holdfast/test/etcd"
	"holdfast/test/run"
	"holdfast/tlsconf/tlstest"
)

// talk is a WebSocket that both servers get: what the client says at once, and how much it waits to hear.
type talk struct {
	path string
	say  []string
	hear int  // messages; fewer if the server ends it before
	post bool // no WebSocket but an ordinary request of what is said
	// token shows that of the user root, in the protocol; cookie as a cookie. binary says it all in binary messages.
	token, cookie, binary bool
	// silent is one that nobody answers, as far as can be waited for: a call of one message is answered when all was said, which
	// over a WebSocket is when nobody listens any more.
	silent bool
}

func (c talk) String() string { return fmt.Sprintf("%s %q", c.path, c.say) }

// talks are calls of each kind, in an order that makes sense, and what can be wrong with them.
var talks = []talk{
	{path: "/v3/kv/put", say: []string{`{"key":"Zm9v","value":"YmFy"}`}, post: true},
	{path: "/v3/kv/range", say: []string{`{"key":"Zm9v"}`}, hear: 1, silent: true},
	{path: "/v3/watch", say: []string{`{"create_request":{"key":"Zm9v","start_revision":"1"}}`}, hear: 2},
	{path: "/v3/watch", say: []string{`{"create_request":`, `{"key":"Zm9v","start_revision":"1"}}`}, hear: 2},
	{path: "/v3/watch", say: []string{`{"create_request":{"key":"Zm9v","start_revision":"1"}}`}, hear: 2, binary: true},
	{path: "/v3/watch", say: []string{`{"create_request":{"key":"Zm9v","watch_id":"5"}}`, `{"cancel_request":{"watch_id":"5"}}`}, hear: 2},
	{path: "/v3/watch", say: []string{`{"create_request":{"key":"Zm9v","watch_id":"5"}}{"create_request":{"key":"YQ==","watch_id":"6"}}`}, hear: 2},
	{path: "/v3/watch", say: []string{`{"create_request":{"key":"Zm9v"}}`, `no JSON`}, hear: 2, silent: true},
	{path: "/v3/lease/grant", say: []string{`{"TTL":"600","ID":"7"}`}, post: true},
	{path: "/v3/lease/keepalive", say: []string{`{"ID":"7"}`, `{"ID":"8"}`, `{"ID":"7"}`}, hear: 3},
	{path: "/v3/lease/keepalive", say: []string{`{"ID":"no number"}`}, hear: 1, silent: true},
	{path: "/v3/auth/user/add", say: []string{`{"name":"root","password":"pass"}`}, post: true},
	{path: "/v3/auth/role/add", say: []string{`{"name":"root"}`}, post: true},
	{path: "/v3/auth/user/grant", say: []string{`{"user":"root","role":"root"}`}, post: true},
	{path: "/v3/auth/enable", say: []string{`{}`}, post: true},
	{path: "/v3/auth/authenticate", say: []string{`{"name":"root","password":"pass"}`}, post: true},
	{path: "/v3/watch", say: []string{`{"create_request":{"key":"Zm9v","start_revision":"1"}}`}, hear: 1},
	{path: "/v3/watch", say: []string{`{"create_request":{"key":"Zm9v","start_revision":"1"}}`}, hear: 2, token: true},
	{path: "/v3/watch", say: []string{`{"create_request":{"key":"Zm9v","start_revision":"1"}}`}, hear: 2, token: true, cookie: true},
}

// socketEnd is one server and the token that it gave.
type socketEnd struct {
	url, token string
	dialer     *websocket.Dialer
}

// hold has a talk and returns what was heard, as values to compare, and as text.
func (s *socketEnd) hold(t *testing.T, free map[string]bool, c talk) (heard []any, text []string) {
	if c.post {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.dialer.TLSClientConfig.Clone()}}
		defer client.CloseIdleConnections()
		got := post(c.path, strings.Join(c.say, "")).send(t.Context(), client, strings.Replace(s.url, "ws", "http", 1))
		var login struct{ Token string }
		if json.Unmarshal([]byte(got.body), &login) == nil && login.Token != "" {
			s.token = login.Token
		}
		return []any{got.status, plain(free, got.body)}, []string{got.body}
	}
	dialer, head := *s.dialer, http.Header{}
	switch {
	case c.token && c.cookie:
		head.Set("Cookie", "token="+s.token)
	case c.token:
		dialer.Subprotocols = []string{"Bearer", s.token}
	}
	conn, r, err := dialer.DialContext(t.Context(), s.url+c.path, head)
	if err != nil {
		status := 0
		if r != nil {
			status = r.StatusCode
		}
		return []any{status, err.Error()}, []string{fmt.Sprint(status), err.Error()}
	}
	defer conn.Close()
	heard = append(heard, conn.Subprotocol())
	kind := websocket.TextMessage
	if c.binary {
		kind = websocket.BinaryMessage
	}
	for _, message := range c.say {
		if err := conn.WriteMessage(kind, []byte(message)); err != nil {
			break // it has ended; what it said before is to be read
		}
	}
	patience := callTimeout
	if c.silent {
		patience = listen
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Error(err)
	}
	for range c.hear {
		kind, message, err := conn.ReadMessage()
		if err != nil {
			return append(heard, "over"), append(text, err.Error())
		}
		text = append(text, string(message))
		heard = append(heard, kind, plain(free, string(message)))
	}
	return heard, text
}

// TestWebSockets holds what comes back over WebSockets against what etcd says: the same talks in the same order, plain and over TLS.
func TestWebSockets(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	free := freeNumbers(loadDifferences(differencesText))
	free["token"] = true
	ca := tlstest.NewCA(t, "ca")
	cert, key := ca.Issue(t, tlstest.Leaf{Hosts: []string{"127.0.0.1"}}).Files(t, t.TempDir(), "server")
	for name, c := range map[string]struct {
		tls   *tls.Config
		flags []string
	}{"plain": {}, "TLS": {&tls.Config{RootCAs: tlstest.Pool(ca)}, []string{"--cert-file=" + cert, "--key-file=" + key}}} {
		t.Run(name, func(t *testing.T) {
			var ends [2]*socketEnd
			for i, binary := range []string{etcd.Binary(t, "etcd"), oursFor(t)} {
				dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				s, err := run.Start(t.Context(), run.Config{
					Binary: binary, Dir: dir, AdvertisePeer: advertisedPeer, AdvertiseClient: advertisedClient, TLS: c.tls,
					Args: append([]string{"--log-level=error", "--bcrypt-cost=4"}, c.flags...),
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.Kill)
				ends[i] = &socketEnd{
					url: strings.Replace(s.ClientURL(), "http", "ws", 1), dialer: &websocket.Dialer{TLSClientConfig: c.tls, HandshakeTimeout: callTimeout},
				}
			}
			for _, c := range talks {
				var heard [2][]any
				var text [2][]string
				var both sync.WaitGroup
				for i, end := range ends {
					both.Go(func() { heard[i], text[i] = end.hold(t, free, c) })
				}
				both.Wait()
				if !reflect.DeepEqual(heard[0], heard[1]) {
					t.Errorf("%v\netcd %.600q\nours %.600q", c, text[0], text[1])
				}
			}
		})
	}
}
