package discovery

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Endpoint is a place where clients reach a cluster.
type Endpoint struct {
	Scheme string // "http" or "https"
	Host   string // name or address
	Port   uint16
	// Priority and Weight say who is to be asked, as in RFC 2782: those with the lowest priority that can be reached, each in
	// proportion to its weight.
	Priority, Weight uint16
}

// Address is host and port.
func (e Endpoint) Address() string {
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// URL is what a client is given.
func (e Endpoint) URL() string { return e.Scheme + "://" + e.Address() }

// Clients are the endpoints that the domain lists for clients, the secure ones first.
func (s SRV) Clients(ctx context.Context) (found []Endpoint, err error) {
	var errs []string
	for _, scheme := range []string{"https", "http"} {
		_, records, err := s.resolver().LookupSRV(ctx, s.service(clients, scheme), "tcp", s.Domain)
		if err != nil {
			errs = append(errs, err.Error())
			continue
		}
		for _, r := range records {
			found = append(found, Endpoint{
				Scheme: scheme, Host: strings.TrimSuffix(r.Target, "."), Port: r.Port, Priority: r.Priority, Weight: r.Weight,
			})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no endpoints for clients in DNS: %s", strings.Join(errs, " and "))
	}
	return found, nil
}
