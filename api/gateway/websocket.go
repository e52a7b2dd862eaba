package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// A page in a browser cannot send a request of many messages by HTTP. It can by WebSocket: each message is one of the request, each
// line of the answer comes as one. The answer's status and head have no place there.

// tokenCookie and tokenProtocol carry a token: a page cannot set a header on a WebSocket.
const (
	tokenCookie   = "token"
	tokenProtocol = "Bearer" // Sec-WebSocket-Protocol: Bearer, <token>
)

// closeTimeout is how long a client may take to be told that it is over.
const closeTimeout = time.Second

// serveSocket makes a WebSocket of the connection and a request of what comes over it.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	var head http.Header
	if strings.HasPrefix(r.Header.Get("Sec-WebSocket-Protocol"), tokenProtocol) {
		head = http.Header{"Sec-WebSocket-Protocol": {tokenProtocol}}
	}
	conn, err := g.upgrade.Upgrade(w, r, head)
	if err != nil {
		return // Upgrade has said it to the client
	}
	g.sockets.Add(1)
	defer g.sockets.Done()
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() })
	conn.SetReadLimit(g.bodies.messageMax)

	sent, messages := io.Pipe()
	defer sent.Close()
	received := make(chan struct{})
	go func() { // ends with the connection
		defer close(received)
		defer cancel()
		messages.CloseWithError(copyMessages(messages, conn))
	}()
	answer := &socketWriter{conn: conn}
	g.serve(answer, socketRequest(ctx, r), &body{from: sent, all: g.bodies})
	sent.Close() // whoever still sends is done
	answer.end()
	conn.Close()
	<-received
}

// socketRequest is the request that a WebSocket stands for.
func socketRequest(ctx context.Context, r *http.Request) *http.Request {
	q := r.Clone(ctx)
	q.Method = http.MethodPost
	q.Header = http.Header{}
	for _, name := range []string{"Origin", "Referer"} {
		if v := r.Header.Get(name); v != "" {
			q.Header.Set(name, v)
		}
	}
	if _, token, given := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), tokenProtocol+","); given {
		q.Header.Set("Authorization", tokenProtocol+" "+strings.TrimSpace(token))
	}
	if cookie, err := r.Cookie(tokenCookie); err == nil {
		q.Header.Set("Authorization", tokenProtocol+" "+cookie.Value)
	}
	return q
}

// copyMessages writes what comes over a WebSocket, a line end behind each message. A client that closes it in good order ends the
// request, which is no error.
func copyMessages(to io.Writer, from *websocket.Conn) error {
	for {
		_, message, err := from.NextReader()
		if err == nil {
			_, err = io.Copy(to, message)
		}
		if err == nil {
			_, err = to.Write([]byte{'\n'})
		}
		if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// socketWriter sends an answer, each line as one message, which may go out in several frames.
type socketWriter struct {
	conn *websocket.Conn
	head http.Header
	line io.WriteCloser // the message whose line has not ended; nil: none
}

// Header implements http.ResponseWriter. Nobody gets to see it.
func (w *socketWriter) Header() http.Header {
	if w.head == nil {
		w.head = http.Header{}
	}
	return w.head
}

// WriteHeader implements http.ResponseWriter.
func (w *socketWriter) WriteHeader(int) {}

// Flush implements http.Flusher: lines are sent when they end.
func (w *socketWriter) Flush() {}

// Write implements http.ResponseWriter.
func (w *socketWriter) Write(p []byte) (int, error) {
	for rest := p; ; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return len(p), w.add(rest)
		}
		if err := w.add(rest[:end]); err != nil {
			return 0, err
		}
		if err := w.send(); err != nil {
			return 0, err
		}
		rest = rest[end+1:]
	}
}

// add adds to the line.
func (w *socketWriter) add(part []byte) (err error) {
	if len(part) == 0 {
		return nil
	}
	if w.line == nil {
		if w.line, err = w.conn.NextWriter(websocket.TextMessage); err != nil {
			return err
		}
	}
	_, err = w.line.Write(part)
	return err
}

// send ends the line, if there is anything in it.
func (w *socketWriter) send() error {
	line := w.line
	w.line = nil
	if line == nil {
		return nil
	}
	return line.Close()
}

// end sends what has no line end, and that this was all. The client may be gone: it then hears neither.
func (w *socketWriter) end() {
	if w.send() == nil {
		over := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = w.conn.WriteControl(websocket.CloseMessage, over, time.Now().Add(closeTimeout))
	}
}
