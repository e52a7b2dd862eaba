// Package clients runs real clients against a server binary: etcd's Go client in three minor versions, a JavaScript
// client, and etcd's own etcdctl and etcdutl.
//
// The binary is the one that HOLDFAST_BINARY names, or that of the sources, which is built. Nothing here knows which it is, so that a test can
// first be shown to pass with etcd itself:
//
//	HOLDFAST_BINARY=$PWD/.cache/etcd-3.7.3/etcd go test ./test/clients
//
// The commands of etcdctl run against etcd in the same test, and the outputs must be equal.
//
//	clientv3/   the program for etcd's Go client; a module of its own with one requirement file for each version
//	node/       the program for the JavaScript client, its packages pinned by package-lock.json
package clients
