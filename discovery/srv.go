package discovery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SRV names the members of a cluster by SRV records of a DNS domain.
type SRV struct {
	Domain   string
	Name     string        // distinguishes clusters of one domain; may be empty
	Resolver *net.Resolver // nil: the system's
	Log      *slog.Logger  // required
}

// resolveTimeout bounds the look-up of the names in records. It matters only to a member that advertises another name than
// its record has.
const resolveTimeout = 10 * time.Second

// record is one address that the domain names.
type record struct {
	scheme, hostPort string
}

func (r record) url() string { return r.scheme + "://" + r.hostPort }

// InitialCluster is what the domain says, with this member's record under its own name and the others under numbers. A
// record belongs to this member if it has the same host and port as one of its advertised URLs, or resolves to the same.
//
// Unlike in etcd a record whose name does not resolve is a member like the others: left out, it would make this
// member found another cluster than those who can resolve it.
func (s SRV) InitialCluster(ctx context.Context, member string, advertised []url.URL) (string, error) {
	records, err := s.records(ctx, advertised)
	if err != nil {
		return "", err
	}
	own := s.own(ctx, records, advertised)
	var pairs []string
	for i, r := range records {
		name := strconv.Itoa(i)
		if at := own[r.hostPort]; at != nil {
			if name = member; at.Scheme != r.scheme {
				return "", fmt.Errorf("bootstrap at %s from DNS for %s has scheme mismatch with expected peer %s", r.url(), s.service(members, r.scheme), at)
			}
		}
		pairs = append(pairs, name+"="+r.url())
		s.Log.Info("got bootstrap from DNS for etcd-server", "node", pairs[i])
	}
	if len(own) == 0 {
		return "", fmt.Errorf("cannot find local etcd member %q in SRV records: %s has %s, and none is where --initial-advertise-peer-urls points to",
			member, s.Domain, strings.Join(pairs, ","))
	}
	return strings.Join(pairs, ","), nil
}

// records are those of both services, each host and port once: an address that both name is taken as this member's own URLs
// are. They are in order, so that all members number them alike.
func (s SRV) records(ctx context.Context, advertised []url.URL) ([]record, error) {
	schemes := []string{"https", "http"}
	if len(advertised) > 0 && advertised[0].Scheme == "http" {
		schemes = []string{"http", "https"}
	}
	found := map[string]record{}
	var errs []string
	for _, scheme := range schemes {
		_, records, err := s.resolver().LookupSRV(ctx, s.service(members, scheme), "tcp", s.Domain)
		if err != nil {
			s.Log.Info("no SRV records", "service-name", s.service(members, scheme), "discovery-srv", s.Domain, "error", err)
			errs = append(errs, fmt.Sprintf("error querying DNS SRV records for _%s %v", s.service(members, scheme), err))
			continue
		}
		for _, r := range records {
			hostPort := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))
			if _, have := found[hostPort]; !have {
				found[hostPort] = record{scheme, hostPort}
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("failed to resolve during SRV discovery: %s", strings.Join(errs, "; "))
	}
	records := make([]record, 0, len(found))
	for _, r := range found {
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b record) int { return cmp.Compare(a.hostPort, b.hostPort) })
	return records, nil
}

func (s SRV) resolver() *net.Resolver {
	if s.Resolver == nil {
		return net.DefaultResolver
	}
	return s.Resolver
}

// What is listed in DNS: where members reach each other, and where clients reach them.
const (
	members = "etcd-server"
	clients = "etcd-client"
)

// service is the name of the service that lists URLs of a scheme.
func (s SRV) service(name, scheme string) string {
	if scheme == "https" {
		name += "-ssl"
	}
	if s.Name != "" {
		name += "-" + s.Name
	}
	return name
}

// own are the records of this member, by host and port, with the URL that each matches. Names are resolved only if no record
// has the name that is advertised, and all at once.
func (s SRV) own(ctx context.Context, records []record, advertised []url.URL) map[string]*url.URL {
	own := map[string]*url.URL{}
	for i := range advertised {
		for _, r := range records {
			if strings.EqualFold(r.hostPort, advertised[i].Host) {
				own[r.hostPort] = &advertised[i]
			}
		}
	}
	if len(own) > 0 {
		return own
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	names := make([]string, 0, len(records)+len(advertised))
	for _, r := range records {
		names = append(names, r.hostPort)
	}
	for _, u := range advertised {
		names = append(names, u.Host)
	}
	addresses := s.resolve(ctx, names)
	for i := range advertised {
		mine := addresses[len(records)+i]
		for j, r := range records {
			if slices.ContainsFunc(addresses[j], func(a string) bool { return slices.Contains(mine, a) }) {
				own[r.hostPort] = &advertised[i]
			}
		}
	}
	return own
}

// resolve finds the addresses, with port, of names with port; none for those that do not resolve.
func (s SRV) resolve(ctx context.Context, names []string) [][]string {
	addresses := make([][]string, len(names))
	var lookups sync.WaitGroup
	for i, name := range names {
		lookups.Go(func() {
			host, port, err := net.SplitHostPort(name)
			var hosts []string
			if err == nil {
				hosts, err = s.resolver().LookupHost(ctx, host)
			}
			if err != nil {
				s.Log.Warn("failed to resolve URL Host", "host", name, "error", err)
				return
			}
			for _, h := range hosts {
				addresses[i] = append(addresses[i], net.JoinHostPort(h, port))
			}
		})
	}
	lookups.Wait()
	return addresses
}
