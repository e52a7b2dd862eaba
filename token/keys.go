package token

import (
	"crypto"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// keys are what JWT are signed and verified with. sign is nil where there is no private key.
type keys struct{ sign, verify any }

// keyFile is a key file as it was read, or as it could not be.
type keyFile struct {
	name    string
	info    os.FileInfo
	content []byte
}

func readKeyFile(name string) (f keyFile, err error) {
	if name == "" {
		return keyFile{}, nil
	}
	f.name = name
	if f.info, err = os.Stat(name); err != nil {
		return f, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if f.content, err = os.ReadFile(name); err != nil {
		return f, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return f, nil
}

// changed tells whether the file is another one by now, or has been written to.
func (f keyFile) changed() bool {
	if f.name == "" {
		return false
	}
	now, err := os.Stat(f.name)
	if err != nil || f.info == nil {
		return err == nil
	}
	return !os.SameFile(f.info, now) || now.Size() != f.info.Size() || !now.ModTime().Equal(f.info.ModTime())
}

// keysOf makes keys for a method out of the contents of two files; an empty one was not given.
func keysOf(method string, public, private keyFile) (keys, error) {
	switch jwt.GetSigningMethod(method).(type) {
	case *jwt.SigningMethodHMAC:
		if len(private.content) == 0 {
			return keys{}, fmt.Errorf("%w: %s needs priv-key", ErrKey, method)
		}
		return keys{private.content, private.content}, nil
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		return pairOf(method, public, private, jwt.ParseRSAPublicKeyFromPEM, jwt.ParseRSAPrivateKeyFromPEM)
	case *jwt.SigningMethodECDSA:
		return pairOf(method, public, private, jwt.ParseECPublicKeyFromPEM, jwt.ParseECPrivateKeyFromPEM)
	case *jwt.SigningMethodEd25519:
		return pairOf(method, public, private, jwt.ParseEdPublicKeyFromPEM, jwt.ParseEdPrivateKeyFromPEM)
	}
	return keys{}, fmt.Errorf("%w: sign-method=%s", ErrOptions, method)
}

// pairOf reads the keys of a method that has two. A private key has its public one with it; if both are given they fit.
func pairOf[Pub crypto.PublicKey, Priv crypto.PrivateKey](method string, public, private keyFile,
	parsePublic func([]byte) (Pub, error), parsePrivate func([]byte) (Priv, error),
) (k keys, err error) {
	if len(private.content) > 0 {
		if k.sign, err = parsePrivate(private.content); err != nil {
			return keys{}, fmt.Errorf("%w: %s is no private key for %s", ErrKey, private.name, method)
		}
		k.verify = k.sign.(crypto.Signer).Public()
	}
	if len(public.content) > 0 {
		given, err := parsePublic(public.content)
		if err != nil {
			return keys{}, fmt.Errorf("%w: %s is no public key for %s", ErrKey, public.name, method)
		}
		if k.verify != nil && !k.verify.(interface{ Equal(crypto.PublicKey) bool }).Equal(given) {
			return keys{}, fmt.Errorf("%w: %s does not belong to %s", ErrKey, public.name, private.name)
		}
		k.verify = given
	}
	if k.verify == nil {
		return keys{}, fmt.Errorf("%w: %s needs priv-key or pub-key", ErrKey, method)
	}
	return k, nil
}

// keyCheck is how often it is looked whether the key files have changed, while tokens are used.
const keyCheck = time.Second
