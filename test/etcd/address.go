package etcd

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are drawn below the range from which the system gives ports to clients (32768 on Linux): a server that was killed
// finds its port free when it comes back, unless another test happens to draw the same.
const (
	portMin, portMax = 10000, 32000
	portTries        = 100
)

// FreeAddresses returns n loopback addresses nobody listens on at the moment.
func FreeAddresses(n int) ([]string, error) {
	var addrs []string
	for try := 0; len(addrs) < n; try++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", portMin+rand.IntN(portMax-portMin)))
		if err != nil {
			if try == portTries {
				return nil, err
			}
			continue
		}
		defer l.Close() // all at the end, so that no port is handed out twice
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// FreeAddress is a loopback address nobody listens on at the moment.
func FreeAddress(t Test) string {
	t.Helper()
	addrs, err := FreeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

// FreeURL is that of such an address.
func FreeURL(t Test) string {
	t.Helper()
	return "http://" + FreeAddress(t)
}
