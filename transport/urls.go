package transport

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// hex writes an id as etcd does everywhere on the wire and in its logs.
func hex(id uint64) string { return strconv.FormatUint(id, 16) }

func parseID(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }

// parseURLs returns the usable ones of a member's peer URLs. etcd lets a member's URLs be changed to anything, so one
// that is not usable is left out with a warning instead of stopping this member.
func parseURLs(texts []string, log *slog.Logger) []url.URL {
	var urls []url.URL
	for _, text := range slices.Sorted(slices.Values(texts)) {
		u, err := parseURL(strings.TrimSpace(text))
		if err != nil {
			log.Warn("ignored a peer URL", "url", text, "error", err)
			continue
		}
		urls = append(urls, *u)
	}
	return urls
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("URL scheme must be http or https: %s", text)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return nil, fmt.Errorf(`URL address does not have the form "host:port": %s`, text)
	}
	if u.Path != "" {
		return nil, fmt.Errorf("URL must not contain a path: %s", text)
	}
	return u, nil
}

var errNoURL = errors.New("the peer has no usable URL")

// picker chooses among a peer's URLs: the one that last worked, until it fails.
type picker struct {
	mu      sync.Mutex // guards the fields below
	urls    []url.URL
	current int
}

func (p *picker) set(urls []url.URL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.urls, p.current = urls, 0
}

// pick returns the URL to use now, with path.
func (p *picker) pick(path string) (url.URL, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.urls) == 0 {
		return url.URL{}, errNoURL
	}
	u := p.urls[p.current]
	u.Path = path
	return u, nil
}

// failed says that u, as pick returned it, did not work. If it is still the one in use, the next one is.
func (p *picker) failed(u url.URL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.urls) > 0 && u.Scheme == p.urls[p.current].Scheme && u.Host == p.urls[p.current].Host {
		p.current = (p.current + 1) % len(p.urls)
	}
}

// hosts returns the address of each URL.
func (p *picker) hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	hosts := make([]string, len(p.urls))
	for i, u := range p.urls {
		hosts[i] = u.Host
	}
	return hosts
}
