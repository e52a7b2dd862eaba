package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"holdfast/util/urllist"
)

func mustURLs(text string) []url.URL {
	urls, err := urllist.Parse([]string{text})
	if err != nil {
		panic(fmt.Sprintf("config: default %q is no URL: %v", text, err))
	}
	return urls
}

// InitialMembers is --initial-cluster by member name; a name given several times has several URLs.
func (c Config) InitialMembers() (map[string][]url.URL, error) {
	texts := map[string][]string{}
	for _, pair := range strings.Split(c.InitialCluster, ",") {
		if pair == "" {
			continue
		}
		name, text, _ := strings.Cut(pair, "=")
		texts[name] = append(texts[name], text)
	}
	members := make(map[string][]url.URL, len(texts))
	for name, list := range texts {
		urls, err := urllist.Parse(list)
		if err != nil {
			return nil, fmt.Errorf("error setting up initial cluster: %w", err)
		}
		members[name] = urls
	}
	return members, nil
}

// membersText is InitialMembers as text, sorted, in the flag's form.
func membersText(members map[string][]url.URL) string {
	var pairs []string
	for name, urls := range members {
		for _, text := range urllist.Texts(urls) {
			pairs = append(pairs, name+"="+text)
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// OwnCluster is what --initial-cluster is for a cluster of this member alone.
func (c Config) OwnCluster() string { return c.initialClusterOf(c.Name) }

// initialClusterOf is the cluster of one: this member under its advertised peer URLs.
func (c Config) initialClusterOf(name string) string {
	if name == "" {
		name = DefaultName
	}
	pairs := make([]string, len(c.AdvertisePeerURLs))
	for i, text := range urllist.Texts(c.AdvertisePeerURLs) {
		pairs[i] = name + "=" + text
	}
	return strings.Join(pairs, ",")
}
