package port

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/credentials"
)

// gRPC's own transport costs a fifth of serving it through net/http, but it wants a connection for itself. So a connection of
// HTTP/2 is received by us until its first request comes: whose it is says the content type. Then what was read is
// given to one of the two servers, as if nobody had read it.
//
//	we      SETTINGS, because clients of gRPC wait for it; SETTINGS-ACK and PING-ACK when they are due
//	client  preface SETTINGS [SETTINGS-ACK] [WINDOW_UPDATE] [PING] ... HEADERS [CONTINUATION]
//
// The server then sends SETTINGS of its own, and acknowledges the client's, which it reads as one frame, again. Either side
// would take an acknowledgement too many for a mistake, so each is left out once: ours from what the client sends, the
// server's from what it sends.

const (
	// greetingBytesMax bounds what is read before the first request, and with it: etcd accepts that much of headers, and what
	// comes before is a few hundred bytes.
	greetingBytesMax = 1 << 20
	// greetingHeaderMax bounds the headers that are looked at. The content type stands before what is large.
	greetingHeaderMax = 64 << 10
	// answersFree is how many frames are answered before the first request, beside one a second: pings and SETTINGS.
	answersFree = 100
	// greetingWriteTimeout bounds an answer to a client that does not read.
	greetingWriteTimeout = 10 * time.Second
)

// greetedKey is under what the state of TLS lies in the context of an HTTP request.
type greetedKey struct{}

// greeted is a connection of HTTP/2 whose first request has been read. It does not say by itself that it is one of TLS: net/http
// would take that for one it has to make HTTP/1 of.
type greeted struct {
	net.Conn
	state   tls.ConnectionState
	grpc    bool   // the first request is one of gRPC
	first   []byte // read, and still to be read by the server
	in, out skipAcks
}

// isGRPC tells by its content type whether a request of HTTP/2 is one of gRPC.
func isGRPC(contentType string) bool { return strings.HasPrefix(contentType, "application/grpc") }

// greet receives a connection until its first request is known. That may take long: clients connect ahead of time.
func greet(c net.Conn, streamsMax uint32) (*greeted, error) {
	g := &greeting{conn: c, began: time.Now()}
	g.framer = http2.NewFramer(deadlined{c}, g)
	g.framer.SetMaxReadFrameSize(frameBytesMax)
	g.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	g.framer.MaxHeaderListSize = greetingHeaderMax
	var settings []http2.Setting // what must hold before the server's own come
	if streamsMax > 0 && streamsMax < math.MaxUint32 {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: streamsMax})
	}
	if err := g.framer.WriteSettings(settings...); err != nil {
		return nil, err
	}
	if err := g.preface(); err != nil {
		return nil, err
	}
	grpc, err := g.untilRequest()
	if err != nil {
		return nil, err
	}
	done := &greeted{Conn: c, grpc: grpc, first: g.all()}
	if g.settings != nil {
		done.out.left = 1
	}
	if !g.acked {
		done.in.left = 1
	}
	return done, nil
}

// frameBytesMax is what HTTP/2 lets a frame have unless a server says otherwise, which neither of ours does in its SETTINGS before
// they are read.
const frameBytesMax = 16 << 10

// greeting is a connection that is being received.
type greeting struct {
	conn     net.Conn
	framer   *http2.Framer
	read     []byte // what the server is to read again, beside preface and SETTINGS
	settings []byte // the content of the client's SETTINGS, one behind the other, which is what they mean; nil: none came
	acked    bool   // the client has acknowledged ours
	answered int    // see answersFree
	began    time.Time
}

// Read implements io.Reader for the framer: it notes what it reads.
func (g *greeting) Read(p []byte) (int, error) {
	if len(g.read) > greetingBytesMax {
		return 0, errors.New("too much before the first request")
	}
	n, err := g.conn.Read(p)
	g.read = append(g.read, p[:n]...)
	return n, err
}

// preface reads what every client of HTTP/2 begins with. It may not wait with that.
func (g *greeting) preface() error {
	if err := g.conn.SetReadDeadline(time.Now().Add(prefaceTimeout)); err != nil {
		return err
	}
	first := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(g, first); err != nil {
		return err
	}
	if string(first) != http2.ClientPreface {
		return errors.New("no preface of HTTP/2")
	}
	g.read = nil
	return g.conn.SetReadDeadline(time.Time{})
}

// untilRequest answers what must be answered until the first request comes, and tells whether it is one of gRPC. What breaks
// the rules of HTTP/2 is left to net/http, which says so to the client.
func (g *greeting) untilRequest() (grpc bool, err error) {
	for {
		before := len(g.read)
		f, err := g.framer.ReadFrame()
		if broken := new(http2.ConnectionError); errors.As(err, broken) || errors.As(err, new(http2.StreamError)) || errors.Is(err, http2.ErrFrameTooLarge) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			return isGRPC(contentType(f)), nil
		case *http2.SettingsFrame:
			err = g.answerSettings(f, before)
		case *http2.PingFrame:
			err = g.answerPing(f)
			g.read = g.read[:before]
		case *http2.GoAwayFrame:
			err = io.EOF
		case *http2.PriorityFrame:
		default:
			if f.Header().StreamID != 0 { // of a request that there is not
				return false, nil
			}
		}
		if err != nil {
			return false, err
		}
	}
}

