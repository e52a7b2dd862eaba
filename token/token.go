// Package token keeps what clients show instead of a password: Authenticate gives a token out, calls bring it along.
//
// A simple token is 16 letters, a dot and the raft index at which it was given. Every member holds it in memory, so a
// restart forgets it and the client authenticates again. A JWT is signed, held by nobody, and good at every member that
// has the public key.
//
//	Errors   ErrOptions, ErrKey, ErrVerifyOnly, ErrPrefix
//	Source   etcd 3.7, --auth-token; RFC 7519 for JWT
//
// No token and no key stands in an error or a log line of this package; Fingerprint names a token there.
package token

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

var (
	// ErrOptions is a --auth-token that cannot be understood.
	ErrOptions = errors.New("auth: invalid auth options")
	// ErrKey is a key file that is missing, unreadable, or does not fit the signature method or the other key.
	ErrKey = errors.New("auth: unusable key")
	// ErrVerifyOnly answers who wants a token of a member that has no private key.
	ErrVerifyOnly = errors.New("auth: token signing attempted with verify-only key")
	// ErrPrefix is a prefix that Prefix would not draw.
	ErrPrefix = errors.New("auth: failed to assign")
)

// Holder is whom a token names.
type Holder struct {
	User string
	// Revision is that of the users and roles when the token was signed; 0 where the token does not say: it holds whatever
	// they are now.
	Revision uint64
}

// Fingerprint names a token in a log line without giving it away.
func Fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:12]
}
