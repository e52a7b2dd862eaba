// Package urllist reads the lists of URLs that flags and requests give members.
//
//	Source  etcd 3.7 for what is accepted
package urllist

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Parse reads URLs as etcd does: scheme http, https, unix or unixs, the first two with host and port and without a path.
// The result is sorted.
func Parse(texts []string) ([]url.URL, error) {
	if len(texts) == 0 {
		return nil, errors.New("no valid URLs given")
	}
	urls := make([]url.URL, 0, len(texts))
	for _, text := range texts {
		u, err := parse(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		urls = append(urls, *u)
	}
	slices.SortFunc(urls, Compare)
	return urls, nil
}

// Texts are the URLs as text, in their order.
func Texts(urls []url.URL) []string {
	texts := make([]string, len(urls))
	for i := range urls {
		texts[i] = urls[i].String()
	}
	return texts
}

// Compare orders URLs by their text.
func Compare(a, b url.URL) int { return cmp.Compare(a.String(), b.String()) }

func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "unix", "unixs":
		return u, nil
	case "http", "https":
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			return nil, fmt.Errorf(`URL address does not have the form "host:port": %s`, text)
		}
		if u.Path != "" {
			return nil, fmt.Errorf("URL must not contain a path: %s", text)
		}
		return u, nil
	}
	return nil, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", text)
}
