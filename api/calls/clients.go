package calls

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// ClientVersionsMax bounds how many versions of clients are told apart; what a client says of itself is its own choice.
const ClientVersionsMax = 32

// clientVersions counts calls by what clients say of themselves.
type clientVersions struct {
	mu sync.Mutex // taken to make a version known
	by atomic.Pointer[map[clientVersion]*atomic.Uint64]
}

// versionUnknown stands for clients that say nothing. etcd's word.
const versionUnknown = "unknown"

type clientVersion struct{ kind, version string }

// count counts a call, or says that what its client says is no version.
func (c *clientVersions) count(ctx context.Context, kind string) error {
	version := versionUnknown
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey); len(v) > 0 {
		version = v[0]
	}
	n, known := (*c.by.Load())[clientVersion{kind, version}]
	if !known {
		if !utf8.ValidString(version) {
			return rpctypes.ErrGRPCInvalidClientAPIVersion
		}
		n = c.learn(clientVersion{kind, version})
	}
	n.Add(1)
	return nil
}

func (c *clientVersions) learn(v clientVersion) *atomic.Uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := *c.by.Load()
	if len(known) >= ClientVersionsMax && v.version != versionUnknown {
		v.version = "other"
	}
	v.version = strings.Clone(v.version)
	if n := known[v]; n != nil {
		return n
	}
	more := map[clientVersion]*atomic.Uint64{v: new(atomic.Uint64)}
	for k, n := range known {
		more[k] = n
	}
	c.by.Store(&more)
	return more[v]
}
