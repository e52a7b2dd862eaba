package main

import (
	"context"
	"log/slog"
	"net/url"

	"holdfast/api"
	"holdfast/server"
)

// checkAdvertised looks, once the member is ready, whether the addresses that clients are told lead to it. Clients that are told
// wrong ones fail long after they have connected to a right one.
func checkAdvertised(ctx context.Context, member *server.Server, urls []url.URL, log *slog.Logger) {
	select {
	case <-member.Ready():
	case <-ctx.Done():
		return
	}
	for _, u := range urls {
		if u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		if err := api.LeadsTo(ctx, u, member.ID()); err != nil && ctx.Err() == nil {
			log.Warn("from this machine, an address that clients are told does not lead to this member: correct the flag, unless others reach it by another way",
				"flag", "advertise-client-urls", "url", u.String(), "error", err)
		}
	}
}
