// Package clientv3 holds what etcd's Go client must be able to do against a server, written so that it compiles with
// every minor version of the client that is in use.
//
// Its tests run against the server named in HOLDFAST_ENDPOINT and are started by the package above, once for each
// version:
//
//	go.mod            client 3.7
//	client-3.6.mod    client 3.6, chosen with -modfile
//	client-3.5.mod    client 3.5
//
// Every test keeps to keys of its own. Those that concern the whole server (compaction, users) stand last.
package clientv3
