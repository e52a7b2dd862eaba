package token

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Kind is how tokens are made.
type Kind string

// The kinds of --auth-token. Without any, nobody gets a token, and a certificate alone says who a client is.
const (
	KindNone   Kind = ""
	KindSimple Kind = "simple"
	KindJWT    Kind = "jwt"
)

// Options are what --auth-token says.
type Options struct {
	Kind Kind
	JWT  JWTOptions
	// Unknown are the names of options that mean nothing.
	Unknown []string
}

// JWTOptions say how JWT are signed. Without PrivateKey, members verify only.
type JWTOptions struct {
	Method                string // RS, PS, ES or HS, with 256, 384 or 512; EdDSA
	PublicKey, PrivateKey string // files; HS uses PrivateKey alone, as it is
	TTL                   time.Duration
}

// JWTTTLDefault is etcd's life of a JWT.
const JWTTTLDefault = 5 * time.Minute

// ParseOptions reads --auth-token: a kind, and name=value behind commas.
func ParseOptions(text string) (Options, error) {
	kind, rest, more := strings.Cut(text, ",")
	o := Options{Kind: Kind(kind), JWT: JWTOptions{TTL: JWTTTLDefault}}
	if !slices.Contains([]Kind{KindNone, KindSimple, KindJWT}, o.Kind) {
		return Options{}, fmt.Errorf("%w: %q is no kind of token: there are simple and jwt", ErrOptions, kind)
	}
	given := map[string]bool{}
	for more {
		var option string
		option, rest, more = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(option, "=")
		if !ok || strings.Contains(value, "=") {
			return Options{}, fmt.Errorf("%w: %q is not name=value", ErrOptions, option)
		}
		if given[name] {
			return Options{}, fmt.Errorf("%w: %s is given twice", ErrOptions, name)
		}
		given[name] = true
		if err := o.set(name, value); err != nil {
			return Options{}, err
		}
	}
	if o.Kind == KindJWT && !isMethod(o.JWT.Method) {
		return Options{}, fmt.Errorf("%w: sign-method=%s: it is one of RS, PS, ES or HS with 256, 384 or 512, or EdDSA", ErrOptions, o.JWT.Method)
	}
	return o, nil
}

func (o *Options) set(name, value string) (err error) {
	switch {
	case o.Kind != KindJWT:
		o.Unknown = append(o.Unknown, name)
	case name == "sign-method":
		o.JWT.Method = value
	case name == "pub-key":
		o.JWT.PublicKey = value
	case name == "priv-key":
		o.JWT.PrivateKey = value
	case name == "ttl":
		if value == "" {
			break
		}
		if o.JWT.TTL, err = time.ParseDuration(value); err != nil {
			return fmt.Errorf("%w: ttl=%s is no duration like 5m", ErrOptions, value)
		}
	default:
		o.Unknown = append(o.Unknown, name)
	}
	return nil
}

func isMethod(name string) bool {
	switch jwt.GetSigningMethod(name).(type) {
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS, *jwt.SigningMethodECDSA, *jwt.SigningMethodEd25519, *jwt.SigningMethodHMAC:
		return true
	}
	return false
}
