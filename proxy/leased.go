package proxy

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// leasedKeysMax bounds the keys for which leases are taken. etcd's client keeps their values without a bound; what lies beyond is
// read from the cluster each time, which is always right.
const leasedKeysMax = 10_000

// leasedKV takes leases on a bounded number of keys: the first that are read.
type leasedKV struct {
	clientv3.KV
	direct clientv3.KV

	mu       sync.Mutex // guards the field below
	admitted map[string]struct{}
}

// Do implements clientv3.KV.
func (l *leasedKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	if op.IsGet() && !l.admit(string(op.KeyBytes())) {
		return l.direct.Do(ctx, op)
	}
	return l.KV.Do(ctx, op)
}

func (l *leasedKV) admit(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.admitted[key]; known {
		return true
	}
	if len(l.admitted) >= leasedKeysMax {
		return false
	}
	l.admitted[key] = struct{}{}
	return true
}
