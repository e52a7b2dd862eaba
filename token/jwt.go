package token

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// JWTConfig is what signer and verifier are made of.
type JWTConfig struct {
	JWTOptions
	Log *slog.Logger     // required
	Now func() time.Time // nil is time.Now
}

// JWT signs and verifies tokens. It follows its key files: a new key is in force within keyCheck, and tokens signed with
// the old one are then worth nothing. A file that is broken, or does not fit the other one yet, leaves the old keys in force.
type JWT struct {
	cfg    JWTConfig
	method jwt.SigningMethod
	parser *jwt.Parser
	inUse  atomic.Pointer[inUse]
	// checked is when the files were looked at last, in Unix nanoseconds.
	checked atomic.Int64

	mu              sync.Mutex // guards the fields below; one goroutine at a time reads the files
	public, private keyFile
}

// inUse are the keys in force and the tokens that were found good under them.
type inUse struct {
	keys
	known known
}

// NewJWT reads the keys.
func NewJWT(cfg JWTConfig) (*JWT, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if !isMethod(cfg.Method) {
		return nil, fmt.Errorf("%w: sign-method=%s", ErrOptions, cfg.Method)
	}
	j := &JWT{
		cfg: cfg, method: jwt.GetSigningMethod(cfg.Method),
		parser: jwt.NewParser(jwt.WithValidMethods([]string{cfg.Method}), jwt.WithTimeFunc(cfg.Now)),
	}
	j.checked.Store(cfg.Now().UnixNano())
	if err := j.load(); err != nil {
		return nil, err
	}
	return j, nil
}

// load reads both files and puts their keys in force.
func (j *JWT) load() (err error) {
	var errs [2]error
	j.public, errs[0] = readKeyFile(j.cfg.PublicKey)
	j.private, errs[1] = readKeyFile(j.cfg.PrivateKey)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	k, err := keysOf(j.cfg.Method, j.public, j.private)
	if err != nil {
		return err
	}
	j.inUse.Store(&inUse{keys: k})
	return nil
}

// current are the keys in force. One caller in keyCheck looks at the files first.
func (j *JWT) current() *inUse {
	now, last := j.cfg.Now().UnixNano(), j.checked.Load()
	if now-last >= int64(keyCheck) && j.checked.CompareAndSwap(last, now) {
		j.follow()
	}
	return j.inUse.Load()
}

// follow reads the files again if they have changed.
func (j *JWT) follow() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.public.changed() && !j.private.changed() {
		return
	}
	if err := j.load(); err != nil {
		j.cfg.Log.Warn("the key files of tokens have changed and cannot be used; the old keys stay in force", "error", err)
		return
	}
	j.cfg.Log.Info("the key files of tokens have changed; tokens signed with the old key are no longer accepted",
		"pub-key", j.cfg.PublicKey, "priv-key", j.cfg.PrivateKey)
}

// Sign makes a token for a user at a revision of the users and roles.
func (j *JWT) Sign(user string, revision uint64) (string, error) {
	k := j.current()
	if k.sign == nil {
		return "", ErrVerifyOnly
	}
	claims := jwt.MapClaims{"username": user, "revision": revision, "exp": j.cfg.Now().Add(j.cfg.TTL).Unix()}
	text, err := jwt.NewWithClaims(j.method, claims).SignedString(k.sign)
	if err != nil {
		return "", fmt.Errorf("sign a token with %s: %w", j.cfg.Method, err)
	}
	return text, nil
}

// Find tells whose token this is.
func (j *JWT) Find(text string) (Holder, bool) {
	k := j.current()
	now := j.cfg.Now().UnixNano()
	if h, ok := k.known.find(text, now); ok {
		return h, true
	}
	claims := jwt.MapClaims{}
	// The error says what is wrong with the token, in words that may be the token's.
	if _, err := j.parser.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return k.verify, nil }); err != nil {
		return Holder{}, false
	}
	user, named := claims["username"].(string)
	revision, dated := claims["revision"].(float64)
	if !named || !dated || revision < 0 || revision > 1<<53 {
		return Holder{}, false
	}
	until := int64(math.MaxInt64)
	if end, err := claims.GetExpirationTime(); err == nil && end != nil {
		until = end.UnixNano()
	}
	if _, later := claims["nbf"]; later {
		until = now // parsed again each time: it may begin to hold later, and the clock may be set back
	}
	h := Holder{User: user, Revision: uint64(revision)}
	k.known.add(text, h, until, now)
	return h, true
}

// knownMax is how many tokens found good are remembered, twice: verifying one costs 20 to 100 us, finding one 0.1 us. Only
// those of the usual size are.
const (
	knownMax      = 4096
	knownBytesMax = 2048
)

// known are tokens that were found good. It keeps the last knownMax and up to as many older ones.
type known struct {
	mu         sync.RWMutex // guards the fields below
	young, old map[string]good
}

type good struct {
	holder Holder
	until  int64
}

func (k *known) find(text string, now int64) (Holder, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	g, ok := k.young[text]
	if !ok {
		g, ok = k.old[text]
	}
	return g.holder, ok && now < g.until
}

func (k *known) add(text string, h Holder, until, now int64) {
	if until <= now || len(text) > knownBytesMax {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.young == nil || len(k.young) >= knownMax {
		k.young, k.old = make(map[string]good), k.young
	}
	k.young[text] = good{h, until}
}
