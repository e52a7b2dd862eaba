package port

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// callBytes is what a gRPC client sends for one call: the preface, its settings, a head and one message.
func callBytes(f *testing.F) []byte {
	var out, head bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fields, frames := hpack.NewEncoder(&head), http2.NewFramer(&out, nil)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/x.Y/Z"}, {":authority", "x"}, {"content-type", "application/grpc"}} {
		if err := fields.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			f.Fatal(err)
		}
	}
	for _, err := range []error{
		frames.WriteSettings(), frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true}),
		frames.WriteData(1, true, []byte{0, 0, 0, 0, 3, 0x0a, 1, 'k'}),
	} {
		if err != nil {
			f.Fatal(err)
		}
	}
	return out.Bytes()
}

// said is a connection to a client that has said something and gone, and hears nothing.
type said struct {
	net.Conn
	io.Reader
}

func (s said) Read(p []byte) (int, error)     { return s.Reader.Read(p) }
func (said) Write(p []byte) (int, error)      { return len(p), nil }
func (said) SetReadDeadline(time.Time) error  { return nil }
func (said) SetWriteDeadline(time.Time) error { return nil }

// FuzzGreet receives connections of HTTP/2 whose client says anything. What is handed on begins as every such connection does, holds no
// more than was said, but for the head of SETTINGS, and ends.
func FuzzGreet(f *testing.F) {
	whole := callBytes(f)
	ack, ping := []byte{0, 0, 0, 4, 1, 0, 0, 0, 0}, append([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0}, "12345678"...)
	first := len(http2.ClientPreface) + frameHeadBytes
	for _, seed := range [][]byte{
		nil, whole, whole[:30], slices.Concat(whole[:first], ack, ping, whole[first:]), slices.Concat(whole[:first], ping, ping, ack, ack),
		slices.Concat(whole[:first], whole[first-frameHeadBytes:first], whole[first:], ack), slices.Concat(whole, ack, ping),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := greet(said{Reader: bytes.NewReader(data)}, 5)
		if err != nil {
			return
		}
		all, err := io.ReadAll(g)
		if err != nil || !bytes.HasPrefix(all, []byte(http2.ClientPreface)) || len(all) > len(data)+frameHeadBytes {
			t.Fatalf("%q of %q: %v", all, data, err)
		}
		if n, err := g.Write(data); err != nil || n != len(data) {
			t.Fatal(n, err)
		}
	})
}
