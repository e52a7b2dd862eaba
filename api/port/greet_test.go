package port

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"holdfast/tlsconf"
	"holdfast/tlsconf/tlstest"
)

// secured is a door with TLS, and without, behind which calls and requests answer with the name their certificate has.
type secured struct {
	t    *testing.T
	ca   *tlstest.Pair
	addr string
}

// nameless is what stands in an answer when no certificate was shown.
const nameless = "nobody"

func shownName(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nameless
	}
	return state.VerifiedChains[0][0].Subject.CommonName
}

// openSecured serves until the test ends.
func openSecured(t *testing.T, streamsMax uint32) *secured {
	t.Helper()
	s := &secured{t: t, ca: tlstest.NewCA(t, "root")}
	dir := t.TempDir()
	o := tlsconf.Options{Protocols: []string{"h2", "http/1.1"}, Log: slog.New(slog.DiscardHandler)}
	o.CertFile, o.KeyFile = s.ca.Issue(t, tlstest.Leaf{Hosts: []string{"127.0.0.1"}}).Files(t, dir, "server")
	o.TrustedCAFile, _ = s.ca.Files(t, dir, "ca")
	side, err := tlsconf.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	calls := grpc.NewServer(grpc.Creds(Credentials()), grpc.MaxConcurrentStreams(1000), grpc.UnaryInterceptor(
		func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			name, transport := nameless, "own"
			p, _ := peer.FromContext(ctx)
			if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
				name = shownName(&info.State)
			}
			if ctx.Value(http.ServerContextKey) != nil {
				transport = "net/http"
			}
			return &pb.RangeResponse{Kvs: nil, Count: int64(len(name)), Header: &pb.ResponseHeader{MemberId: uint64(len(transport))}}, nil
		}))
	pb.RegisterKVServer(calls, pb.UnimplementedKVServer{})
	p := New(Config{GRPC: calls, StreamsMax: streamsMax, Log: o.Log, HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Proto, shownName(r.TLS))
	})})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, Door{Listener: l, TLS: side, Plain: true}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// config is that of a client with a certificate of that name.
