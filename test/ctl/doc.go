// Package ctl holds our etcdctl against etcd's, command by command: what it prints, how it ends, and what it leaves in the cluster.
package ctl
