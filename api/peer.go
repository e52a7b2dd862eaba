package api

import (
	"net/http"

	"holdfast/server"
)

// peerRoute is a path that members and tools ask a member for on its peer URLs. A path that ends in a slash stands for all below it.
type peerRoute struct {
	path  string
	serve func(*API, http.ResponseWriter, *http.Request)
}

// peerRoutes is everything on the peer URLs but raft's own paths.
var peerRoutes = []peerRoute{
	{"/version", (*API).version},
	{"/members", (*API).members},
	{promotePath, (*API).promote},
	{server.PathLeases, (*API).peerLeaseRenew},
	{server.PathLeasesInternal, (*API).peerLeaseTimeToLive},
	{"/downgrade/enabled", (*API).downgradeEnabled},
	{server.PathHashKV, (*API).peerHashKV},
}

// peerHandler serves what other members, and tools, ask a member as one of its cluster.
func (a *API) peerHandler() http.Handler {
	mux := http.NewServeMux()
	raft := a.member.RaftHandler()
	mux.Handle("/raft", raft)
	mux.Handle("/raft/", raft)
	for _, route := range peerRoutes {
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) { route.serve(a, w, r) })
	}
	return mux
}
