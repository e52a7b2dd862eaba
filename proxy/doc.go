// Package proxy stands between clients and a cluster of etcd or Holdfast, speaks etcd's protocol to both, and saves the cluster
// work: ranges that may be old come from a cache, watches of many clients share one at the cluster, leases of all clients are
// renewed over one stream. Everything else goes through.
//
// A client's token goes with each of its requests, and the cluster decides what it may do. The proxy has no rights of its own,
// but for its registration and for leases on keys (--resolver-prefix, --experimental-leasing-prefix), which ask as nobody.
//
//	Shape   client --- services --- cache, hub of feeds, renewals --- clientv3 --- cluster
//	Units   sizes in bytes; the age of cached ranges is wall-clock time
//	Errors  those of the cluster, with their codes; New fails for settings and files that are wrong
//	Source  etcd 3.7, "etcd grpc-proxy"
package proxy
