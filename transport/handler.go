package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/util/version"
)

// Paths on a member's peer URLs.
const (
	pathRaft     = "/raft"
	pathStream   = "/raft/stream/"
	pathSnapshot = "/raft/snapshot"
	// pathCheckpoint is ours, for snapshots in the form of a checkpoint.
	pathCheckpoint = "/raft/checkpoint"
	pathProbing    = "/raft/probing"
)

// Handler serves the paths /raft and below to other members. A request for a stream ends with the peer, or with Run. The
// server in front needs no timeouts for these paths: deadlines are set here, for each read and write, through
// http.ResponseController, which whatever wraps the ResponseWriter must let through.
func (t *Transport) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(pathRaft, t.serveMessage)
	mux.HandleFunc(pathStream, t.serveStream)
	mux.HandleFunc(pathSnapshot, func(w http.ResponseWriter, r *http.Request) { t.serveSnapshot(w, r, Database) })
	if t.cfg.Checkpoints != "" {
		mux.HandleFunc(pathCheckpoint, func(w http.ResponseWriter, r *http.Request) { t.serveSnapshot(w, r, Checkpoint) })
	}
	mux.HandleFunc(pathProbing, t.serveProbing)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !t.enter() {
			fail(w, http.StatusServiceUnavailable, errStopping.Error())
			return
		}
		defer t.serving.Done()
		mux.ServeHTTP(w, r)
	})
}

// enter counts a request in, unless Run has ended.
func (t *Transport) enter() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return false
	}
	t.serving.Add(1)
	return true
}

// fail refuses a request. The connection goes with it: the server would otherwise hold the answer back until it has read
// more of a body that may not come.
func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Connection", "close")
	http.Error(w, text, status)
}

// admitRequest refuses what has the wrong method or comes from somebody this member does not talk to.
func (t *Transport) admitRequest(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method != method {
		w.Header().Set("Allow", method)
		fail(w, http.StatusMethodNotAllowed, "Method Not Allowed")
		return false
	}
	w.Header().Set(headerCluster, hex(t.cfg.ClusterID))
	if err := t.checkHeader(r.Header); err != nil {
		fail(w, http.StatusPreconditionFailed, err.Error())
		return false
	}
	t.noteForm(r.Header)
	return true
}

// noteForm remembers which checkpoints whoever sent a request reads. An etcd in the place of a member that read some
// says nothing, and is remembered so.
func (t *Transport) noteForm(h http.Header) {
	from, err := parseID(h.Get(headerFrom))
	if err != nil {
		return
	}
	p, takes := t.peer(from), h.Get(headerCheckpoints)
	switch {
	case p == nil:
	case takes == "":
		p.takes.Store(nil)
	default:
		p.takes.Store(&takes)
	}
}

// addSender makes whoever sent a request a remote, if it says where it can be answered.
func (t *Transport) addSender(h http.Header) {
	from, err := parseID(h.Get(headerFrom))
	if err != nil || h.Get(headerURLs) == "" || t.peer(from) != nil || t.cfg.Raft.IsIDRemoved(from) {
		return
	}
	urls := strings.Split(h.Get(headerURLs), ",")
	if len(parseURLs(urls, t.cfg.Log)) > 0 {
		t.AddRemote(from, urls)
	}
}

// serveMessage takes a message that was posted by itself.
func (t *Transport) serveMessage(w http.ResponseWriter, r *http.Request) {
	if !t.admitRequest(w, r, http.MethodPost) {
		return
	}
	t.addSender(r.Header)
	count := t.counterFor(r)
	m, err := t.readMessage(w, r)
	if err != nil {
		count.receivedFailures.Add(1)
		t.cfg.Log.Warn("failed to read Raft message", "from", r.Header.Get(headerFrom), "error", err)
		status := http.StatusBadRequest
		if errors.Is(err, ErrTooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		fail(w, status, err.Error())
		return
	}
	count.receivedBytes.Add(uint64(max(0, r.ContentLength)))
	if err := t.step(m); err != nil {
		count.receivedFailures.Add(1)
		t.refuse(w, err, "error processing raft message")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (t *Transport) readMessage(w http.ResponseWriter, r *http.Request) (*raftpb.Message, error) {
	limit := t.cfg.MessageBytesMax
	body := newTimedBody(w, r, t.cfg.ReadTimeout)
	b, err := io.ReadAll(io.LimitReader(body, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("error reading raft message: %w", err)
	}
	if uint64(len(b)) > limit {
		return nil, fmt.Errorf("%w: at most %d bytes are read", ErrTooLarge, limit)
	}
	m := new(raftpb.Message)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("error unmarshalling raft message: %w", err)
	}
	return m, nil
}

// counterFor is what a request is counted under.
func (t *Transport) counterFor(r *http.Request) *counter {
	from, err := parseID(r.Header.Get(headerFrom))
	if err != nil {
		from = 0
	}
	return t.stats.from(from)
}

// refuse answers that raft did not get the message.
func (t *Transport) refuse(w http.ResponseWriter, err error, text string) {
	t.cfg.Log.Warn("failed to process Raft message", "error", err)
	if !errors.Is(err, errFromRemoved) && !errors.Is(err, errNotForUs) {
		fail(w, http.StatusInternalServerError, text)
		return
	}
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	writeJSON(w, struct {
		Message string `json:"message"`
	}{err.Error()})
}

// writeJSON ends an answer. There is nobody to tell when the one who asked has gone.
func writeJSON(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

// serveStream answers with a stream of messages to the peer that asks.
func (t *Transport) serveStream(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		w.Header().Set(headerVersion, version.EtcdVersion)
	}
	if !t.admitRequest(w, r, http.MethodGet) {
		return
	}
	kind := stream(path.Base(path.Dir(r.URL.Path)))
	if (kind != streamMsgApp && kind != streamMessage) || path.Dir(path.Dir(r.URL.Path))+"/" != pathStream {
		fail(w, http.StatusNotFound, "invalid path")
		return
	}
	from, err := parseID(path.Base(r.URL.Path))
	if err != nil {
		fail(w, http.StatusNotFound, "invalid from")
		return
	}
	if t.cfg.Raft.IsIDRemoved(from) {
		t.cfg.Log.Warn("rejected stream from remote peer because it was removed", "remote-peer-id-from", hex(from))
		fail(w, http.StatusGone, "removed member")
		return
	}
	p := t.peer(from)
	if p == nil || p.remote {
		t.addSender(r.Header)
		t.cfg.Log.Warn("failed to find remote peer in cluster", "remote-peer-id-from", hex(from))
		fail(w, http.StatusNotFound, "error sender not found")
		return
	}
	if to := r.Header.Get(headerTo); to != hex(t.cfg.ID) {
		t.cfg.Log.Warn("ignored streaming request; ID mismatch", "remote-peer-id-header", to, "remote-peer-id-from", hex(from))
		fail(w, http.StatusPreconditionFailed, "to field mismatch")
		return
	}
	if kind == streamMsgApp {
		p.msgApp.serve(r.Context(), w)
		return
	}
	p.message.serve(r.Context(), w)
}

// health is what a probe is answered with.
type health struct {
	OK  bool
	Now time.Time
}

func (t *Transport) serveProbing(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, health{OK: true, Now: t.cfg.Now()})
}
