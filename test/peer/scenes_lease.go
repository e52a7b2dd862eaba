package peer

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// slots is how many leases with ids of the servers' choice an episode keeps track of.
const slots = 4

// grantChosen grants a lease whose id the servers draw and remembers it under slot.
func (g *gen) grantChosen(slot int64) *call {
	c := g.meet("1.10 grant with an id the server chooses", saw(func(r *pb.LeaseGrantResponse) bool { return r.ID > 0 }),
		leaseGrant, &pb.LeaseGrantRequest{TTL: longTTL})
	c.chose = func(w *world, want, got proto.Message) {
		a, b := want.(*pb.LeaseGrantResponse), got.(*pb.LeaseGrantResponse)
		w.leases[0][slot], w.leases[1][slot] = a.ID, b.ID
		if b.ID > 0 { // any other is not a choice and shows as a difference
			w.chosen[a.ID] = b.ID
		}
	}
	return c
}

func (g *gen) ttl(rule string, met func(*pb.LeaseTimeToLiveResponse) bool, id int64) op {
	return g.meet(rule, saw(met), leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
}

var leaseScenes = []scene{
	func(g *gen) []op {
		id, minTTL := leaseIDs[2], g.settings.minTTL
		revoke := g.call(leaseRevoke, &pb.LeaseRevokeRequest{ID: id})
		granted := func(ttl int64) func(*world, answer) bool {
			return saw(func(r *pb.LeaseGrantResponse) bool { return r.ID == id && r.TTL == ttl })
		}
		return []op{
			revoke,
			g.meet("1.10 grant with an id", granted(longTTL), leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: longTTL}),
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: longTTL}), // exists
			g.ttl("1.10 time to live", func(r *pb.LeaseTimeToLiveResponse) bool { return r.GrantedTTL == longTTL }, id),
			g.meet("1.10 keep alive", saw(func(r *pb.LeaseKeepAliveResponse) bool { return r.TTL == longTTL }), leaseKeepAlive,
				&pb.LeaseKeepAliveRequest{ID: id}),
			revoke,
			g.meet("1.10 a short TTL is raised", granted(minTTL), leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: minTTL - 1}),
			revoke,
			g.meet("1.10 a TTL below 1 is raised", granted(minTTL), leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: -g.rng.Int64N(2)}),
			revoke,
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: 9_000_000_001}),
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: 9_000_000_000}),
			g.call(leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: id}),
			revoke,
			g.call(leaseRevoke, &pb.LeaseRevokeRequest{ID: 999}),
			g.call(leaseRevoke, &pb.LeaseRevokeRequest{}),
		}
	},
	func(g *gen) []op {
		id := leaseIDs[3]
		ops := append(g.fill("0"), g.call(leaseRevoke, &pb.LeaseRevokeRequest{ID: id}),
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: longTTL}))
		for i := range 3 {
			ops = append(ops, g.call(put, &pb.PutRequest{Key: sceneKey(2 - i), Lease: id}))
		}
		moved := func(by int64) func(w *world, a answer) bool {
			return func(w *world, a answer) bool {
				r, ok := a.only().(*pb.LeaseRevokeResponse)
				return ok && r.Header.Revision == w.previous+by
			}
		}
		return append(ops,
			g.meet("1.10 revoke takes the keys in one revision", moved(1), leaseRevoke, &pb.LeaseRevokeRequest{ID: id}),
			g.call(kvRange, sceneRange()), meet{},
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: longTTL}),
			g.meet("1.10 revoke without keys makes no revision", moved(0), leaseRevoke, &pb.LeaseRevokeRequest{ID: id}),
			g.meet("1.10 keep alive of an unknown lease has TTL 0",
				saw(func(r *pb.LeaseKeepAliveResponse) bool { return r.TTL == 0 }), leaseKeepAlive, &pb.LeaseKeepAliveRequest{ID: id}),
			g.ttl("1.10 time to live of an unknown lease is -1",
				func(r *pb.LeaseTimeToLiveResponse) bool { return r.TTL == -1 && r.GrantedTTL == 0 }, id))
	},
	func(g *gen) []op {
		slot := g.rng.Int64N(slots)
		return []op{
			g.grantChosen(slot),
			g.call(leaseKeepAlive, &pb.LeaseKeepAliveRequest{ID: leaseSlot(slot)}, &pb.LeaseKeepAliveRequest{ID: 999},
				&pb.LeaseKeepAliveRequest{ID: leaseSlot(slot)}),
			g.call(leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: leaseSlot(slot), Keys: true}),
			g.meet("1.10 list", saw(func(r *pb.LeaseLeasesResponse) bool { return len(r.Leases) > 0 }), leaseLeases,
				&pb.LeaseLeasesRequest{}),
			g.call(leaseRevoke, &pb.LeaseRevokeRequest{ID: leaseSlot(slot)}),
			g.call(leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: leaseSlot(slot)}),
		}
	},
}
