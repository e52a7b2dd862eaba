package login

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/apply"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/password"
	"holdfast/server"
	"holdfast/storage"
	"holdfast/token"
	"holdfast/util/quiet"
)

// cluster is a member's view of users and roles, and the view that it gets when it asks the others.
type cluster struct {
	t     *testing.T
	store *storage.Store
	users *auth.Store
	here  *auth.State
	index kv.Index // of the last entry
	// applied is the last entry applied here. Logins of later ones are heard of when the others are asked.
	applied kv.Index
	heard   []func()
	keeper  *Keeper
	// during runs while a login is on its way.
	during func()
	asked  int
	failed error // of asking
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	cfg := storage.Config{FS: vfs.NewMem(), Dir: "store", Log: slog.New(slog.DiscardHandler)}
	if err := storage.Create(cfg); err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{t: t, store: store}
	if c.users, err = auth.Load(store); err != nil {
		t.Fatal(err)
	}
	c.here = c.users.State()
	return c
}

// change changes users and roles in the cluster; catchUp lets the member know.
func (c *cluster) change(f func(*auth.Store, *storage.Batch) error) {
	c.t.Helper()
	b := c.store.NewBatch()
	defer b.Close()
	if err := f(c.users, b); err != nil {
		c.t.Fatal(err)
	}
	if err := b.Commit(); err != nil {
		c.t.Fatal(err)
	}
	c.users.Publish()
}

func (c *cluster) catchUp() {
	c.here, c.applied = c.users.State(), c.index
	for _, hear := range c.heard {
		hear()
	}
	c.heard = nil
}

// Auth implements Member.
func (c *cluster) Auth() *auth.State { return c.here }

// AuthState implements Member.
func (c *cluster) AuthState(context.Context) (*auth.State, error) {
	c.asked++
	if c.failed != nil {
		return nil, c.failed
	}
	c.catchUp()
	return c.here, nil
}

// LogIn implements Member. The member has applied everything up to its own entry when it returns.
func (c *cluster) LogIn(_ context.Context, user, prefix string) (kv.Index, error) {
	if c.during != nil {
		c.during()
	}
	index := c.logIn(user, prefix)
	c.catchUp()
	return index, nil
}

// logIn is a login at another member.
func (c *cluster) logIn(user, prefix string) kv.Index {
	c.index++
	index := apply.TokenIndex(c.index)
	c.heard = append(c.heard, func() { c.keeper.Authenticated(user, prefix, index) })
	return index
}

// AppliedIndex implements Member.
func (c *cluster) AppliedIndex() kv.Index { return c.applied }

const costMin = 4 // of bcrypt

func hash(t *testing.T, pass string) string {
	t.Helper()
	h, err := password.New(costMin).Hash(t.Context(), pass)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(h)
}

// withUsers gives the cluster root and alice, each with the own name as password, and switches authentication on.
func (c *cluster) withUsers() {
	c.t.Helper()
	for _, name := range []string{"root", "alice"} {
		c.change(func(s *auth.Store, b *storage.Batch) error { return s.AddUser(b, name, hash(c.t, name), false) })
	}
	c.change(func(s *auth.Store, b *storage.Batch) error { return s.AddUser(b, "cert", "", true) })
	c.change(func(s *auth.Store, b *storage.Batch) error { return s.GrantRole(b, "root", "root") })
	c.change(func(s *auth.Store, b *storage.Batch) error { return s.Enable(b) })
	c.catchUp()
}

func (c *cluster) keep(cfg Config) *Keeper {
	c.t.Helper()
	cfg.BcryptCost = costMin
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.keeper = k
	return k
}

func simple() Config { return Config{Tokens: token.Options{Kind: token.KindSimple}} }

// TestAnswersHoldInTheCluster: a member that is behind gives no answer by what it knows: neither to a password that was
// right nor to one that was wrong.
func TestAnswersHoldInTheCluster(t *testing.T) {
	c := newCluster(t)
	k := c.keep(simple())
	log := func(pass string, want error) string {
		t.Helper()
		text, err := k.Authenticate(t.Context(), c, "alice", pass)
		if !errors.Is(err, want) || (err == nil) != (text != "") {
			t.Fatalf("%v, want %v", err, want)
		}
		return text
	}
	log("alice", auth.ErrNotEnabled)
	c.withUsers()
	log("alice", nil)
	if c.asked != 1 {
		t.Errorf("the others were asked %d times; a login by the right password is an entry and nothing else", c.asked)
	}
	set := func(pass string) func() {
		return func() {
			c.change(func(s *auth.Store, b *storage.Batch) error { return s.ChangePassword(b, "alice", hash(t, pass)) })
		}
	}
	set("new")()
	log("new", nil) // the member knows the old one
	set("newer")()
	log("new", auth.ErrFailed) // and here too
	c.during = func() { c.during = nil; set("newest")() }
	log("newer", auth.ErrFailed) // it was right when it was compared
	set("alice")()
	c.failed = server.ErrNoLeader
	log("newest", server.ErrNoLeader) // the entry shows that it is old, and nobody says what is so now
	log("alice", nil)
	log("wrong", server.ErrNoLeader)
}

