// Package utl holds our etcdutl against etcd's, and takes data from etcd to Holdfast and back.
package utl
