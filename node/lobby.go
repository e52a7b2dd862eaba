package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/api/port"
	"holdfast/api/web"
	"holdfast/server"
)

// lobby answers other members until this one has opened its data. Somebody who is about to found a cluster, or to join one,
// must not take this member for one that is gone, and hears at once whether it is worth waiting for.
type lobby struct {
	http  *http.Server
	doors []door
	serve errgroup.Group
}

// lobbyTimeout is how long a connection may take to ask, and to hear the answer.
const lobbyTimeout = 5 * time.Second

// openLobby serves the listeners until close. hasData tells whether there is data to be opened.
func openLobby(at []port.Door, hasData bool) *lobby {
	state := server.StartingNew
	if hasData {
		state = server.StartingData
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" { // an etcd that leads asks for it again and again, and complains of any other answer
			w.Header().Set(server.StartingHeader, state)
			web.WriteVersion(w, "", "")
			return
		}
		web.RefuseStarting(w, state)
	}
	l := &lobby{http: &http.Server{Handler: http.HandlerFunc(answer), ReadTimeout: lobbyTimeout, WriteTimeout: lobbyTimeout}}
	l.http.SetKeepAlivesEnabled(false) // whoever asks again is to meet the member
	for _, listener := range at {
		d := door{listener.Listener}
		l.doors = append(l.doors, d)
		served := net.Listener(d)
		if listener.TLS != nil && !listener.Plain {
			served = tls.NewListener(d, listener.TLS.Server())
		}
		l.serve.Go(func() error {
			if err := l.http.Serve(served); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve members on %s: %w", d.Addr(), err)
			}
			return nil
		})
	}
	return l
}

// close ends the serving and leaves the listeners to whoever comes next.
func (l *lobby) close() error {
	errs := []error{l.http.Close(), l.serve.Wait()}
	for _, d := range l.doors {
		errs = append(errs, d.deadline(time.Time{}))
	}
	return errors.Join(errs...)
}

// door is a listener that is not closed with the server behind it, so that its address is never free in between.
type door struct{ net.Listener }

// Close implements net.Listener: it ends Accept.
func (d door) Close() error { return d.deadline(time.Unix(1, 0)) }

// deadline ends the Accepts that wait at t.
func (d door) deadline(t time.Time) error {
	l, ok := d.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok {
		panic(fmt.Sprintf("node: a %T has no deadline", d.Listener))
	}
	return l.SetDeadline(t)
}