// TestTokenOfAnotherMember: a token that this member has not heard of yet is found when it has caught up; what lies behind it
// is refused without asking anybody.
func TestTokenOfAnotherMember(t *testing.T) {
	c := newCluster(t)
	var lines bytes.Buffer
	cfg := simple()
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	k := c.keep(cfg)
	c.withUsers()
	prefix := strings.Repeat("x", 16)
	find := func(text string) (server.Identity, error) {
		return k.Identify(t.Context(), c, Credentials{Token: &text})
	}
	c.logIn("alice", prefix)
	asked := c.asked
	if who, err := find(prefix + ".0"); err != nil || who.User != "alice" || who.Revision != c.here.Revision() || c.asked != asked+1 {
		t.Errorf("%v, %v, asked %d times", who, err, c.asked-asked)
	}
	for _, text := range []string{strings.Repeat("y", 16) + ".0", "made up", ""} {
		if who, err := find(text); !errors.Is(err, auth.ErrInvalidToken) || who != (server.Identity{}) || c.asked != asked+1 {
			t.Errorf("%q: %v, %v, asked %d times", text, who, err, c.asked-asked)
		}
	}
	if _, err := find(prefix + ".1"); !errors.Is(err, auth.ErrInvalidToken) || c.asked != asked+2 {
		t.Errorf("the entry that comes next: %v, asked %d times", err, c.asked-asked)
	}
	if _, err := find(prefix + ".99"); !errors.Is(err, auth.ErrInvalidToken) || c.asked != asked+3 {
		t.Errorf("an index that nobody has reached: %v, asked %d times", err, c.asked-asked)
	}
	c.failed = server.ErrNoLeader
	if _, err := find(prefix + ".99"); !errors.Is(err, server.ErrNoLeader) {
		t.Errorf("nobody can be asked: %v", err)
	}
	if strings.Contains(lines.String(), prefix) || !strings.Contains(lines.String(), token.Fingerprint(prefix+".99")) {
		t.Errorf("logged: %s", &lines)
	}
	c.change(func(s *auth.Store, b *storage.Batch) error { s.Disable(b); return nil })
	c.here = c.users.State()
	if who, err := find("made up"); err != nil || who != (server.Identity{}) {
		t.Errorf("with authentication off: %v, %v", who, err)
	}
}

// TestStrangersAreLoggedInPart: who shows tokens that are worth nothing does not fill the disk.
func TestStrangersAreLoggedInPart(t *testing.T) {
	c := newCluster(t)
	var lines bytes.Buffer
	cfg := simple()
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	cfg.Now = func() time.Time { return time.Unix(1000, 0) }
	k := c.keep(cfg)
	c.withUsers()
	bad := "made up"
	for range 50 {
		if _, err := k.Identify(t.Context(), c, Credentials{Token: &bad}); !errors.Is(err, auth.ErrInvalidToken) {
			t.Fatal(err)
		}
		if _, err := k.Authenticate(t.Context(), c, "nobody", "x"); !errors.Is(err, auth.ErrFailed) {
			t.Fatal(err)
		}
	}
	if n := strings.Count(lines.String(), "\n"); n != quiet.LinesMax {
		t.Errorf("%d lines: %s", n, &lines)
	}
}

