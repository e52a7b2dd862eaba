package ctl

import (
	"context"
	"net"
	"strings"
	"testing"
)

// TestOneNameOutlivesAMember: an endpoint that is one name for three addresses is connected to as long as one of them takes
// connections, and connections go around.
func TestOneNameOutlivesAMember(t *testing.T) {
	listeners := map[string]net.Listener{}
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(first.Addr().String())
	addresses := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}
	listeners[addresses[0]] = first
	for _, a := range addresses[1:] {
		if listeners[a], err = net.Listen("tcp", net.JoinHostPort(a, port)); err != nil {
			t.Skipf("the port is taken on another loopback address: %v", err)
		}
	}
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	env := world()
	env.Environ = nil
	env.LookupHost = func(_ context.Context, host string) ([]string, error) {
		if host != "etcd.example" {
			t.Errorf("asks for %q", host)
		}
		return addresses, nil
	}
	dial := (&tool{env: env}).nameDialer([]string{"http://etcd.example:" + port})
	reach := func() (reached []string) {
		for range 4 {
			conn, err := dial(t.Context(), "etcd.example:"+port)
			if err != nil {
				t.Fatal(err)
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			reached = append(reached, host)
			conn.Close()
		}
		return reached
	}
	check := func(want string) {
		t.Helper()
		if got := strings.Join(reach(), " "); got != want {
			t.Errorf("connected to %s, want %s", got, want)
		}
	}
	check("127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.1")
	listeners["127.0.0.2"].Close()
	check("127.0.0.3 127.0.0.1 127.0.0.3 127.0.0.1")
	listeners["127.0.0.1"].Close()
	check("127.0.0.3 127.0.0.3 127.0.0.3 127.0.0.3")
	listeners["127.0.0.3"].Close()
	if conn, err := dial(t.Context(), "etcd.example:"+port); err == nil {
		conn.Close()
		t.Error("connected to nobody")
	}
	for _, eps := range [][]string{{"127.0.0.1:2379"}, {"[::1]:2379"}, {"unix:/run/x"}} {
		if (&tool{env: env}).nameDialer(eps) != nil {
			t.Errorf("dials %v itself, which is no name", eps)
		}
	}
}
