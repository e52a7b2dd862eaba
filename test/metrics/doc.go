// Package metrics holds what Holdfast shows against what etcd shows, and against Debian's Prometheus.
//
// The same small load goes to members of both kinds; then every name, type, label and bucket of etcd's must be among ours, promtool must
// complain of nothing of ours that it does not complain of in etcd's, and the queries of etcd's alert rules and dashboard must
// return data.
package metrics
