package web

import (
	"net/http"

	"holdfast/server"
)

// peerRoute is a path that members and tools ask a member for on its peer URLs. A path that ends in a slash stands for all below it.
type peerRoute struct {
	path  string
	serve func(*Endpoints, http.ResponseWriter, *http.Request)
}

// peerRoutes is everything on the peer URLs but raft's own paths.
var peerRoutes = []peerRoute{
	{"/version", (*Endpoints).version},
	{"/members", (*Endpoints).members},
	{promotePath, (*Endpoints).promote},
	{server.PathLeases, (*Endpoints).peerLeaseRenew},
	{server.PathLeasesInternal, (*Endpoints).peerLeaseTimeToLive},
	{"/downgrade/enabled", (*Endpoints).downgradeEnabled},
	{server.PathHashKV, (*Endpoints).peerHashKV},
}

// Peers serves what other members, and tools, ask a member as one of its cluster.
func (e *Endpoints) Peers() http.Handler {
	mux := http.NewServeMux()
	raft := e.member.RaftHandler()
	mux.Handle("/raft", raft)
	mux.Handle("/raft/", raft)
	for _, route := range peerRoutes {
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) { route.serve(e, w, r) })
	}
	return mux
}
