package membership

import (
	"crypto/sha1"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"holdfast/kv"
)

// MemberID derives a member's id from its peer URLs and the cluster's token as etcd does: the first eight bytes, big
// endian, of a SHA-1 over the sorted URLs and the token. A member that is added to a running cluster has an empty token
// and adds the time in seconds, so that an address can come back with a new id; a founding member has addedAt 0.
func MemberID(peerURLs []string, token string, addedAt int64) kv.MemberID {
	urls := slices.Sorted(slices.Values(peerURLs))
	text := strings.Join(urls, "") + token
	if addedAt != 0 {
		text += strconv.FormatInt(addedAt, 10)
	}
	return kv.MemberID(firstEight([]byte(text)))
}

// ClusterID derives the cluster's id from those of its founding members.
func ClusterID(members []kv.MemberID) uint64 {
	ids := slices.Clone(members)
	slices.Sort(ids)
	var text []byte
	for _, id := range ids {
		text = binary.BigEndian.AppendUint64(text, uint64(id))
	}
	return firstEight(text)
}

// firstEight is a short name for data, not a protection of it.
func firstEight(data []byte) uint64 {
	sum := sha1.Sum(data)
	return binary.BigEndian.Uint64(sum[:8])
}
