package run

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/test/etcd"
)

// Beside is what to start before a cluster: "gateway" or "grpc-proxy" of a program.
type Beside struct {
	Prefix  []string // stands before the command
	Program string   // path; it is started by the name etcd
	Kind    string
	Flags   []string // beside --listen-addr
}

// Start starts it, returns where it listens once it does, and ends it with the test.
func (b Beside) Start(t testing.TB) (address string) {
	t.Helper()
	dir := t.TempDir()
	link := filepath.Join(dir, "etcd")
	if err := os.Symlink(b.Program, link); err != nil {
		t.Fatal(err)
	}
	address = etcd.FreeAddress(t)
	argv := append(append([]string{}, b.Prefix...), link, b.Kind, "start", "--listen-addr", address)
	if b.Kind == "grpc-proxy" {
		argv = append(argv, "--advertise-client-url", address, "--data-dir", dir)
	}
	p := &Process{Log: filepath.Join(dir, "log")}
	if err := p.Exec(append(argv, b.Flags...), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last words of %s:\n%s", b.Kind, p.LogTail(15))
		}
		p.Kill()
	})
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return address
		}
		select {
		case <-p.Ended():
			t.Fatalf("%s ended", b.Kind)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", b.Kind, err)
		}
	}
}