func (s *secured) config(name string) *tls.Config {
	pair := s.ca.Issue(s.t, tlstest.Leaf{Name: name})
	cert, err := tls.X509KeyPair(pair.CertPEM(), pair.KeyPEM(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	return &tls.Config{RootCAs: tlstest.Pool(s.ca), ServerName: "127.0.0.1", Certificates: []tls.Certificate{cert}}
}

// call makes a gRPC call and returns the lengths of the name that was seen and of the transport's.
func (s *secured) call(creds credentials.TransportCredentials) (name, transport int64) {
	s.t.Helper()
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	r, err := pb.NewKVClient(conn).Range(s.t.Context(), &pb.RangeRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Count, int64(r.Header.MemberId)
}

// TestOnePortWithTLS speaks gRPC, HTTP/1 and HTTP/2 on one port, with TLS and without, and looks whose certificate is seen.
func TestOnePortWithTLS(t *testing.T) {
	s := openSecured(t, 0)
	own := int64(len("own"))
	for range 3 {
		if name, transport := s.call(credentials.NewTLS(s.config("alice"))); name != int64(len("alice")) || transport != own {
			t.Errorf("gRPC in TLS: a name of %d letters, a transport of %d", name, transport)
		}
		if name, transport := s.call(insecure.NewCredentials()); name != int64(len(nameless)) || transport != own {
			t.Errorf("gRPC: a name of %d letters, a transport of %d", name, transport)
		}
		for _, c := range []struct {
			scheme, want string
			h2           bool
		}{{"https", "HTTP/2.0 bob", true}, {"https", "HTTP/1.1 bob", false}, {"http", "HTTP/1.1 " + nameless, false}} {
			client := http.Client{Transport: &http.Transport{TLSClientConfig: s.config("bob"), ForceAttemptHTTP2: c.h2}}
			for range 2 {
				if got := get(t, &client, c.scheme+"://"+s.addr+"/"); got != c.want {
					t.Errorf("%s %v: %q", c.scheme, c.h2, got)
				}
			}
			client.CloseIdleConnections()
		}
	}
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestStrayCall makes a call of gRPC on a connection that began with something else.
func TestStrayCall(t *testing.T) {
	s := openSecured(t, 0)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: s.config("carol"), ForceAttemptHTTP2: true, MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	if got := get(t, &client, "https://"+s.addr+"/"); got != "HTTP/2.0 carol" {
		t.Fatal(got)
	}
	q, err := http.NewRequest(http.MethodPost, "https://"+s.addr+"/etcdserverpb.KV/Range", bytes.NewReader(make([]byte, 5)))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/grpc")
	q.Header.Set("TE", "trailers")
	r, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Trailer.Get("Grpc-Status") != "0" {
		t.Fatalf("%v, trailer %v", err, r.Trailer)
	}
	var answer pb.RangeResponse
	if err := proto.Unmarshal(body[5:], &answer); err != nil || answer.Count != int64(len("carol")) || answer.Header.MemberId != uint64(len("net/http")) {
		t.Errorf("%v %v", &answer, err)
	}
}

// rawClient is a client of HTTP/2 that does as the test says.
type rawClient struct {
	t *testing.T
	*http2.Framer
	conn *tls.Conn
}

func (s *secured) raw() *rawClient {
	s.t.Helper()
	cfg := s.config("dave")
	cfg.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", s.addr, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := &rawClient{s.t, http2.NewFramer(conn, conn), conn}
	c.must(func() error { _, err := io.WriteString(conn, http2.ClientPreface); return err }())
	return c
}

func (c *rawClient) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next frame as text; SETTINGS are acknowledged at once if ack.
func (c *rawClient) next(ack bool) string {
	c.t.Helper()
	f, err := c.ReadFrame()
	c.must(err)
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "settings-ack"
		}
		if ack {
			c.must(c.WriteSettingsAck())
		}
		return "settings"
	case *http2.PingFrame:
		return fmt.Sprintf("ping-ack=%v", f.IsAck())
	case *http2.DataFrame:
		return "data " + string(f.Data())
	case *http2.GoAwayFrame:
		return fmt.Sprintf("goaway %v %s", f.ErrCode, f.DebugData())
	}
	return strings.ToLower(f.Header().Type.String())
}

func (c *rawClient) request(stream uint32, contentType string) {
	c.t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {":authority", "x"}, {"content-type", contentType}} {
		c.must(e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
	}
	half := block.Len() / 2
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes()[:half], EndStream: true}))
	c.must(c.WriteContinuation(stream, true, block.Bytes()[half:]))
}

// until reads frames up to one that begins with what, and counts acknowledgements of SETTINGS on the way.
func (c *rawClient) until(what string) (acks int) {
	c.t.Helper()
	for {
		f := c.next(true)
		if f == "settings-ack" {
			acks++
		}
		if strings.HasPrefix(f, "goaway") && what != "goaway" {
			c.t.Fatal(f)
		}
		if strings.HasPrefix(f, what) {
			return acks
		}
	}
}

