package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrExists says that a file is there that would have to be written over.
var ErrExists = errors.New("is there already, and a key that is written over is lost: move it away, or choose another --name or --dir")

// Paths are where a certificate and its key of that name belong.
func Paths(dir, name string) (cert, key string) {
	return filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
}

// Write puts certificate and key into files of their own, which must not be there. The key comes first: a certificate says that
// both are whole. After an error neither is left behind.
func (m *Made) Write(dir, name string) (certFile, keyFile string, err error) {
	secret, err := x509.MarshalPKCS8PrivateKey(m.Key)
	if err != nil {
		return "", "", fmt.Errorf("encode the key: %w", err)
	}
	certFile, keyFile = Paths(dir, name)
	for _, path := range []string{certFile, keyFile} {
		if _, err := os.Lstat(path); err == nil {
			return "", "", fmt.Errorf("%s %w", path, ErrExists)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("make a directory for certificates: %w", err)
	}
	if err := writeNew(keyFile, 0o600, "PRIVATE KEY", secret); err != nil {
		return "", "", err
	}
	if err := writeNew(certFile, 0o644, "CERTIFICATE", m.Cert.Raw); err != nil {
		return "", "", errors.Join(err, os.Remove(keyFile))
	}
	return certFile, keyFile, nil
}

// writeNew writes a file that must not be there, whatever happens meanwhile, and makes it durable.
func writeNew(path string, mode os.FileMode, kind string, der []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s %w", path, ErrExists)
	}
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
	}
	return nil
}
