package server

import (
	"context"
	"net/http"
	"unicode/utf8"

	"holdfast/auth"
	"holdfast/kv"
)

// Identity is who asks: a user, and the auth revision at which that was found out. The zero value is nobody.
type Identity struct {
	User     string
	Revision uint64
}

type identityKey struct{}

// WithIdentity gives a context in which who tells who asks. It is asked only while authentication is on, and anew for each
// request of a stream, whose user may change meanwhile; its error is what the request is answered with.
func WithIdentity(ctx context.Context, who func() (Identity, error)) context.Context {
	return context.WithValue(ctx, identityKey{}, who)
}

type tokenKey struct{}

// WithToken gives a context in which the token that a client has shown goes along where a request is passed on to the leader.
func WithToken(ctx context.Context, text string) context.Context {
	return context.WithValue(ctx, tokenKey{}, text)
}

// tokenHeader is the header of a request to another member that shows the client's token.
func tokenHeader(ctx context.Context) http.Header {
	if text, ok := ctx.Value(tokenKey{}).(string); ok {
		return http.Header{"Authorization": {text}}
	}
	return nil
}

// identity is who asks; nobody while authentication is off.
func (s *Server) identity(ctx context.Context) (Identity, error) {
	if !s.auth.State().Enabled() {
		return Identity{}, nil
	}
	who, ok := ctx.Value(identityKey{}).(func() (Identity, error))
	if !ok {
		return Identity{}, nil
	}
	return who()
}

// Auth is what users and roles are now.
func (s *Server) Auth() *auth.State { return s.auth.State() }

// CheckAdmin refuses who is no administrator.
func (s *Server) CheckAdmin(ctx context.Context) error {
	who, err := s.identity(ctx)
	if err != nil {
		return err
	}
	return s.auth.State().CheckAdmin(who.User)
}

// CheckUser refuses who is not logged in.
func (s *Server) CheckUser(ctx context.Context) error {
	who, err := s.identity(ctx)
	if err == nil && who == (Identity{}) && s.auth.State().Enabled() {
		return auth.ErrUserEmpty
	}
	return err
}

// AppliedIndex is that of the last entry applied here.
func (s *Server) AppliedIndex() kv.Index { return kv.Index(s.replica.Status().Applied) }

// header names a request and says who asks. A name out of a certificate may be no text; no user has it, and in the log it would
// be what members of etcd cannot read.
func (s *Server) header(ctx context.Context) (kv.CommandHeader, error) {
	who, err := s.identity(ctx)
	if err == nil && !utf8.ValidString(who.User) {
		err = auth.ErrPermissionDenied
	}
	return kv.CommandHeader{ID: s.ids.draw(), Username: who.User, AuthRevision: who.Revision}, err
}

// asRoot names a request that this member makes for itself, on the keys of clients.
func (s *Server) asRoot(id uint64) kv.CommandHeader {
	state := s.auth.State()
	if !state.Enabled() {
		return kv.CommandHeader{ID: id}
	}
	return kv.CommandHeader{ID: id, Username: auth.Root, AuthRevision: state.Revision()}
}

// guard runs a read for whoever asks. What it wants is decided before, and again after if users or roles have changed
// meanwhile, or authentication was switched on: the read may have seen what was written since.
func (s *Server) guard(ctx context.Context, wants func() []kv.Access, read func() error) error {
	state := s.auth.State()
	who, err := s.identity(ctx)
	if err != nil {
		return err
	}
	if state.Enabled() {
		if err := state.Check(who.User, who.Revision, wants()); err != nil {
			return err
		}
	}
	err = read()
	if now := s.auth.State(); now != state {
		if who.Revision != 0 && who.Revision != now.Revision() {
			return auth.ErrOldRevision
		}
		if err := now.Check(who.User, who.Revision, wants()); err != nil {
			return err
		}
	}
	return err
}

// guardLeases decides whether who asks may do something with every key of some leases; an administrator may with any.
func (s *Server) guardLeases(ctx context.Context, right kv.Right, keysOf kv.KeysOf, ids ...kv.LeaseID) error {
	state := s.auth.State()
	if !state.Enabled() {
		return nil
	}
	who, err := s.identity(ctx)
	if err != nil {
		return err
	}
	if who == (Identity{}) {
		return auth.ErrUserEmpty
	}
	if state.CheckAdmin(who.User) == nil {
		return nil
	}
	var wants []kv.Access
	for _, id := range ids {
		wants = kv.AppendLeaseAccesses(wants, right, id, keysOf)
	}
	if err := state.Check(who.User, who.Revision, wants); err != nil {
		return err
	}
	if s.auth.State().Revision() != state.Revision() {
		return auth.ErrOldRevision
	}
	return nil
}

// CheckWatch decides whether who asks may watch a range. A watch goes on when the permission ends, as in etcd.
func (s *Server) CheckWatch(ctx context.Context, q *kv.WatchCreate) error {
	who, err := s.identity(ctx)
	if err != nil {
		return err
	}
	return s.auth.State().Check(who.User, who.Revision, q.Accesses(nil))
}