// TestForgetting: what the log says of users takes their tokens and what is remembered of their passwords away.
func TestForgetting(t *testing.T) {
	c := newCluster(t)
	k := c.keep(simple())
	c.withUsers()
	login := func(user string) string {
		t.Helper()
		text, err := k.Authenticate(t.Context(), c, user, user)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := func(text string) bool {
		_, err := k.Identify(t.Context(), c, Credentials{Token: &text})
		return err == nil
	}
	alice, root := login("alice"), login("root")
	login("alice")
	if n := k.passwords.Checked(); n != 2 {
		t.Fatalf("%d passwords were checked at full cost", n)
	}
	k.Forget("alice")
	if good(alice) || !good(root) {
		t.Errorf("alice's token is good: %v; root's: %v", good(alice), good(root))
	}
	login("alice")
	login("root")
	if n := k.passwords.Checked(); n != 3 {
		t.Errorf("%d passwords were checked at full cost, want alice's once more", n)
	}
	k.Changed("root")
	if !good(root) {
		t.Error("a user with another role is logged out")
	}
	login("root")
	if n := k.passwords.Checked(); n != 4 {
		t.Errorf("%d passwords were checked at full cost, want root's once more", n)
	}
	k.Switched(true)
	if good(root) || k.Tokens() != 0 {
		t.Error("a token is good after authentication was switched")
	}
	login("root")
	if n := k.passwords.Checked(); n != 5 {
		t.Errorf("%d passwords were checked at full cost", n)
	}
}

// TestJWT: a signed token enters no log and dates from the users and roles that the password was compared with.
func TestJWT(t *testing.T) {
	c := newCluster(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a long shared secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	options := token.Options{Kind: token.KindJWT, JWT: token.JWTOptions{Method: "HS256", PrivateKey: key, TTL: time.Minute}}
	k := c.keep(Config{Tokens: options})
	c.withUsers()
	text, err := k.Authenticate(t.Context(), c, "alice", "alice")
	if err != nil || c.index != 0 {
		t.Fatalf("%v, %d entries", err, c.index)
	}
	old := c.here.Revision()
	c.change(func(s *auth.Store, b *storage.Batch) error { return s.AddRole(b, "any") })
	c.catchUp()
	who, err := k.Identify(t.Context(), c, Credentials{Token: &text})
	if err != nil || who != (server.Identity{User: "alice", Revision: old}) {
		t.Errorf("%v, %v", who, err)
	}
	if err := c.here.Check(who.User, who.Revision, []kv.Access{{}}); !errors.Is(err, auth.ErrOldRevision) {
		t.Errorf("an old token: %v", err)
	}
	c.change(func(s *auth.Store, b *storage.Batch) error { return s.AddRole(b, "more") }) // and the member does not know
	if text, err = k.Authenticate(t.Context(), c, "alice", "alice"); err != nil {
		t.Fatal(err)
	}
	if who, err := k.Identify(t.Context(), c, Credentials{Token: &text}); err != nil || who.Revision != c.users.State().Revision() {
		t.Errorf("%v, %v", who, err)
	}
	k.Authenticated("alice", "", 7) // as an etcd does
	k.Forget("alice")
	k.Switched(false)
	options.JWT.PrivateKey = "nowhere"
	if _, err := New(Config{Tokens: options, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, token.ErrKey) {
		t.Errorf("%v", err)
	}
}

// TestWithoutTokens: with --auth-token empty nobody logs in, and certificates alone say who asks.
func TestWithoutTokens(t *testing.T) {
	c := newCluster(t)
	k := c.keep(Config{CertificateNames: true})
	c.withUsers()
	if _, err := k.Authenticate(t.Context(), c, "alice", "alice"); !errors.Is(err, auth.ErrFailed) {
		t.Errorf("%v", err)
	}
	if _, err := k.Authenticate(t.Context(), c, "cert", ""); !errors.Is(err, auth.ErrNoPasswordUser) {
		t.Errorf("%v", err)
	}
	name := "cert"
	if who, err := k.Identify(t.Context(), c, Credentials{CommonName: &name}); err != nil || who.User != name {
		t.Errorf("%v, %v", who, err)
	}
	k.cfg.CertificateNames = false
	if who, err := k.Identify(t.Context(), c, Credentials{CommonName: &name}); err != nil || who != (server.Identity{}) {
		t.Errorf("%v, %v", who, err)
	}
	if err := k.Run(t.Context()); err != nil || k.Tokens() != 0 {
		t.Errorf("%v, %d tokens", err, k.Tokens())
	}
}

// TestNothingSecretIsLogged: neither passwords nor tokens, whatever becomes of them.
func TestNothingSecretIsLogged(t *testing.T) {
	c := newCluster(t)
	var lines bytes.Buffer
	cfg := simple()
	cfg.Log = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	k := c.keep(cfg)
	c.withUsers()
	var secrets []string
	for _, try := range [][2]string{{"alice", "alice"}, {"alice", "S3CRET-wrong"}, {"nobody", "S3CRET-nobody"}, {"cert", "S3CRET-cert"}} {
		text, err := k.Authenticate(t.Context(), c, try[0], try[1])
		if err != nil && strings.Contains(err.Error(), try[1]) {
			t.Errorf("in an error: %v", err)
		}
		secrets = append(secrets, text, "S3CRET")
	}
	bad := "S3CRET-token"
	if _, err := k.Identify(t.Context(), c, Credentials{Token: &bad}); err == nil || strings.Contains(err.Error(), bad) {
		t.Errorf("in an error: %v", err)
	}
	k.Authenticated("alice", "S3CRET", 9) // of a wrong form
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return s == "" })
	for _, secret := range secrets {
		if strings.Contains(lines.String(), secret) {
			t.Errorf("%q is logged", secret)
		}
	}
	if !strings.Contains(lines.String(), "invalid authentication was requested") {
		t.Errorf("refused logins are not logged: %s", &lines)
	}
}
