// Package mixed runs clusters whose members are partly etcd and partly Holdfast, real processes on loopback, and checks
// that nobody can tell them apart.
//
// The operations are those of test/peer: each goes to a single etcd, the reference, and to one member of the cluster, by
// turns, and everything that comes back is compared. Between operations the cluster is disturbed in ways that must not show
// (disturb.go): leadership moves from kind to kind, a member stops and catches up, moves to another address, or gives its
// place to one of the other kind. After each disturbance and at the end the members are compared with one another (agree.go):
// hash of all keys, leases, members, alarms, versions, and a watch on everything on each member. Leaders of both kinds compare
// hashes by themselves all the time, as --corrupt-check-time and CompactHashCheck have it; what they log about it is read at
// the end.
//
//	Shape   kinds of members + seed + plan of disturbances -> peer.Run
//	Errors  the first difference ends a run; it is reported with the operations before it, the logs and the command that repeats it
//	Source  etcd 3.7 peer protocol and API; the servers themselves
package mixed
