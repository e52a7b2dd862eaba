// Package login finds out who asks: it gives a user a token for a password, and tells from a token, or from a certificate,
// which user a call is made for.
//
// Passwords are compared at the member that is asked, before anything enters the log, and tokens are found without asking
// anyone. Users and roles belong to package auth, behind the log; this package follows what becomes of them there.
//
//	Errors   those of auth; ErrBusy; token.ErrVerifyOnly
//	Source   etcd 3.7, Authenticate
//
// No line and no error of this package holds a password or a token.
package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"holdfast/auth"
	"holdfast/kv"
	"holdfast/password"
	"holdfast/server"
	"holdfast/token"
	"holdfast/util/quiet"
)

// Member is what is asked of the member that keeps users and roles; *server.Server is one.
type Member interface {
	// Auth is what users and roles are here now, AuthState what they are in the cluster, or were a moment ago.
	Auth() *auth.State
	AuthState(context.Context) (*auth.State, error)
	// LogIn has every member hear, in the order of the log, that a user's password was compared; the index is its entry's.
	LogIn(ctx context.Context, user, prefix string) (kv.Index, error)
	AppliedIndex() kv.Index
}

// Config is what a keeper is made of.
type Config struct {
	Tokens token.Options
	// TTL is how long a simple token is good that is not used; 0 is token.TTLDefault.
	TTL time.Duration
	// CertificateNames has the common name of a client's certificate stand for a user, where no token comes along.
	CertificateNames bool
	// BcryptCost is that of the hashes of new passwords; 0 is password.CostDefault.
	BcryptCost int
	Log        *slog.Logger     // required
	Now        func() time.Time // nil is time.Now
}

// Keeper knows who is logged in at one member.
type Keeper struct {
	cfg       Config
	passwords *password.Checker
	// simple or jwt is set, or neither: then nobody gets a token.
	simple *token.Simple
	jwt    *token.JWT

	accepted, refused atomic.Uint64 // passwords
	strangers         *quiet.Bound
}

// Stats is what a keeper holds, and has done since it was made.
type Stats struct {
	Tokens            int    // simple tokens that are kept
	Accepted, Refused uint64 // passwords that users came with
	Checks            uint64 // of passwords, at bcrypt's full cost
}

// Stats returns the numbers of now.
func (k *Keeper) Stats() Stats {
	return Stats{Tokens: k.Tokens(), Accepted: k.accepted.Load(), Refused: k.refused.Load(), Checks: k.passwords.Checked()}
}

// New makes a keeper. It reads the key files of tokens.
func New(cfg Config) (*Keeper, error) {
	if cfg.BcryptCost == 0 {
		cfg.BcryptCost = password.CostDefault
	}
	if !password.IsCost(cfg.BcryptCost) {
		return nil, fmt.Errorf("--bcrypt-cost: %d is no cost that bcrypt knows", cfg.BcryptCost)
	}
	k := &Keeper{
		cfg: cfg, passwords: password.New(cfg.BcryptCost),
		strangers: quiet.New(cfg.Log, "more tokens and passwords were refused than were logged", cfg.Now),
	}
	switch cfg.Tokens.Kind {
	case token.KindSimple:
		k.simple = token.NewSimple(token.SimpleConfig{TTL: cfg.TTL, Now: cfg.Now})
	case token.KindJWT:
		var err error
		if k.jwt, err = token.NewJWT(token.JWTConfig{JWTOptions: cfg.Tokens.JWT, Log: cfg.Log, Now: cfg.Now}); err != nil {
			return nil, fmt.Errorf("--auth-token: %w", err)
		}
	}
	return k, nil
}

// sweepEvery is how often tokens that are over are forgotten.
const sweepEvery = time.Second

// Run forgets tokens that are over, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	if k.simple == nil {
		return nil
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			k.simple.Sweep()
		case <-ctx.Done():
			return nil
		}
	}
}

// Tokens is how many simple tokens are kept here.
func (k *Keeper) Tokens() int {
	if k.simple == nil {
		return 0
	}
	return k.simple.Len()
}

// CertificateNames tells whether the common name of a certificate stands for a user.
func (k *Keeper) CertificateNames() bool { return k.cfg.CertificateNames }

// Authenticate gives a user a token for its password.
//
// The password is compared with what this member knows now. A yes holds if users and roles are the same when the entry that
// gives the token has been applied; a no holds if they are the same in the cluster. Otherwise it is compared again.
func (k *Keeper) Authenticate(ctx context.Context, m Member, user, pass string) (string, error) {
	for {
		state := m.Auth()
		if err := k.compare(ctx, state, user, pass); err != nil {
			now, asked := m.AuthState(ctx)
			if asked != nil {
				return "", asked
			}
			if now == state {
				k.refused.Add(1)
				k.tellRefused(user, err)
				return "", err
			}
			continue
		}
		text, held, err := k.give(ctx, m, state, user)
		if held || err != nil {
			if err == nil {
				k.accepted.Add(1)
			}
			return text, err
		}
		k.cfg.Log.Info("revision when password checked became stale; retrying")
	}
}

