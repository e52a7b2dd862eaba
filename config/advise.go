package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
)

// advise notes what works and is rarely meant.
func (p *parser) advise() {
	c := &p.c
	if c.Name == DefaultName {
		p.notes.warn("it isn't recommended to use default name, please set a value for --name. "+
			"Note that etcd might run into issue when multiple members have the same default name", slog.String("name", c.Name))
	}
	if c.MaxRequestBytes > RecommendedRequestBytes {
		p.notes.warn("exceeded recommended request limit",
			slog.Uint64("max-request-bytes", uint64(c.MaxRequestBytes)),
			slog.String("max-request-size", humanBytes(uint64(c.MaxRequestBytes))),
			slog.Int("recommended-request-bytes", RecommendedRequestBytes),
			slog.String("recommended-request-size", humanBytes(RecommendedRequestBytes)))
	}
	_, revisions, _ := c.Compaction() // checked by validate
	if _, err := strconv.ParseInt(c.AutoCompactionRetention, 10, 64); err != nil && revisions > 0 {
		p.notes.warn("--auto-compaction-retention is a duration, but --auto-compaction-mode=revision counts revisions",
			slog.Int64("revisions", revisions))
	}
	p.adviseQuota()
	p.adviseAddresses()
}

// adviseAddresses warns of advertised addresses that nobody elsewhere can use.
func (p *parser) adviseAddresses() {
	c := &p.c
	for _, told := range []struct {
		flag string
		urls []url.URL
	}{{"initial-advertise-peer-urls", c.AdvertisePeerURLs}, {"advertise-client-urls", c.AdvertiseClientURLs}} {
		for _, u := range told.urls {
			switch ip := net.ParseIP(u.Hostname()); {
			case ip != nil && ip.IsUnspecified():
				p.notes.warn("an advertised address stands for every address of this machine, and leads nowhere from another one",
					slog.String("flag", told.flag), slog.String("url", u.String()))
			case isLoopback(u) && c.hasMembersElsewhere():
				p.notes.warn("an advertised address leads to this machine only, but there are members on others",
					slog.String("flag", told.flag), slog.String("url", u.String()))
			}
		}
	}
}

func isLoopback(u url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// hasMembersElsewhere tells whether --initial-cluster names another machine.
func (c *Config) hasMembersElsewhere() bool {
	members, err := c.InitialMembers()
	if err != nil {
		return false // found elsewhere
	}
	for name, urls := range members {
		if name != c.Name && slices.ContainsFunc(urls, func(u url.URL) bool { return !isUnix(u) && !isLoopback(u) }) {
			return true
		}
	}
	return false
}

func (p *parser) adviseQuota() {
	quota, ok := p.c.Quota()
	switch {
	case !ok:
		p.notes.info("disabled backend quota", slog.Int64("quota-size-bytes", quota))
	case p.c.QuotaBytes == 0:
		p.notes.info("enabled backend quota with default value",
			slog.Int64("quota-size-bytes", quota), slog.String("quota-size", humanBytes(uint64(quota))))
	case quota > DefaultQuotaBytes:
		p.notes.warn("quota exceeds the maximum value",
			slog.Int64("quota-size-bytes", quota), slog.String("quota-size", humanBytes(uint64(quota))),
			slog.Int64("quota-maximum-size-bytes", DefaultQuotaBytes), slog.String("quota-maximum-size", humanBytes(DefaultQuotaBytes)))
	default:
		p.notes.info("enabled backend quota",
			slog.Int64("quota-size-bytes", quota), slog.String("quota-size", humanBytes(uint64(quota))))
	}
}

// humanBytes is a size in decimal units, with one digit after the point below ten, as etcd's log has it.
func humanBytes(n uint64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v /= 1000
		i++
	}
	if v < 10 && i > 0 {
		return fmt.Sprintf("%.1f %s", v, units[i])
	}
	return fmt.Sprintf("%.0f %s", v, units[i])
}
