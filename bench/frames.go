package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// frameWindow is how much a server may send before it hears that it was received: enough that it never waits on a loopback.
const frameWindow = 1 << 20

// discard makes one unary call of gRPC over a connection of its own and throws the answer away, frame by frame: a client that keeps answers
// of 200 MB would need more memory than the server. came hears of every piece. An error of the server is one of package status.
//
//	Source  gRPC over HTTP2; RFC 9113
func discard(ctx context.Context, addr, method string, request []byte, came func(n int)) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // wakes whoever reads; what comes of it is the context's error
	f, err := openFrames(conn, addr, method, request)
	if err == nil {
		err = receiveFrames(f, came)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// openFrames says hello and asks.
func openFrames(conn net.Conn, addr, method string, request []byte) (*http2.Framer, error) {
	f := http2.NewFramer(conn, bufio.NewReaderSize(conn, 64<<10))
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.SetReuseFrames()
	var head bytes.Buffer
	e := hpack.NewEncoder(&head)
	for _, h := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method}, {Name: ":authority", Value: addr},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	} {
		if err := e.WriteField(h); err != nil {
			return nil, err
		}
	}
	message := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request))) // not compressed, and its length
	_, hello := conn.Write([]byte(http2.ClientPreface))
	return f, errors.Join(hello,
		f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: frameWindow}),
		f.WriteWindowUpdate(0, frameWindow),
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true}),
		f.WriteData(1, true, append(message, request...)))
}

// receiveFrames reads until the stream has ended.
func receiveFrames(f *http2.Framer, came func(n int)) error {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = f.WritePing(true, frame.Data)
			}
		case *http2.DataFrame:
			if n := len(frame.Data()); n > 0 {
				came(n)
				err = errors.Join(f.WriteWindowUpdate(0, uint32(n)), f.WriteWindowUpdate(1, uint32(n)))
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				return statusOf(frame)
			}
		case *http2.RSTStreamFrame:
			return fmt.Errorf("the stream was reset: %v", frame.ErrCode)
		case *http2.GoAwayFrame:
			return fmt.Errorf("the server ends the connection: %v", frame.ErrCode)
		}
		if err != nil {
			return err
		}
	}
}

// statusOf is what the trailers say.
func statusOf(frame *http2.MetaHeadersFrame) error {
	code, message := -1, ""
	for _, h := range frame.Fields {
		switch h.Name {
		case "grpc-status":
			code, _ = strconv.Atoi(h.Value) // what is no number is OK, and then the size of the answer is not
		case "grpc-message":
			message = h.Value
		}
	}
	if code < 0 {
		return errors.New("the answer has no status")
	}
	return status.Error(codes.Code(code), message)
}
