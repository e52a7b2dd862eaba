package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// pair writes a new key pair for a method and names the files; HMAC has one secret and no public key.
func pair(t *testing.T, method string) (public, private string) {
	t.Helper()
	dir := t.TempDir()
	private = filepath.Join(dir, "key")
	if strings.HasPrefix(method, "HS") {
		write(t, private, []byte(rand.Text()))
		return "", private
	}
	public = filepath.Join(dir, "key.pub")
	writePair(t, method, public, private)
	return public, private
}

// rsaKeys are made once: each takes long. pair draws them in turn, so that no two pairs in a row are the same.
var (
	rsaKeys  = [2]func() *rsa.PrivateKey{sync.OnceValue(newRSA), sync.OnceValue(newRSA)}
	rsaDrawn int
)

func newRSA() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

func writePair(t *testing.T, method, public, private string) {
	t.Helper()
	var key crypto.Signer
	var err error
	switch {
	case method == "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case method[0] == 'E':
		key, err = ecdsa.GenerateKey(map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[method], rand.Reader)
	default:
		key = rsaKeys[rsaDrawn%len(rsaKeys)]()
		rsaDrawn++
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if der, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		t.Fatal(err)
	}
	write(t, public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// write replaces a file as careful tools do.
func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func newJWT(t *testing.T, c *clock, method, public, private string) *JWT {
	t.Helper()
	j, err := NewJWT(JWTConfig{
		JWTOptions: JWTOptions{Method: method, PublicKey: public, PrivateKey: private, TTL: time.Minute},
		Log:        slog.New(slog.DiscardHandler), Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func sign(t *testing.T, j *JWT, user string, revision uint64) string {
	t.Helper()
	text, err := j.Sign(user, revision)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestJWT: with every method of etcd's a token names its holder until it ends, at members with the public key alone too,
// and no other key takes it.
func TestJWT(t *testing.T) {
	for _, method := range []string{
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "EdDSA",
	} {
		t.Run(method, func(t *testing.T) {
			c := newClock()
			public, private := pair(t, method)
			j := newJWT(t, c, method, public, private)
			text := sign(t, j, "alice", 7)
			checkers := []*JWT{j, newJWT(t, c, method, "", private)}
			if public != "" {
				verifier := newJWT(t, c, method, public, "")
				if _, err := verifier.Sign("alice", 7); !errors.Is(err, ErrVerifyOnly) {
					t.Errorf("signed without a private key: %v", err)
				}
				checkers = append(checkers, verifier)
			}
			for range 2 { // found, then found again
				for _, v := range checkers {
					if h, found := v.Find(text); !found || h != (Holder{"alice", 7}) {
						t.Errorf("found %v %v", h, found)
					}
					if _, found := v.Find(text[:len(text)-6] + "AAAAAA"); found {
						t.Error("a changed token is good")
					}
				}
			}
			if _, found := newJWT(t, c, method, "", second(pair(t, method))).Find(text); found {
				t.Error("another key takes the token")
			}
			c.pass(time.Minute)
			for _, v := range checkers {
				if _, found := v.Find(text); found {
					t.Error("the token is good after its end")
				}
			}
		})
	}
}

func second(_, b string) string { return b }

// TestJWTRefused: what is not a token of ours is refused, whatever it says of itself.
func TestJWTRefused(t *testing.T) {
	c := newClock()
	_, private := pair(t, "RS256")
	j := newJWT(t, c, "RS256", "", private)
	content, err := os.ReadFile(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM(content)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	all := jwt.MapClaims{"username": "alice", "revision": 7, "exp": c.at.Add(time.Minute).Unix()}
	with := func(name string, value any) jwt.MapClaims {
		m := jwt.MapClaims{}
		for k, v := range all {
			m[k] = v
		}
		if m[name] = value; value == nil {
			delete(m, name)
		}
		return m
	}
	for _, test := range []struct {
		name   string
		method jwt.SigningMethod
		key    any
		claims jwt.MapClaims
		good   bool
	}{
		{"as it should be", jwt.SigningMethodRS256, key, all, true},
		{"no end", jwt.SigningMethodRS256, key, with("exp", nil), true},
		{"other method, same key", jwt.SigningMethodRS512, key, all, false},
		{"not signed", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, all, false},
		{"the public key as secret", jwt.SigningMethodHS256, public, all, false},
		{"over", jwt.SigningMethodRS256, key, with("exp", c.at.Add(-time.Second).Unix()), false},
		{"not yet", jwt.SigningMethodRS256, key, with("nbf", c.at.Add(time.Second).Unix()), false},
		{"no user", jwt.SigningMethodRS256, key, with("username", nil), false},
		{"user of another kind", jwt.SigningMethodRS256, key, with("username", 7), false},
		{"no revision", jwt.SigningMethodRS256, key, with("revision", nil), false},
		{"revision of another kind", jwt.SigningMethodRS256, key, with("revision", "7"), false},
		{"negative revision", jwt.SigningMethodRS256, key, with("revision", -7), false},
	} {
		text, err := jwt.NewWithClaims(test.method, test.claims).SignedString(test.key)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if h, found := j.Find(text); found != test.good {
				t.Errorf("%s: %v %v", test.name, h, found)
			}
		}
	}
	for _, text := range []string{"", "x", "a.b.c", strings.Repeat("x", 1<<20)} {
		if _, found := j.Find(text); found {
			t.Errorf("%.10q is good", text)
		}
	}
}

// TestJWTKeysFollowFiles: keys change while tokens are in use; a pair that does not fit, or a broken file, changes nothing.
func TestJWTKeysFollowFiles(t *testing.T) {
	c := newClock()
	var lines bytes.Buffer
	public, private := pair(t, "ES256")
	j := newJWT(t, c, "ES256", public, private)
	j.cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	old := sign(t, j, "alice", 7)
	good := func(text string, want bool) {
		t.Helper()
		c.pass(keyCheck)
		if _, found := j.Find(text); found != want {
			t.Errorf("good is %v, want %v\n%s", found, want, &lines)
		}
	}
	good(old, true)
	newPublic, newPrivate := pair(t, "ES256")
	content := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write(t, public, content(newPublic)) // and the private key a moment later
	good(old, true)
	if !strings.Contains(lines.String(), "does not belong to") {
		t.Errorf("nothing was said: %s", &lines)
	}
	write(t, private, []byte("-----BEGIN PRIVATE KEY-----\nsecret\n"))
	good(old, true)
	if err := os.Remove(private); err != nil {
		t.Fatal(err)
	}
	good(old, true)
	write(t, private, content(newPrivate))
	good(old, false)
	young := sign(t, j, "alice", 8)
	good(young, true)
	if strings.Contains(lines.String(), "secret") {
		t.Errorf("a key stands in the log: %s", &lines)
	}
	lines.Reset()
	good(young, true)
	if lines.Len() > 0 {
		t.Errorf("said for nothing: %s", &lines)
	}
}

// secretJWT signs with a secret of its own.
func secretJWT(t testing.TB, c *clock) *JWT {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(rand.Text()), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := NewJWT(JWTConfig{
		JWTOptions: JWTOptions{Method: "HS256", PrivateKey: key, TTL: time.Hour}, Log: slog.New(slog.DiscardHandler), Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestKnownTokensAreFew: memory does not follow the tokens that clients show.
func TestKnownTokensAreFew(t *testing.T) {
	var k known
	for i := range 3 * knownMax {
		k.add(strings.Repeat("x", i%100)+string(rune(i)), Holder{}, 2, 1)
	}
	k.add(strings.Repeat("x", knownBytesMax+1), Holder{}, 2, 1)
	k.add("over", Holder{}, 1, 1)
	if n := len(k.young) + len(k.old); n > 2*knownMax {
		t.Errorf("%d", n)
	}
	for text := range k.young {
		if len(text) > knownBytesMax || text == "over" {
			t.Errorf("%.20q is kept", text)
		}
	}
}

// TestParseOptions: every form of --auth-token.
func TestParseOptions(t *testing.T) {
	for _, test := range []struct {
		text string
		want Options
		err  string
	}{
		{"simple", Options{Kind: KindSimple}, ""},
		{"", Options{}, ""},
		{"simple,ttl=5m", Options{Kind: KindSimple, Unknown: []string{"ttl"}}, ""},
		{"jwt,sign-method=RS256,pub-key=a.pub,priv-key=a,ttl=10m",
			Options{Kind: KindJWT, JWT: JWTOptions{"RS256", "a.pub", "a", 10 * time.Minute}}, ""},
		{"jwt,sign-method=EdDSA,priv-key=a,ttl=,foo=bar",
			Options{Kind: KindJWT, JWT: JWTOptions{"EdDSA", "", "a", JWTTTLDefault}, Unknown: []string{"foo"}}, ""},
		{"jwt", Options{}, "sign-method"},
		{"jwt,sign-method=none", Options{}, "sign-method"},
		{"jwt,sign-method=RS256,sign-method=RS256", Options{}, "twice"},
		{"jwt,sign-method", Options{}, "not name=value"},
		{"jwt,sign-method=a=b", Options{}, "not name=value"},
		{"jwt,", Options{}, "not name=value"},
		{"jwt,sign-method=RS256,ttl=soon", Options{}, "no duration"},
		{"Simple", Options{}, "no kind of token"},
		{"paseto", Options{}, "no kind of token"},
	} {
		got, err := ParseOptions(test.text)
		if test.err != "" {
			if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", test.text, err)
			}
			continue
		}
		if test.want.JWT == (JWTOptions{}) {
			test.want.JWT.TTL = JWTTTLDefault
		}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v", test.text, got, err)
		}
	}
}

// TestUnusableKeys: what is wrong with key files is said by name, without their content.
func TestUnusableKeys(t *testing.T) {
	rsaPublic, rsaPrivate := pair(t, "RS256")
	otherPublic, _ := pair(t, "RS256")
	ecPublic, ecPrivate := pair(t, "ES256")
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, nil)
	for _, test := range []struct{ method, public, private, want string }{
		{"RS256", "", "", "RS256 needs priv-key or pub-key"},
		{"HS256", rsaPublic, "", "HS256 needs priv-key"},
		{"HS256", "", empty, "HS256 needs priv-key"},
		{"RS256", otherPublic, rsaPrivate, otherPublic + " does not belong to " + rsaPrivate},
		{"RS256", "", ecPrivate, ecPrivate + " is no private key for RS256"},
		{"RS256", ecPublic, "", ecPublic + " is no public key for RS256"},
		{"ES256", "", rsaPrivate, rsaPrivate + " is no private key for ES256"},
		{"EdDSA", rsaPublic, "", rsaPublic + " is no public key for EdDSA"},
		{"RS256", "/nowhere/key", "", "/nowhere/key"},
	} {
		_, err := NewJWT(JWTConfig{JWTOptions: JWTOptions{Method: test.method, PublicKey: test.public, PrivateKey: test.private}, Log: slog.Default()})
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v", test, err)
		}
	}
	if _, err := NewJWT(JWTConfig{JWTOptions: JWTOptions{Method: "none"}, Log: slog.Default()}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}