// TestGreeting keeps a connection waiting before its first request: SETTINGS and pings are answered meanwhile, and every SETTINGS
// is acknowledged once, whichever server gets the connection and whenever the client acknowledges ours.
func TestGreeting(t *testing.T) {
	s := openSecured(t, 7)
	for _, kind := range []string{"application/grpc", "text/plain"} {
		for _, early := range []bool{true, false} {
			c := s.raw()
			c.must(c.WriteSettings())
			c.must(c.WriteWindowUpdate(0, 1000))
			if got := c.next(early); got != "settings" {
				t.Fatal(got)
			}
			if got := c.next(true); got != "settings-ack" {
				t.Fatal(got)
			}
			for range 3 {
				c.must(c.WritePing(false, [8]byte{1}))
				if got := c.next(true); got != "ping-ack=true" {
					t.Fatal(got)
				}
			}
			c.must(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
			if got := c.next(true); got != "settings-ack" {
				t.Fatal(got)
			}
			c.request(1, kind)
			if !early {
				c.must(c.WriteSettingsAck())
			}
			if acks := c.until("headers"); acks != 0 {
				t.Errorf("%s: %d acknowledgements twice", kind, acks)
			}
			if kind == "text/plain" {
				if c.until("data HTTP/2.0 dave"); t.Failed() {
					return
				}
			}
			c.must(c.WriteSettings()) // the server's own business from here on
			c.must(c.WritePing(false, [8]byte{2}))
			for rest := []string{"ping-ack=true", "settings-ack"}; len(rest) > 0; { // in any order
				f := c.next(true)
				rest = slices.DeleteFunc(rest, func(s string) bool { return s == f })
			}
		}
	}
}

// TestRudeGreetings: what breaks the rules before the first request is answered or ends, and hurts nobody.
func TestRudeGreetings(t *testing.T) {
	s := openSecured(t, 0)
	for name, do := range map[string]func(c *rawClient){
		"a flood of pings": func(c *rawClient) {
			c.must(c.WriteSettings())
			for c.WritePing(false, [8]byte{}) == nil { // ends with the connection
			}
		},
		"a flood of SETTINGS": func(c *rawClient) {
			for c.WriteSettings() == nil {
			}
		},
		"data without a request": func(c *rawClient) {
			c.must(c.WriteSettings())
			c.must(c.WriteData(1, true, []byte("x")))
			c.until("goaway")
		},
		"a frame that is too large": func(c *rawClient) {
			c.must(c.WriteSettings())
			c.must(c.WriteRawFrame(http2.FrameType(99), 0, 0, make([]byte, frameBytesMax+1)))
			c.until("goaway")
		},
		"too much before the request": func(c *rawClient) {
			c.must(c.WriteSettings())
			for range greetingBytesMax/frameBytesMax + 2 {
				if c.WriteRawFrame(http2.FrameType(99), 0, 0, make([]byte, frameBytesMax)) != nil {
					return
				}
			}
			for {
				if _, err := c.ReadFrame(); err != nil {
					return
				}
			}
		},
		"no preface": func(c *rawClient) {
			c.must(c.WriteRawFrame(http2.FrameData, 0, 0, nil))
			for {
				if _, err := c.ReadFrame(); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			do(s.raw())
			if name, _ := s.call(credentials.NewTLS(s.config("erin"))); name != int64(len("erin")) {
				t.Error("nobody else is served")
			}
		})
	}
}

// TestHTTPOnTLSPort tells a client without TLS what is wrong.
func TestHTTPOnTLSPort(t *testing.T) {
	ca, dir := tlstest.NewCA(t, "root"), t.TempDir()
	o := tlsconf.Options{Log: slog.New(slog.DiscardHandler)}
	o.CertFile, o.KeyFile = ca.Issue(t, tlstest.Leaf{}).Files(t, dir, "server")
	side, err := tlsconf.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		split := New(Config{Log: o.Log}).newSplit(Door{Listener: &onlyAddr{}, TLS: side})
		go split.hand(t.Context(), ours)
		go io.WriteString(theirs, "GET / HTTP/1.1\r\n\r\n")
		got, err := io.ReadAll(theirs)
		if err != nil || !strings.HasPrefix(string(got), "HTTP/1.0 400") {
			t.Errorf("%q %v", got, err)
		}
	})
}

// onlyAddr is a listener that nobody listens to.
type onlyAddr struct{ net.Listener }

func (onlyAddr) Addr() net.Addr { return &net.TCPAddr{} }

// TestSkipAcks cuts streams of frames into pieces of any size and expects all frames but the first acknowledgements.
func TestSkipAcks(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		skip := skipAcks{left: r.IntN(3)}
		left := skip.left
		var in, want, got []byte
		for range r.IntN(6) {
			body := make([]byte, r.IntN(30))
			kind, flags := byte(r.IntN(6)), byte(r.IntN(2))
			if kind == 4 && flags == 1 {
				body = nil
			}
			frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))<<8|uint32(kind)), flags, 0, 0, 0, 0)
			frame = append(frame, body...)
			in = append(in, frame...)
			if kind == 4 && flags == 1 && left > 0 {
				left--
				continue
			}
			want = append(want, frame...)
		}
		for len(in) > 0 {
			n := 1 + r.IntN(len(in))
			got = append(got, skip.filter(in[:n])...)
			in = in[n:]
		}
		if !bytes.Equal(got, want) || skip.left != left {
			t.Fatalf("seed %d: %x, want %x", seed, got, want)
		}
	}
}