func (g *greeting) answerSettings(f *http2.SettingsFrame, before int) error {
	content := g.read[before+frameHeadBytes:]
	g.read = g.read[:before]
	if f.IsAck() && g.acked {
		return errors.New("SETTINGS acknowledged twice")
	}
	if f.IsAck() {
		g.acked = true
		return nil
	}
	if len(g.settings)+len(content) > frameBytesMax {
		return errors.New("too many SETTINGS")
	}
	g.settings = append(append([]byte{}, g.settings...), content...)
	return errors.Join(g.calm(), g.framer.WriteSettingsAck())
}

// all is what the server is to read. SETTINGS stand in one frame, because net/http acknowledges several at once.
func (g *greeting) all() []byte {
	all := []byte(http2.ClientPreface)
	if g.settings != nil {
		all = binary.BigEndian.AppendUint32(all, uint32(len(g.settings))<<8|uint32(http2.FrameSettings))
		all = append(append(all, 0, 0, 0, 0, 0), g.settings...) // no flags, stream 0
	}
	return append(all, g.read...)
}

func (g *greeting) answerPing(f *http2.PingFrame) error {
	if f.IsAck() {
		return errors.New("a ping acknowledged that was not sent")
	}
	return errors.Join(g.calm(), g.framer.WritePing(true, f.Data))
}

// calm ends a connection that lets us answer again and again.
func (g *greeting) calm() error {
	if g.answered++; g.answered <= answersFree+int(time.Since(g.began)/time.Second) {
		return nil
	}
	return errors.Join(errors.New("too much to answer before the first request"), g.framer.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings")))
}

func contentType(f *http2.MetaHeadersFrame) string {
	for _, h := range f.RegularFields() {
		if h.Name == "content-type" {
			return h.Value
		}
	}
	return ""
}

// deadlined is a connection on which a write takes only so long.
type deadlined struct{ net.Conn }

// Write implements io.Writer.
func (d deadlined) Write(p []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(greetingWriteTimeout)); err != nil {
		return 0, err
	}
	n, err := d.Conn.Write(p)
	return n, errors.Join(err, d.SetWriteDeadline(time.Time{}))
}

// Read implements net.Conn.
func (g *greeted) Read(p []byte) (int, error) {
	for len(g.first) == 0 {
		n, err := g.Conn.Read(p)
		if g.in.idle() || n == 0 {
			return n, err
		}
		if g.first = g.in.filter(p[:n]); err != nil && len(g.first) == 0 {
			return 0, err
		}
	}
	n := copy(p, g.first)
	if g.first = g.first[n:]; len(g.first) == 0 {
		g.first = nil // the greeting may go
	}
	return n, nil
}

// Write implements net.Conn.
func (g *greeted) Write(p []byte) (int, error) {
	if g.out.idle() {
		return g.Conn.Write(p)
	}
	if kept := g.out.filter(p); len(kept) > 0 {
		if _, err := g.Conn.Write(kept); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// skipAcks leaves the first acknowledgements of SETTINGS out of a stream of frames.
type skipAcks struct {
	left int                  // acknowledgements still to leave out
	head [frameHeadBytes]byte // of a frame: length(3) type(1) flags(1) stream(4)
	have int                  // bytes of head that are known
	body int                  // bytes of the frame that are still to come
}

const frameHeadBytes = 9

// idle tells that there is nothing more to do: everything passes as it is.
func (s *skipAcks) idle() bool { return s.left == 0 && s.have == 0 }

// filter returns what remains of the next bytes. The beginning of a frame waits until it is known whole.
func (s *skipAcks) filter(p []byte) []byte {
	kept := make([]byte, 0, len(p)+s.have)
	for len(p) > 0 {
		if s.idle() {
			return append(kept, p...)
		}
		if s.body > 0 {
			n := min(s.body, len(p))
			kept, p, s.body = append(kept, p[:n]...), p[n:], s.body-n
			continue
		}
		n := copy(s.head[s.have:], p)
		p, s.have = p[n:], s.have+n
		if s.have < frameHeadBytes {
			break
		}
		s.have = 0
		s.body = int(binary.BigEndian.Uint32(s.head[:4]) >> 8)
		if http2.FrameType(s.head[3]) == http2.FrameSettings && http2.Flags(s.head[4]).Has(http2.FlagSettingsAck) && s.body == 0 {
			s.left--
			continue
		}
		kept = append(kept, s.head[:]...)
	}
	return kept
}

// Credentials are for servers of gRPC behind a port, with or without TLS.
func Credentials() credentials.TransportCredentials { return shownTLS{} }

// shownTLS gives gRPC connections whose handshake is done, bundled, and what was shown in it. In plaintext nothing was.
type shownTLS struct{}

var _ credentials.TransportCredentials = shownTLS{}

// ServerHandshake implements credentials.TransportCredentials.
func (shownTLS) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	g, ok := c.(*greeted)
	if !ok {
		return bundle(c), nil, nil
	}
	return bundle(c), credentials.TLSInfo{State: g.state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (shownTLS) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	panic(fmt.Sprintf("port: %T is for servers", shownTLS{}))
}

// Info implements credentials.TransportCredentials.
func (shownTLS) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c shownTLS) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (shownTLS) OverrideServerName(string) error { return nil }
