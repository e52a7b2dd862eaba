package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// DefaultHost is the address by which other machines most likely reach this one: the first IPv4 address of the interface
// that has the default route. It is for Sources.DefaultHost; nothing else in this package looks at the machine.
func DefaultHost() (string, error) {
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return "", fmt.Errorf("could not find default route: %w", err)
	}
	name, err := defaultInterface(string(routes))
	if err != nil {
		return "", err
	}
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("find interface %s: %w", name, err)
	}
	addrs, err := iface.Addrs()
	if err != nil {
		return "", fmt.Errorf("read addresses of interface %s: %w", name, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "", fmt.Errorf("interface %s of the default route has no IPv4 address", name)
}

// defaultInterface reads the kernel's table of routes: a line each with the interface first, then destination, gateway,
// flags, two counters, metric and mask, numbers in hexadecimal but the metric. Of several default routes the lowest metric wins.
func defaultInterface(routes string) (string, error) {
	const (
		destination = 1
		metric      = 6
		mask        = 7
		none        = "00000000"
	)
	best, found := 0, ""
	for _, line := range strings.Split(routes, "\n") {
		f := strings.Fields(line)
		if len(f) <= mask || f[destination] != none || f[mask] != none {
			continue
		}
		m, err := strconv.Atoi(f[metric])
		if err == nil && (found == "" || m < best) {
			best, found = m, f[0]
		}
	}
	if found == "" {
		return "", errors.New("could not find default route")
	}
	return found, nil
}
