// Package kube runs a real kube-apiserver on Holdfast and, in the same run, on etcd, and compares what its clients saw.
//
// A seeded script says for each of many objects of three kinds what is written and in which order. It is carried out
// by many clients at once against both sides, while objects are listed in pages, watched by raw watches and by
// client-go's informers, the store is compacted, and the store is killed with SIGKILL and started again. Afterwards
// every object must have the same final state on both sides and every watcher must have seen, object by object, the
// sequence of events the script implies: nothing missing, nothing twice.
//
//	script.go     what happens to each object, drawn from a seed, and the events that must follow from it
//	objects.go    the three kinds and the content of an object in each of its states
//	drive.go      carries a script out and stays exact across a store that dies under a request
//	disturb.go    compacts and kills the store at fixed points of the script; lists in pages all the while
//	observe.go    raw watches that resume at the last revision they saw, and informers
//	judge.go      compares what was observed with the script, and the sides with one another
//	expire.go     the answers to a watch and a continued list whose revision is gone
//	side.go       one store, one kube-apiserver and everything that looks at them
//	process.go    starts, kills and stops programs
//	build.go      finds the programs, and has those that are missing built
//	apiserver/    builds kube-apiserver once per checkout
//
// The store of the kind "secrets" is read without kube-apiserver's watch cache, so that its watches and lists reach
// the store itself; the other two are read as usual.
package kube
