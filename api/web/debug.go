package web

import (
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// mutexProfileFraction is which part of the waits for locks the profile shows: one in so many. As in etcd.
const mutexProfileFraction = 5

// addProfiles serves Go's profiles. The command line is ours: it may hold secrets.
func (e *Endpoints) addProfiles(mux *http.ServeMux) {
	if runtime.SetMutexProfileFraction(-1) == 0 {
		runtime.SetMutexProfileFraction(mutexProfileFraction)
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", e.commandLine)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

func (e *Endpoints) commandLine(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	write(w, strings.Join(e.cfg.CommandLine, "\x00"))
}

// vars tells what the process and its raft are about, in the form of package expvar.
func (e *Endpoints) vars(w http.ResponseWriter, r *http.Request) {
	if !only(http.MethodGet, w, r) {
		return
	}
	ours := map[string]any{"cmdline": e.cfg.CommandLine, "file_descriptor_limit": descriptorLimit(), "raft.status": e.raftStatus()}
	var shown []string
	show := func(name, value string) { shown = append(shown, fmt.Sprintf("%q: %s", name, value)) }
	for _, name := range []string{"cmdline", "file_descriptor_limit"} {
		show(name, string(inJSON(ours[name])))
	}
	expvar.Do(func(v expvar.KeyValue) {
		if _, is := ours[v.Key]; !is {
			show(v.Key, v.Value.String())
		}
	})
	show("raft.status", string(inJSON(ours["raft.status"])))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	write(w, "{\n"+strings.Join(shown, ",\n")+"\n}\n")
}

// descriptorLimit is how many files and sockets the process may have open; 0 if that cannot be found out.
func descriptorLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return limit.Cur
}

// raftStatus is what etcd shows of its raft, as far as this member's keeps it.
func (e *Endpoints) raftStatus() any {
	type progress struct {
		Match uint64 `json:"match"`
		Next  uint64 `json:"next"`
		State string `json:"state"`
	}
	s := e.member.RaftStatus()
	members := map[string]progress{}
	for id, p := range s.Progress {
		state := "StateReplicate"
		if p.Snapshot {
			state = "StateSnapshot"
		}
		members[fmt.Sprintf("%x", id)] = progress{p.Match, p.Next, state}
	}
	return struct {
		ID       string              `json:"id"`
		Term     uint64              `json:"term"`
		Commit   uint64              `json:"commit"`
		Lead     string              `json:"lead"`
		State    string              `json:"raftState"`
		Applied  uint64              `json:"applied"`
		Progress map[string]progress `json:"progress"`
	}{fmt.Sprintf("%x", s.ID), s.Term, s.Commit, fmt.Sprintf("%x", s.Leader), s.Role.String(), s.Applied, members}
}

// logRequestMax bounds the body of a change of the log level, bytes.
const logRequestMax = 4 << 10

// logLevel changes the least level that is logged: {"Level": "debug"}.
func (e *Endpoints) logLevel(w http.ResponseWriter, r *http.Request) {
	if !only(http.MethodPut, w, r) {
		return
	}
	if e.member.Auth().Enabled() {
		http.Error(w, "nobody logs in here: the log level cannot be changed while authentication is enabled", http.StatusForbidden)
		return
	}
	refuse := func(why string) {
		writeJSON(w, http.StatusBadRequest, "application/json", struct {
			Message string `json:"message"`
		}{why})
	}
	var q struct{ Level string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, logRequestMax)).Decode(&q); err != nil {
		refuse("Invalid json body")
		return
	}
	if q.Level == "" || e.cfg.SetLogLevel(strings.ToLower(q.Level)) != nil {
		refuse("Invalid log level " + q.Level)
		return
	}
	e.log.Warn("log level changed", "level", q.Level, "remote", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}
