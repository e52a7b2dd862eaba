// Package lockpb holds the messages of etcd's services v3lockpb.Lock and v3electionpb.Election, under names of our own: a
// program that holds etcd's server and ours would end at its start if both registered the same. The names of messages are on
// no wire.
package lockpb

// The names of the services, which are on the wire.
const (
	LockService     = "v3lockpb.Lock"
	ElectionService = "v3electionpb.Election"
)

//go:generate go run -C ../../test/tools ./messages
