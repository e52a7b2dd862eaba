package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"holdfast/util/urllist"
)

// Resolver finds the address of a host and port. It retries as long as its context allows: at the first start of a cluster
// names may appear late.
type Resolver func(ctx context.Context, hostPort string) (string, error)

// CheckBootstrap is what must hold before a member without data begins a new cluster: it is in --initial-cluster, under the
// URLs it advertises. URLs that differ as text are compared by what they resolve to.
func (c Config) CheckBootstrap(ctx context.Context, resolve Resolver) error {
	members, err := c.InitialMembers()
	if err != nil {
		return err
	}
	if err := c.checkLocal(members); err != nil {
		return err
	}
	if err := c.checkAdvertised(ctx, resolve, members[c.Name]); err != nil {
		return err
	}
	return checkDuplicates(members)
}

// CheckJoin is what must hold before a member without data joins a cluster that exists.
func (c Config) CheckJoin() error {
	members, err := c.InitialMembers()
	if err != nil {
		return err
	}
	if err := c.checkLocal(members); err != nil {
		return err
	}
	if err := checkDuplicates(members); err != nil {
		return err
	}
	if len(c.Discovery.Endpoints) > 0 {
		return errors.New("discovery URL should not be set when joining existing initial cluster")
	}
	return nil
}

// CheckDiscovered is what must hold of the cluster that a discovery service has told, once it stands in InitialCluster: every
// URL is there once, and this member's name is its own.
func (c Config) CheckDiscovered() error {
	members, err := c.InitialMembers()
	if err != nil {
		return err
	}
	if err := checkDuplicates(members); err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	if !slices.Equal(urllist.Texts(members[c.Name]), urllist.Texts(c.AdvertisePeerURLs)) {
		return fmt.Errorf("discovery cluster %s has another member with the name %q of this one: give each member its own --name, and use a new token", membersText(members), c.Name)
	}
	return nil
}

func (c Config) checkLocal(members map[string][]url.URL) error {
	if members[c.Name] == nil {
		return fmt.Errorf("couldn't find local name %q in the initial cluster configuration", c.Name)
	}
	return nil
}

func checkDuplicates(members map[string][]url.URL) error {
	seen := map[string]bool{}
	for _, urls := range members {
		for _, text := range urllist.Texts(urls) {
			if seen[text] {
				return fmt.Errorf("initial cluster %s has duplicate url", membersText(members))
			}
			seen[text] = true
		}
	}
	return nil
}

func (c Config) checkAdvertised(ctx context.Context, resolve Resolver, listed []url.URL) error {
	err := sameURLs(ctx, resolve, c.AdvertisePeerURLs, listed)
	if err == nil {
		return nil
	}
	advertised, texts := urllist.Texts(c.AdvertisePeerURLs), urllist.Texts(listed)
	own := membersText(map[string][]url.URL{c.Name: c.AdvertisePeerURLs})
	if missing := without(texts, advertised); len(missing) > 0 {
		for i := range missing {
			missing[i] = c.Name + "=" + missing[i]
		}
		return fmt.Errorf("--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s (%w)",
			strings.Join(missing, ","), strings.Join(advertised, ","), err)
	}
	if missing := without(advertised, texts); len(missing) > 0 {
		return fmt.Errorf("--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s", strings.Join(missing, ","), own)
	}
	return fmt.Errorf("failed to resolve %s to match --initial-cluster=%s (%w)", strings.Join(advertised, ","), own, err)
}

// without are the texts of a that b does not have.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// SameURLs compares peer URLs, by what they resolve to where they differ as text, and says why they are not the same.
func SameURLs(ctx context.Context, resolve Resolver, a, b []string) error {
	left, err := urllist.Parse(a)
	if err != nil {
		return err
	}
	right, err := urllist.Parse(b)
	if err != nil {
		return err
	}
	return sameURLs(ctx, resolve, left, right)
}

func sameURLs(ctx context.Context, resolve Resolver, a, b []url.URL) error {
	if len(a) != len(b) {
		return fmt.Errorf("len(%q) != len(%q)", urllist.Texts(a), urllist.Texts(b))
	}
	if slices.EqualFunc(a, b, sameURL) {
		return nil
	}
	a, err := resolved(ctx, resolve, a)
	if err != nil {
		return err
	}
	if b, err = resolved(ctx, resolve, b); err != nil {
		return err
	}
	for i := range a {
		if !sameURL(a[i], b[i]) {
			return fmt.Errorf("resolved urls: %q != %q", a[i].String(), b[i].String())
		}
	}
	return nil
}

// sameURL compares hosts as addresses where they are, so that the spelling of an IPv6 address does not matter.
func sameURL(a, b url.URL) bool {
	return a.Scheme == b.Scheme && a.Path == b.Path && canonicalHost(a.Host) == canonicalHost(b.Host)
}

func canonicalHost(hostPort string) string {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return hostPort
	}
	if ip := net.ParseIP(host); ip != nil {
		host = ip.String()
	}
	return net.JoinHostPort(host, port)
}

func resolved(ctx context.Context, resolve Resolver, urls []url.URL) ([]url.URL, error) {
	result := slices.Clone(urls)
	for i, u := range result {
		host, _, err := net.SplitHostPort(u.Host)
		if isUnix(u) || host == "localhost" {
			continue
		}
		if err == nil {
			result[i].Host, err = resolve(ctx, u.Host)
		}
		if err != nil {
			return nil, fmt.Errorf("failed to resolve %q (%w)", u.String(), err)
		}
	}
	slices.SortFunc(result, urllist.Compare)
	return result, nil
}

// advertise puts host in place of an advertised default when the URL listened on is 0.0.0.0, which no client can reach. It
// keeps the listening port and reports whether it did anything.
func advertise(host string, listen, advertised []url.URL, untouched string) bool {
	if host == "" || len(listen) == 0 || len(advertised) != 1 || advertised[0].String() != untouched {
		return false
	}
	if listen[0].Hostname() != "0.0.0.0" {
		return false
	}
	advertised[0].Host = net.JoinHostPort(host, listen[0].Port())
	return true
}
