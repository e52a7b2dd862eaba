// Package discovery finds the members of a cluster that begins, where the settings do not name them: in DNS, or in a list that
// another cluster keeps.
//
// Both end in the form of --initial-cluster, name=url,name=url, on every founder with the same URLs: from them follow
// the ids of members and cluster.
//
//	Shape   DNS       _etcd-server-ssl._tcp.DOMAIN, _etcd-server._tcp.DOMAIN; a name adds "-NAME" to the first part
//	        Service   /_etcd/registry/TOKEN/_config/size       how many members, in decimal
//	                  /_etcd/registry/TOKEN/members/ID         one member: name=url[,name=url]; ID in hexadecimal
//	        who counts is decided by the order in which the members' keys were created
//	Errors  ErrSizeNotFound, ErrBadSize, ErrFull, ErrInvalidURL
//	Source  etcd 3.7: client/pkg/srv, server/etcdserver/api/v3discovery
package discovery