// compare tells whether a password is the user's. A user that there is not is told apart by nothing, the time included.
func (k *Keeper) compare(ctx context.Context, state *auth.State, user, pass string) error {
	if !state.Enabled() {
		return auth.ErrNotEnabled
	}
	u, _ := state.User(user)
	if u.NoPassword {
		return auth.ErrNoPasswordUser
	}
	err := k.passwords.Check(ctx, user, u.Hash, pass)
	switch {
	case errors.Is(err, password.ErrWrong):
		return auth.ErrFailed
	case errors.Is(err, password.ErrBusy):
		return server.ErrTooManyRequests
	}
	return err
}

func (k *Keeper) tellRefused(user string, why error) {
	if !errors.Is(why, auth.ErrNotEnabled) && k.strangers.Say() {
		k.cfg.Log.Warn("invalid authentication was requested", "user", user, "error", why)
	}
}

// give makes a token for a user whose password was compared in a state. held tells whether that state still held then.
func (k *Keeper) give(ctx context.Context, m Member, state *auth.State, user string) (text string, held bool, err error) {
	switch {
	case k.simple != nil:
		prefix := k.simple.Prefix()
		index, err := m.LogIn(ctx, user, prefix)
		if err != nil {
			return "", false, err
		}
		return prefix + "." + strconv.FormatUint(uint64(index), 10), m.Auth().Revision() == state.Revision(), nil
	case k.jwt != nil: // nobody has to hear of it
		now, err := m.AuthState(ctx)
		if err != nil || now != state {
			return "", false, err
		}
		text, err := k.jwt.Sign(user, state.Revision())
		return text, true, err
	}
	return "", false, auth.ErrFailed
}

// Credentials are what a call brings along to say for whom it is made. Nil is what it does not bring.
type Credentials struct {
	Token *string
	// CommonName is that of the client's certificate, which the connection has verified.
	CommonName *string
}

// Identify tells who asks; nobody while authentication is off or where nothing says it.
func (k *Keeper) Identify(ctx context.Context, m Member, c Credentials) (server.Identity, error) {
	state := m.Auth()
	switch {
	case !state.Enabled():
		return server.Identity{}, nil
	case c.Token != nil:
		// The state is from before the token was looked for: who loses the token by a change that was missed here is then
		// too old for the state after it.
		return k.find(ctx, m, state, *c.Token)
	case c.CommonName != nil && k.cfg.CertificateNames:
		return server.Identity{User: *c.CommonName, Revision: state.Revision()}, nil
	}
	return server.Identity{}, nil
}

func (k *Keeper) find(ctx context.Context, m Member, state *auth.State, text string) (server.Identity, error) {
	if k.jwt != nil {
		if h, found := k.jwt.Find(text); found {
			return server.Identity{User: h.User, Revision: h.Revision}, nil
		}
	}
	if k.simple != nil {
		user, found, err := k.findSimple(ctx, m, text)
		if err != nil {
			return server.Identity{}, err
		}
		if found {
			return server.Identity{User: user, Revision: state.Revision()}, nil
		}
	}
	if k.strangers.Say() {
		k.cfg.Log.Warn("invalid auth token", "token-fingerprint", token.Fingerprint(text))
	}
	return server.Identity{}, auth.ErrInvalidToken
}

// findSimple finds a token, also one that another member has given and this one has not heard of yet: the number in it is that
// of the entry before. etcd waits for that one alone, and then may not have heard of it either; and it waits without end,
// whoever has made the number up.
func (k *Keeper) findSimple(ctx context.Context, m Member, text string) (user string, found bool, err error) {
	if user, found = k.simple.Find(text); found {
		return user, true, nil
	}
	if index, ok := token.Index(text); !ok || kv.Index(index) < m.AppliedIndex() {
		user, found = k.simple.Find(text) // it may have been applied in between
		return user, found, nil
	}
	if _, err := m.AuthState(ctx); err != nil {
		return "", false, err
	}
	user, found = k.simple.Find(text)
	return user, found, nil
}

// Switched implements apply.Tokens.
func (k *Keeper) Switched(bool) {
	if k.simple != nil {
		k.simple.Clear()
	}
	k.passwords.ForgetAll()
}

// Authenticated implements apply.Tokens. A prefix of another form was drawn by a member with other settings, and its token is
// not good here.
func (k *Keeper) Authenticated(user, prefix string, index kv.Index) {
	if k.simple == nil {
		return
	}
	if _, err := k.simple.Grant(user, prefix, uint64(index)); err != nil {
		k.cfg.Log.Warn("another member gives tokens of another kind: --auth-token must be the same everywhere", "error", err)
	}
}

// Forget implements apply.Tokens.
func (k *Keeper) Forget(user string) {
	if k.simple != nil {
		k.simple.DropUser(user)
	}
	k.passwords.Forget(user)
}

// Changed implements apply.Tokens.
func (k *Keeper) Changed(user string) { k.passwords.Forget(user) }

// Hash makes the hash that stands for a new password.
func (k *Keeper) Hash(ctx context.Context, pass string) ([]byte, error) {
	hash, err := k.passwords.Hash(ctx, pass)
	if errors.Is(err, password.ErrBusy) {
		return nil, server.ErrTooManyRequests
	}
	return hash, err // in bcrypt's words, as from etcd: the password is too long
}
